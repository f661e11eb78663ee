"""The loop: it stops and goes on anywhere, and does what its parts say."""

import itertools
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from biglearn_lite import tasks, training
from biglearn_lite._checkpoint import CHECKPOINT, Averaged
from biglearn_lite._domains import image_domain
from biglearn_lite._optimise import Optimisers, compiled
from biglearn_lite.gan import Adversarial, BigLearnGAN, GANSizes
from biglearn_lite.likelihood import (
    AnyConditionalSizes,
    AnyConditionalTransformer,
    matching_loss,
)
from biglearn_lite.tasks import TaskSampler
from biglearn_lite.training import Batches, Settings, TrainingError, fit, mean_targets

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH, SYMBOLS = 4, 3


def symbols():
    return torch.randint(SYMBOLS, (50, LENGTH), generator=seeded(1))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def noisy(x, generator):
    """A transform that draws: a tenth of the symbols is another one."""
    noise = torch.rand(x.shape, generator=generator)
    return torch.where(noise < 0.1, (x + 1) % SYMBOLS, x)


def tiny(seed=0, **sizes):
    kind = {"symbols": SYMBOLS} | sizes
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return AnyConditionalTransformer(
            AnyConditionalSizes(LENGTH, width=16, depth=1, heads=2, **kind)
        )


def run(
    folder=None, *, seed=5, minutes=None, loss=matching_loss, model=None, **changes
):
    settings = {"steps": 12, "batch": 8, "log": 2, "warmup": 3} | changes
    return fit(
        tiny() if model is None else model,
        Batches(symbols(), noisy),
        TaskSampler(LENGTH),
        Settings(**settings),
        seed=seed,
        folder=folder,
        minutes=minutes,
        loss=loss,
    )


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def always(monkeypatch):
    """A checkpoint at every entry of the history."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)


# ------------------------------------------------------------------ stop, go on


def test_slices_of_no_time_give_the_same_run(tmp_path):
    whole, history, done = run()
    assert done
    assert [entry["step"] for entry in history] == [2, 4, 6, 8, 10, 12]
    for turn in range(6):
        # a fresh model of other weights: everything must come from the checkpoint
        part, sliced, done = run(tmp_path, minutes=0, model=tiny(seed=turn))
        assert sliced == history[: turn + 1]
        assert done == (turn == 5)
    assert same(part, whole)
    again, read, done = run(tmp_path)  # a finished one is only read
    assert (read, done) == (history, True)
    assert same(again, whole)


def test_entries_do_not_depend_on_checkpoints(tmp_path, always):
    assert run(tmp_path)[1] == run()[1]
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


KILLER = """
import os, random, signal, sys, time, warnings
import torch
torch.set_num_threads(1)
from biglearn_lite import cli, evaluation, recipe, studies, training
training.CHECKPOINT_SECONDS = -1.0
path, folder = sys.argv[1:]
warnings.simplefilter("ignore")  # fork warns where a library has threads

def start(where):
    pid = os.fork()
    if pid:
        return pid
    sys.stdout = sys.stderr = open(os.devnull, "w")
    sys.argv = ["biglearn", "train", path, "--resume", "--output", where]
    try:
        cli.main()
    except SystemExit as stop:
        os._exit(stop.code or 0)
    os._exit(0)

began = time.monotonic()
assert os.waitpid(start(folder + "/whole"), 0)[1] == 0
took = time.monotonic() - began
chance, kills = random.Random(7), 0
while True:
    pid = start(folder + "/killed")
    if kills < 5:
        time.sleep(chance.uniform(0.1, 0.6) * took)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if not os.WIFSIGNALED(status):
        assert status == 0, status
        break
    kills += 1
