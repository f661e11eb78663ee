"""Exact answers by enumeration, against a slow twin, known laws and a model's own."""

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from biglearn_lite.data import Law, load, to_text
from biglearn_lite.questions import (
    QUESTIONS,
    LeftToRight,
    as_task,
    ask,
    entropy,
    exact_kl,
    exact_log_prob,
)
from biglearn_lite.tasks import Task, TaskSampler, all_tasks

V = 12


@pytest.fixture(scope="module")
def law():
    return load("sums")


class Uniform:
    """All symbols alike: the KL of a task is |T| log V minus its entropy."""

    length = 9

    def token_log_prob(self, x, source, target):
        return target.double() * -math.log(V)


class Exact:
    """The law itself, one row of the question at a time, by comparing with all rows."""

    def __init__(self, law, alter=0.0):
        self.law, self.alter = law, alter
        self.rows = 0

    def token_log_prob(self, x, source, target):
        self.rows += len(x)
        answer = torch.zeros(x.shape, dtype=torch.float64)
        tokens, q = self.law
        for row in range(len(x)):
            same = (tokens == x[row]) | ~source[row]
            given = q[same.all(1)]
            for t in target[row].nonzero().flatten().tolist():
                both = q[(same.all(1)) & (tokens[:, t] == x[row, t])]
                p = (1 - self.alter) * both.sum() / given.sum() + self.alter / V
                answer[row, t] = p.log()
        return answer


class Product:
    """p(x_t) without any source: the factorised answer to everything."""

    def __init__(self, law):
        self.tables = [
            torch.zeros(V, dtype=torch.float64).index_add(0, column, law.probabilities)
            for column in law.tokens.T
        ]

    def token_log_prob(self, x, source, target):
        columns = [table[c] for table, c in zip(self.tables, x.T, strict=True)]
        said = torch.stack(columns, 1).clamp_min(1e-30).log()
        return torch.where(target, said, 0.0)