print(kills)
"""


def test_killed_at_any_moment_and_resumed_is_the_same_run(tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'data.name = "sums"\nmodel = { width = 16, depth = 1, heads = 2 }\n'
        "training = { steps = 60, batch = 16, log = 1 }\n"
    )
    command = [sys.executable, "-c", KILLER, str(recipe), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2
    whole, killed = (tmp_path / each / "tiny" / "cpu" for each in ("whole", "killed"))
    for name in ("history.json", "weights.safetensors"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    left = [path for path in tmp_path.rglob("*") if "work" in path.name]
    left += [path for path in tmp_path.rglob("*.tmp") if path.parent.name == "cpu"]
    assert not left


def test_what_a_killed_write_left_is_removed(tmp_path):
    (tmp_path / "abc.tmp").write_bytes(b"half")
    run(tmp_path, minutes=0)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_loss_that_is_no_number_stops(tmp_path, always):
    calls = []

    def spoilt(model, x, task):
        calls.append(1)
        value = matching_loss(model, x, task)
        return value * math.nan if len(calls) == 7 else value

    with pytest.raises(TrainingError) as stopped:
        run(tmp_path, loss=spoilt)
    message = str(stopped.value)
    assert "is nan" in message
    assert "at step 7," in message
    for part in ("source", "target tokens", "% joint", str(tmp_path / CHECKPOINT)):
        assert part in message
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["step"] == 6
    assert all(value.isfinite().all() for value in state["model"].values())
    whole, history, _ = run()
    part, resumed, _ = run(tmp_path)
    assert resumed == history
    assert same(part, whole)


def test_statistics_of_the_step_that_failed():
    def spoilt(model, x, task):
        return matching_loss(model, x, task) / 0

    said = (
        "inf .* at step 1, with 0.00 source and 4.00 target tokens a row and "
        "100% joint.*no checkpoint"
    )
    with pytest.raises(TrainingError, match=said):
        fit(
            tiny(),
            Batches(symbols()),
            tasks.joint_only(LENGTH),
            Settings(steps=4, batch=8, log=4),
            seed=0,
            loss=spoilt,
        )


def test_a_huge_rate_stops():
    with pytest.raises(TrainingError, match="Lower the rate"):
        run(rate=1e30, warmup=0)


def damage(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "corrupt":
        path.write_bytes(b"\0" * len(data))
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":
        torch.save({"model": {}, "step": 3}, path)
    elif how == "a list":
        torch.save([1, 2], path)
    else:  # a pickle that would run code
        torch.save({"mark": Path("x")}, path)


@pytest.mark.parametrize(
    "how", ["truncated", "corrupt", "empty", "foreign", "a list", "code"]
)
def test_a_damaged_checkpoint(how, tmp_path):
    run(tmp_path, minutes=0)
    damage(tmp_path / CHECKPOINT, how)
    with pytest.raises(ValueError, match=r"cannot be used .* delete it") as refused:
        run(tmp_path)
    assert str(tmp_path / CHECKPOINT) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "wide"}, "size mismatch"),
        ({"seed": 6}, "other seed"),
        ({"rate": 1e-2}, "other settings"),
        ({"muon": 0.0}, "other settings"),
    ],
)
def test_a_checkpoint_of_another_run(changes, why, tmp_path):
    run(tmp_path, minutes=0)
    if "model" in changes:
        sizes = AnyConditionalSizes(LENGTH, SYMBOLS, width=24, depth=1, heads=2)
        changes = {"model": AnyConditionalTransformer(sizes)}
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(ValueError, match=f"cannot be used .*{why}"):
        run(tmp_path, **changes)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


# ------------------------------------------------------------------ the parts


def test_moving_average():
    model = nn.Linear(3, 2)
    average = Averaged(model, 0.9)
    kept = {name: value.detach().clone() for name, value in model.named_parameters()}
    for step in range(200):
        with torch.no_grad():
            for value in model.parameters():
                value.copy_(torch.randn(value.shape, generator=seeded(step)))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in model.named_parameters():
            kept[name] = decay * kept[name] + (1 - decay) * value.detach()
    for name, value in average.model.named_parameters():
        torch.testing.assert_close(value, kept[name])
        assert not value.requires_grad


def test_the_average_is_what_is_kept():
    model = tiny()
    assert same(run(model=model, average=0.0)[0], model)
    model = tiny()
    kept = run(model=model)[0]
    assert not same(kept, model)
    assert not kept.training


def test_rate():
    settings = Settings(steps=1, batch=1, warmup=10, final=0.1)
    steps = 1000
    shares = [settings.rate_at(step, steps) for step in range(steps + 1)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[4] == pytest.approx(0.5, rel=1e-3)
    assert max(shares) == pytest.approx(1.0, abs=1e-3)
    assert shares[500] == pytest.approx(0.55)
    assert shares[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(shares[10:]))


def test_the_loop_follows_the_rate(monkeypatch):
    seen = []
    step = Optimisers.step

    def spy(self, share):
        step(self, share)
        seen.append([part.param_groups[0]["lr"] for part in self.parts])

    monkeypatch.setattr(Optimisers, "step", spy)
    run(rate=0.01, muon=5.0)
    settings = Settings(steps=12, batch=8, warmup=3)
    wanted = [0.01 * settings.rate_at(i, 12) for i in range(12)]
    assert [adam for adam, _ in seen] == pytest.approx(wanted)
    assert [muon for _, muon in seen] == pytest.approx([5 * rate for rate in wanted])


def test_muon_is_for_the_matrices_of_the_blocks():
    model = tiny()
    names = {id(value): name for name, value in model.named_parameters()}
    adam, muon = Optimisers(model, 1e-3, 5.0, 0.01).parts
    held = [
        {names[id(value)] for value in part.param_groups[0]["params"]}
        for part in (adam, muon)
    ]
    assert isinstance(muon, torch.optim.Muon)
    assert held[0] | held[1] == set(names.values())
    assert not held[0] & held[1]
    assert held[1] == {
        name
        for name, value in model.named_parameters()
        if "blocks" in name and value.ndim == 2
    }
    assert held[1]
    (alone,) = Optimisers(model, 1e-3, 0.0, 0.01).parts
    assert len(alone.param_groups[0]["params"]) == len(names)


def test_gradients_are_clipped_and_cleared(monkeypatch):
    norms, model = [], tiny()
    step = Optimisers.step

    def spy(self, share):
        grads = [value.grad for value in model.parameters()]
        norms.append(torch.stack([grad.norm() for grad in grads]).norm().item())
        step(self, share)
        assert all(value.grad is None for value in model.parameters())

    monkeypatch.setattr(Optimisers, "step", spy)
    _, history, _ = run(model=model, clip=0.1, log=1)
    assert norms == pytest.approx([0.1] * 12, rel=1e-3)
    assert min(entry["norm"] for entry in history) > 0.1  # written down before


@pytest.mark.parametrize("when", ["at once", "when called"])
def test_eager_where_nothing_compiles(when, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("no compiler")

    fail = broken if when == "at once" else lambda *_, **__: broken
    plain = run(compile=False)
    monkeypatch.setattr(torch, "compile", fail)
    eager = run(compile=True)
    assert eager[1] == plain[1]
    assert same(eager[0], plain[0])
    err = capsys.readouterr().err
    assert err == "torch.compile is not available (RuntimeError): eager.\n"


def test_an_error_of_the_loss_itself_is_raised(monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda loss, **_: loss)

    def wrong(*_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        compiled(wrong)()


# ------------------------------------------------------------------ data, tasks


def test_rows_come_by_their_probabilities(generator):
    law = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    data = torch.arange(4)[:, None]
    for probabilities in (law, None):
        drawn, known = Batches(data, None, probabilities).draw(20_000, generator)
        counts = torch.bincount(drawn[:, 0], minlength=4).numpy()
        expected = (law if probabilities is not None else torch.full((4,), 0.25)) * 2e4
        assert stats.chisquare(counts, expected.numpy().astype(float)).pvalue > 1e-3
        assert known is None


def test_observed_rows_stay_with_their_data(generator):
    data = torch.arange(6)[:, None].expand(6, 3)
    observed = torch.rand(6, 3, generator=generator) < 0.5
    x, known = Batches(data, observed=observed).draw(50, generator)
    assert torch.equal(known, observed[x[:, 0]])


@pytest.mark.parametrize("kind", ["symbols", "vectors"])
@pytest.mark.parametrize("law", [TaskSampler, tasks.permutation, tasks.prefix])
def test_what_is_hidden_is_never_read(kind, law, generator):
    observed = torch.rand(50, LENGTH, generator=generator) < 0.5
    observed[:, 0] |= ~observed.any(1)
    if kind == "symbols":
        x, sizes = symbols(), {}
        worlds = [torch.where(observed, x, other) for other in (0, 1, 2)]
    else:
        x = torch.randn(50, LENGTH, 2, generator=generator)
        sizes = {"symbols": 0, "values": 2, "components": 2}
        hidden = (0.0, 1e6, math.nan)
        worlds = [torch.where(observed[..., None], x, other) for other in hidden]
    settings = Settings(steps=6, batch=16, log=1)
    results = [
        fit(
            tiny(**sizes),
            Batches(world, observed=observed),
            law(LENGTH),
            settings,
            seed=3,
        )
        for world in worlds
    ]
    for model, history, _ in results[1:]:
        assert history == results[0][1]
        assert same(model, results[0][0])


PRESETS = {
    "everything": TaskSampler(9),
    "masked LM": tasks.masked_language_model(9),
    "masked autoencoder": tasks.masked_autoencoder(9),
    "next token": tasks.next_token(9),
    "permutation": tasks.permutation(9),
    "prefix": tasks.prefix(9),
    "joint": tasks.joint_only(9),
    "classification": tasks.classification(9, [8]),
    "pair": tasks.pair(9, [0, 1, 2, 3, 4, 5], [6, 7, 8]),
    "modalities": tasks.modalities(
        9, 2, classification=0.3, completion=0.3, joint=0.1, within=0.3
    ),
}


class Counted(nn.Module):
    """A model that costs nothing; the loss counts what it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.asked = 0