def small_law(seed, n=40, length=4, symbols=3):
    """Random rows, all different, with random probabilities."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randperm(symbols**length, generator=generator)[:n]
    tokens = codes[:, None] // symbols ** torch.arange(length) % symbols
    q = torch.rand(n, generator=generator, dtype=torch.float64) + 0.05
    return Law(tokens, q / q.sum())


def slow_kl(model, law, task, reading):
    """Every row of the law, one target after the other, nothing shared."""
    total = 0.0
    for x, q in zip(law.tokens, law.probabilities, strict=True):
        same = law.tokens == x
        s, t = task.source[0], task.target[0]
        given = law.probabilities[(same | ~s).all(1)].sum()
        both = law.probabilities[(same | ~(s | t)).all(1)].sum()
        said, source = 0.0, s.clone()
        for place in t.nonzero().flatten().tolist():
            target = torch.zeros_like(t)
            target[place] = True
            said += model.token_log_prob(x[None], source[None], target[None])[0, place]
            if reading == "autoregressive":
                source = source | target
        total += q * (both.log() - given.log() - said)
    return float(total)


# ------------------------------------------------------------------ the law's answers


def test_exact_log_prob_is_the_law_of_the_table(law):
    joint = exact_log_prob(law, "T" * 9)
    assert torch.allclose(joint, law.probabilities.log(), atol=1e-12, rtol=0)
    assert exact_log_prob(law, "SSSSSSTTT").abs().max() < 1e-12
    assert exact_log_prob(law, "..T..T...").abs().max() < 1e-12


@settings(deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_the_chain_rule(seed, data):
    law = small_law(seed)
    roles = data.draw(st.lists(st.sampled_from("123."), min_size=4, max_size=4))
    if not {"2", "3"} <= set(roles):
        return
    word = "".join(roles)

    def log_q(source, target):
        return exact_log_prob(
            law,
            "".join("S" if r in source else "T" if r in target else "." for r in word),
        )

    both = log_q("1", "23")
    assert torch.allclose(both, log_q("1", "2") + log_q("12", "3"), atol=1e-12)


def test_conditionals_sum_to_one(law):
    for letters in ("TTSTTSSSS", "S..TT....", "TT....TTT"):
        task = as_task(letters)
        answers = {}
        for text, value in zip(
            to_text(law.tokens), exact_log_prob(law, task).tolist(), strict=True
        ):
            key = tuple(
                "".join(c for c, use in zip(text, mask[0].tolist(), strict=True) if use)
                for mask in (task.source, task.target)
            )
            answers[key] = value
        totals = {}
        for (given_part, _), value in answers.items():
            totals[given_part] = totals.get(given_part, 0.0) + math.exp(value)
        assert max(abs(total - 1) for total in totals.values()) < 1e-12


def test_entropy_against_scipy(law):
    assert entropy(law, "T" * 9) == pytest.approx(scipy_entropy(law.probabilities))
    table = law.probabilities.view(100, 100)
    first = scipy_entropy(table.sum(1))
    assert entropy(law, "TT.......") == pytest.approx(first)
    rest = scipy_entropy(law.probabilities) - first
    assert entropy(law, "SS.TT....") == pytest.approx(rest)
    assert entropy(law, ("TT.......", "SS.TT....")) == pytest.approx((first + rest) / 2)


def test_sums_of_numbers_are_not_numbers_of_sums(law):
    """The sum's law is the convolution-like sum of the table's diagonals."""
    table = law.probabilities.view(100, 100).flip(1)
    shares = [table.diagonal(99 - s).sum().item() for s in range(199)]
    assert entropy(law, "......TTT") == pytest.approx(scipy_entropy(shares))


# ------------------------------------------------------------------ a model's distance


@pytest.mark.parametrize("reading", ["autoregressive", "factorised"])
@pytest.mark.parametrize("seed", range(4))
def test_against_the_slow_twin(seed, reading):
    law = small_law(seed)
    model = Exact(small_law(seed + 100, n=81), alter=0.1)
    tasks = all_tasks(4)
    generator = torch.Generator().manual_seed(seed)
    for row in torch.randperm(len(tasks), generator=generator)[:8].tolist():
        slow = slow_kl(model, law, tasks[row], reading)
        assert exact_kl(model, law, tasks[row], reading) == pytest.approx(slow)
        assert slow > 0


def test_the_law_itself_is_at_distance_zero():
    law = small_law(0, n=60)
    model = Exact(law)
    assert exact_kl(model, law, all_tasks(4)) == pytest.approx(0, abs=1e-9)
    singles = [row for row in all_tasks(4) if row.target.sum() == 1]
    assert max(abs(exact_kl(model, law, row, "factorised")) for row in singles) < 1e-9


def test_the_law_of_sums_is_at_distance_zero(law):
    letters = [letters for letters in QUESTIONS["marginals"] if letters != "TT....TTT"]
    result = ask(Exact(law), law, {"m": letters, "b": "..S...TTT"})
    assert result == pytest.approx({"m": 0.0, "b": 0.0}, abs=1e-9)


@pytest.mark.parametrize("reading", ["autoregressive", "factorised"])
def test_a_uniform_model(law, reading):
    result = ask(Uniform(), law, reading=reading)
    assert list(result) == list(QUESTIONS)
    for name, rows in QUESTIONS.items():
        targets = sum(row.count("T") for row in rows) / len(rows)
        expected = targets * math.log(V) - entropy(law, rows)
        assert result[name] == pytest.approx(expected)
    joint = exact_kl(Uniform(), law, Task.joint(1, 9), reading)
    assert result["free sampling"] == pytest.approx(joint)


def test_independent_answers_lose_what_targets_know_of_each_other(law):
    """The product of exact marginals is off by the total correlation."""
    singles = [entropy(law, "." * t + "T" + "." * (8 - t)) for t in range(9)]
    expected = sum(singles) - entropy(law, "T" * 9)
    for reading in ("autoregressive", "factorised"):
        assert exact_kl(Product(law), law, "T" * 9, reading) == pytest.approx(expected)


def test_what_cannot_happen_is_infinitely_far():
    law = small_law(3)
    model = Exact(Law(law.tokens[:5], law.probabilities[:5]))
    assert exact_kl(model, law, "TTTT", "factorised") == math.inf


def test_several_tasks_are_the_mean():
    law = small_law(5)
    model = Exact(small_law(6, n=81), alter=0.2)
    rows = ["TTSS", "T..S", ".TTT"]
    each = [exact_kl(model, law, row) for row in rows]
    assert exact_kl(model, law, rows) == pytest.approx(sum(each) / 3)
    twice = ask(model, law, {"a": rows, "b": as_task(rows[:1])})
    assert twice == pytest.approx({"a": sum(each) / 3, "b": each[0]})


def test_contexts_are_asked_once():
    law = small_law(7)
    model = Exact(small_law(8, n=81), alter=0.2)
    exact_kl(model, law, "TTTT")
    alone = model.rows
    assert alone == sum(len(law.tokens[:, :n].unique(dim=0)) for n in (1, 2, 3, 4))
    ask(model, law, {"joint": "TTTT", "last": "SSST", "again": ("TTTT", "SSTT")})
    assert model.rows == 2 * alone


def test_what_is_not_source_or_target_does_not_matter(law):
    class Nosy(Uniform):
        def token_log_prob(self, x, source, target):
            assert ((x >= 0) & (x < V)).all()
            assert not (source & target).any()
            assert (target.sum(1) == 1).all()
            return super().token_log_prob(x, source, target) + torch.where(
                target, 0.1 * (x * source).sum(1, keepdim=True) / 99, 0.0
            )

    tokens = law.tokens.clone()
    tokens[:, 3:5] = torch.randint(0, V, (10_000, 2))
    other = Law(tokens, law.probabilities)
    for task in ("TT.......", "S.....TTT"):
        assert exact_kl(Nosy(), law, task) == pytest.approx(
            exact_kl(Nosy(), other, task), abs=1e-12
        )


def test_fewer_rows_are_an_estimate(law):
    class Bumpy(Uniform):
        def token_log_prob(self, x, source, target):
            last = (x * source)[:, 8:].double()
            return super().token_log_prob(x, source, target) - target * last

    questions = {name: QUESTIONS[name] for name in ("backwards", "marginals")}
    exact = ask(Bumpy(), law, questions)
    assert ask(Bumpy(), law, questions, rows=10_000) == exact
    rough = ask(Bumpy(), law, questions, rows=500)
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.005)


# ------------------------------------------------------------------ models of torch


class Net(torch.nn.Module):
    """A softmax over symbols from what is given, with dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.drop = torch.nn.Dropout(0.5)
        self.map = torch.nn.Linear(9 * (V + 1), 9 * V)

    def token_log_prob(self, x, source, target):
        shown = torch.where(source, x, V)
        given_part = torch.nn.functional.one_hot(shown, V + 1).float().flatten(1)
        laws = self.map(self.drop(given_part)).view(-1, 9, V).log_softmax(-1)
        said = laws.gather(-1, x[..., None]).squeeze(-1)
        return torch.where(target, said, 0.0)


def test_a_network_is_asked_without_dropout_and_without_a_graph(law):
    net = Net()
    net.train()
    first = exact_kl(net, law, "TT......S")
    assert net.training
    assert exact_kl(net, law, "TT......S") == first
    net.eval()
    assert exact_kl(net, law, "TT......S") == first
    assert not net.training


def test_a_network_against_all_rows(law):
    """The KL from every one of the 10,000 rows, through the network itself."""
    net = Net().eval()
    task = as_task("TTSTTSSSS").expand(10_000)
    said, source = torch.zeros(10_000, dtype=torch.float64), task.source.clone()
    for place in (0, 1, 3, 4):
        target = torch.zeros_like(source)
        target[:, place] = True
        with torch.no_grad():
            said += net.token_log_prob(law.tokens, source, target)[:, place]
        source |= target
    gap = law.probabilities @ (exact_log_prob(law, task[:1]) - said)
    assert exact_kl(net, law, task[:1]) == pytest.approx(float(gap), rel=1e-5)


def test_the_transformer_agrees_with_its_own_log_prob():
    likelihood = pytest.importorskip("biglearn_lite.likelihood")
    torch.manual_seed(0)
    sizes = likelihood.AnyConditionalSizes(length=4, symbols=3, width=16, depth=1)
    model = likelihood.AnyConditionalTransformer(sizes).eval()
    law = small_law(0)
    for letters in ("TTTT", "S.TT", "TSTS"):
        task = as_task(letters).expand(len(law.tokens))
        for reading in ("autoregressive", "factorised"):
            with torch.no_grad():
                said = model.log_prob(law.tokens, task, reading=reading).double()
            gap = law.probabilities @ (exact_log_prob(law, letters) - said)
            found = exact_kl(model, law, letters, reading)
            assert found == pytest.approx(float(gap), rel=1e-4, abs=1e-6)