def count(model, x, task):
    model.asked += int(task.target.sum())
    return (model.weight**2).sum()


@pytest.mark.parametrize("law", PRESETS)
def test_objectives_get_the_same_number_of_targets(law):
    budget, model = 60_000, Counted()
    settings = Settings(targets=budget, step_targets=512, log=20)
    data = Batches(torch.zeros(10, 9, dtype=torch.int64))
    _, history, _ = fit(model, data, PRESETS[law], settings, seed=2, loss=count)
    assert history[-1]["targets"] == model.asked
    assert abs(model.asked - budget) <= max(0.01 * budget, 520)
    steps, batch = settings.sizes(PRESETS[law])
    assert history[-1]["step"] == steps
    assert abs(batch * mean_targets(PRESETS[law]) - 512) <= 9


WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")


class Waits(TorchDispatchMode):
    """Counts what a device would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if name in WAITS or (name == "index" and any(
            isinstance(each, torch.Tensor) and each.dtype == torch.bool
            for each in args[1]
        )):  # fmt: skip
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def waits(batches, sampler, model, steps):
    with Waits() as mode:
        fit(model(), batches, sampler, Settings(steps=steps, batch=4, log=99), seed=0)
    return mode.found


@pytest.mark.parametrize("law", PRESETS)
def test_a_step_waits_for_nothing(law):
    probabilities = torch.full((10,), 0.1, dtype=torch.float64)
    data = Batches(torch.zeros(10, 9, dtype=torch.int64), None, probabilities)
    sizes = AnyConditionalSizes(9, SYMBOLS, width=16, depth=1, heads=2)

    def model():
        return AnyConditionalTransformer(sizes)

    few, many = (waits(data, PRESETS[law], model, steps) for steps in (2, 6))
    assert few == many
    assert few  # the entry at the end does wait, so the count works


@pytest.mark.parametrize(
    "domain", ["pixels", "bits", "scaled", "patches", "frequencies"]
)
def test_no_domain_waits(domain, generator):
    size = (4, 2) if domain in ("pixels", "bits") else (4, 4)
    found = image_domain(domain, (1, 8, 8), 17, size)
    images = torch.randint(17, (10, 1, 8, 8), generator=generator).to(torch.uint8)
    sizes = AnyConditionalSizes(
        found.length, found.symbols, found.values, 2, width=16, depth=1, heads=2
    )

    def model():
        return AnyConditionalTransformer(sizes)

    data = Batches(images, found.transform)
    few, many = (waits(data, TaskSampler(found.length), model, n) for n in (2, 6))
    assert few == many


@pytest.mark.parametrize(
    "game",
    [
        Adversarial(),
        Adversarial("naive", penalty="difference"),
        Adversarial(communication=1.0),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_no_player_waits(game, whole):
    observed = torch.ones(10, 9, dtype=torch.bool)
    observed[:, 3:] = whole
    data = Batches(torch.zeros(10, 9, 2), observed=observed)

    def count(steps):
        model = BigLearnGAN(GANSizes(9, 2, width=8, depth=1, heads=2))
        settings = Settings(steps=steps, batch=4, log=99)
        with Waits() as mode:
            fit(model, data, TaskSampler(9), settings, seed=0, loss=game)
        return mode.found

    assert count(2) == count(6)


@pytest.mark.parametrize(
    ("law", "complaint"),
    [
        (TaskSampler(LENGTH), "Row 7 of observed is empty"),
        (tasks.classification(LENGTH, [3]), "Row 7 observes none of the target"),
    ],
)
def test_incomplete_rows_are_checked_once(law, complaint):
    observed = torch.tensor([[True, False, True, True]]).expand(10, 4).clone()
    data = Batches(torch.zeros(10, LENGTH, dtype=torch.int64), observed=observed)
    few, many = (waits(data, law, tiny, steps) for steps in (2, 6))
    assert few == many
    observed[7] = False
    observed[7, 0] = "none" in complaint
    with pytest.raises(ValueError, match=complaint):
        waits(data, law, tiny, 2)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "Set one of steps and targets"),
        ({"targets": 9}, "Set one of steps and targets"),
        ({"batch": 0}, "Set one of batch and step_targets"),
        ({"log": 0}, "log must be from 1"),
        ({"rate": -1.0}, "rate must be"),
        ({"rate": math.nan}, "rate must be"),
        ({"average": 1.5}, "average must be from 0 to 1"),
        ({"clip": 0.0}, "clip must be"),
        ({"warmup": -1}, "warmup must be"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**({"steps": 5, "batch": 5} | changes))


@pytest.mark.parametrize("kind", [{"symbols": 12}, {"values": 4}], ids=str)
def test_threads_do_not_change_a_run(two_threads, kind):
    """Indexing has a gradient that is added up in any order; none is used."""
    sizes = AnyConditionalSizes(16, **kind, width=64, depth=1)
    shape = (500, 16) if "symbols" in kind else (500, 16, 4)
    x = torch.randint(12, shape, generator=seeded(2))
    data = Batches(x if "symbols" in kind else x / 12)
    settings = Settings(steps=8, batch=128, log=1, compile=False)

    def history():
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = AnyConditionalTransformer(sizes)
        return fit(model, data, TaskSampler(16), settings, seed=0)[1]

    first = history()
    assert all(history() == first for _ in range(3))