def test_a_causal_model_answers_what_continues_a_sequence():
    law = small_law(1)
    exact = Exact(law)

    class Causal:
        def token_log_prob(self, x):
            before = torch.ones(4, 4, dtype=torch.bool).tril(-1)
            columns = [
                exact.token_log_prob(
                    x, before[t].expand(x.shape), torch.eye(4)[t].expand(x.shape) > 0
                )[:, t]
                for t in range(4)
            ]
            return torch.stack(columns, 1)

    model = LeftToRight(Causal())
    for letters in ("TTTT", "TT..", "STT.", "SSST"):
        assert exact_kl(model, law, letters) == pytest.approx(0, abs=1e-9)
    for letters in ("TSTT", ".T..", "S.T.", "TTTS", "T..T"):
        assert math.isnan(exact_kl(model, law, letters))
    assert math.isnan(exact_kl(model, law, "TTTT", "factorised"))
    result = ask(model, law, {"good": "TTTT", "bad": ("TTTT", "TSTT")})
    assert result["good"] == pytest.approx(0, abs=1e-9)
    assert math.isnan(result["bad"])


# ------------------------------------------------------------------ the questions


def test_the_questions_cover_what_they_say():
    for rows in QUESTIONS.values():
        task = as_task(rows)
        assert task.length == 9
        assert len(set(rows)) == len(rows)
    for name in ("forwards", "backwards", "missing operand", "one digit"):
        task = as_task(QUESTIONS[name])
        assert (task.union).all()  # nothing absent
        assert task.source[:, [2, 5]].all()  # the signs are given
    asked = {
        "forwards": [{6, 7, 8}],
        "backwards": [{0, 1, 3, 4}],
        "missing operand": [{0, 1}, {3, 4}],
    }
    for name, places in asked.items():
        target = as_task(QUESTIONS[name]).target
        assert [set(row.nonzero().flatten().tolist()) for row in target] == places
    assert as_task(QUESTIONS["free sampling"]).kind == ["joint"]
    assert set(as_task(QUESTIONS["marginals"]).kind) == {"marginal"}
    digits = as_task(QUESTIONS["one digit"]).target
    assert (digits.sum(0) == torch.tensor([1, 1, 0, 1, 1, 0, 1, 1, 1])).all()


def test_any_was_drawn_from_all_tasks():
    every = all_tasks(9)
    drawn = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:16]
    assert as_task(QUESTIONS["any"]) == every[drawn]


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_letters_are_the_tasks_repr(seed):
    task = TaskSampler(6, joint=0.2, marginal=0.3, target_ratio=(1, 1)).sample(
        4, torch.Generator().manual_seed(seed)
    )
    rows = repr(task).removeprefix("Task(").removesuffix(")").split(", ")
    assert as_task(rows) == task


def test_the_table_is_quick(law):
    start = time.process_time()
    ask(Uniform(), law)
    assert time.process_time() - start < 5


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize("rows", ["STX", ["ST", "STT"], [], "st", ""])
def test_letters_that_are_no_task(rows):
    with pytest.raises(ValueError, match="S, T and dots"):
        as_task(rows)


def test_mistakes(law):
    with pytest.raises(ValueError, match="has no target"):
        as_task("SSS")
    with pytest.raises(ValueError, match="has 9 tokens, not 4"):
        exact_kl(Uniform(), law, "TTTT")
    with pytest.raises(ValueError, match="has 9 tokens, not 10"):
        entropy(law, Task.joint(1, 10))
    with pytest.raises(ValueError, match="a single task, not 2"):
        exact_log_prob(law, Task.joint(2, 9))
    with pytest.raises(ValueError, match="'autoregressive' or 'factorised', not 'ar'"):
        ask(Uniform(), law, reading="ar")
    for rows in (0, -1, 2.5):
        with pytest.raises(ValueError, match="rows must be an integer"):
            ask(Uniform(), law, rows=rows)
    long = Law(torch.randint(0, 256, (3, 64)), torch.full((3,), 1 / 3).double())
    with pytest.raises(ValueError, match="too many to enumerate"):
        entropy(long, "T" * 64)
