"""What is measured of an image-label model: as a classifier, and as a generator.

One model answers all of it. How well it classifies what is only partly seen stands
beside a judge that was trained for this alone; what it generates is read by a judge of
whole images; and whether the answers belong together is said by

    log p(y | x) + log p(x) - log p(x | y) - log p(y),

which is 0 for every `x` and `y` if they come from one joint law.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from biglearn_lite._agreement import agreement, calibration_error, log_loss
from biglearn_lite._readings import read
from biglearn_lite._report import (
    SEED,
    TRAIN,
    Asked,
    Features,
    device_of,
    guessed,
    random_sources,
    spread_rows,
    written,
)
from biglearn_lite.multimodal import ImageLabelModel, bayes_log_prob
from biglearn_lite.tasks import Task

__all__ = ["Unlabelled", "block_sources", "consistency", "label_report", "top_sources"]

VISIBLE = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # |S| / N
CHUNK = 512


class Unlabelled:
    """An image-label model as a model of images alone: labels are absent.

    It has `length` and `sample`, with tokens (B, N, D), so it is asked as any other.
    """

    def __init__(self, model: ImageLabelModel) -> None:
        self.model, self.layout = model.eval(), model.config.layout

    @property
    def length(self) -> int:
        """`N`, the patches."""
        return self.layout.image

    def parameters(self) -> Any:
        """Those of the model, which say where it is."""
        return self.model.parameters()

    def sample(
        self, x: Tensor, task: Task, generator: Generator | None = None
    ) -> Tensor:
        """Draw patches given patches: (B, N, D)."""
        whole = task_of_images(task, self.layout.labels)
        drawn = self.model.sample(self.layout.join(x, None), whole, generator)
        return self.layout.split(drawn)[0]


def task_of_images(task: Task, labels: int) -> Task:
    """The same task with so many labels behind, all absent."""
    none = torch.zeros(len(task), labels, dtype=torch.bool, device=task.device)
    masks = (torch.cat([mask, none], 1) for mask in (task.source, task.target))
    return Task._trusted(*masks)


def label_report(
    asked: Asked,
    train: Tensor,
    test: Tensor,
    x: Tensor,
    labels: Tensor,
    rows: int = 2560,
    samples: int = 5120,
    draws: int = 20,
    seen: int = 0,
) -> dict[str, Any]:
    """Ask an image-label model what it says of labels, and what it makes of them.

    Args:
        asked: the model; its judges may be None, if there are none, and then nothing
            that is generated is looked at.
        train: (M, C, H, W) real images in [0, 1], for projections and floors.
        test: (N, C, H, W) real images in [0, 1].
        x: (N, L, P) tokens of the test images with their labels.
        labels: (N, M) whole numbers.
        rows: test rows at most, spread over all of them; whole images are classified
            whatever their number.
        samples: images that are generated from labels, and jointly with them; `"class
            accuracy"` is the share of labels that a judge reads as they were asked
            for, of each class, or of each attribute.
        draws: of each floor, and of distances at most.
        seen: test rows at most that are classified from parts; 0: as `rows` says.

    Returns:
        Plain numbers, by `"classification"`, `"seen"` (by pattern), `"generation"`,
        `"joint"`, and of a likelihood model `"consistency"` and, if it has a class,
        `"bayes"`: the same rows classified as it says, by Bayes' rule, and by both.
    """
    model = asked.model.eval()
    whole = ~is_label(model).expand(len(x), -1)
    facts = {"classification": said_of(laws(model, x, whole), labels)}
    kept = spread_rows(len(x), seen or rows)
    facts["seen"] = _seen(asked, test[kept], x[kept], labels[kept])
    kept = spread_rows(len(x), rows)
    train = train[spread_rows(len(train), TRAIN)]
    test, x, labels = test[kept], x[kept], labels[kept]
    facts["rows"] = len(x)
    if asked.judges is not None:
        space = Features(asked.judges, train, test, draws)
        facts["generation"] = _generation(asked, space, x, labels, samples)
        facts["joint"] = _joint(asked, space, x, samples)
    if model.config.matching == "likelihood":
        facts["consistency"] = consistency(model, x)
        if model.config.classes:
            facts["bayes"] = two_answers(model, x, labels[:, :1])
    return facts


# ------------------------------------------------------------------ as a classifier


def laws(model: ImageLabelModel, x: Tensor, source: Tensor) -> Tensor:
    """`log p(y | x_S)` of each label: (N, M, most) float64 on the CPU."""
    home, said = device_of(model), []
    with torch.no_grad():
        for rows, given in zip(x.split(CHUNK), source.split(CHUNK), strict=True):
            hidden = torch.where(given[..., None], rows, torch.nan)
            said.append(model.label_laws(hidden.to(home), given.to(home)).cpu())
    return torch.cat(said).double()


def log_probs(model: ImageLabelModel, x: Tensor, task: Task) -> Tensor:
    """`log p(x_T | x_S)` of rows (N, L, P), one task for all: (N,) float64 nats."""
    home = device_of(model)
    with torch.no_grad():
        said = [
            model.log_prob(rows.to(home), task.expand(len(rows)).to(home)).cpu()
            for rows in x.split(CHUNK)
        ]
    return torch.cat(said).double()


def said_of(laws: Tensor, labels: Tensor) -> dict[str, float]:
    """How good label laws (N, M, most) are for labels (N, M), all labels alike."""
    flat, true = laws.flatten(0, 1), labels.flatten()
    return {
        "accuracy": agreement(true, flat.argmax(1)),
        "log likelihood": -log_loss(flat, true),
        "calibration error": calibration_error(flat, true),
    }


def _seen(
    asked: Asked, test: Tensor, x: Tensor, labels: Tensor
) -> dict[str, dict[str, list[float]]]:
    """Accuracy and mean log likelihood against how much is seen, by pattern."""
    config = asked.model.config
    side = round((test.shape[2] * test.shape[3] / config.image) ** 0.5)
    grid = test.shape[2] // side, test.shape[3] // side
    found: dict[str, dict[str, list[float]]] = {}
    for share in VISIBLE:
        fixed = Generator().manual_seed(SEED + round(1000 * share))
        patterns = {
            "random": random_sources(len(x), config.image, share, fixed),
            "block": block_sources(len(x), grid, share, fixed),
            "top": top_sources(len(x), grid, share),
        }
        for name, patches in patterns.items():
            facts = _when_seen(asked, test, x, labels, patches)
            for key, value in facts.items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    return found


def _when_seen(
    asked: Asked, test: Tensor, x: Tensor, labels: Tensor, patches: Tensor
) -> dict[str, float]:
    """What is said of labels from these patches, (N, image) boolean."""
    source = torch.cat([patches, torch.zeros_like(labels, dtype=torch.bool)], 1)
    facts = said_of(laws(asked.model, x, source), labels)
    facts["visible"] = patches.double().mean().item()
    if asked.judges is None:
        return facts
    said = guessed(asked.judges, test, patches).argmax(-1).view_as(labels)
    facts["accuracy of the judge"] = agreement(labels, said)
    return facts


def top_sources(rows: int, grid: tuple[int, int], share: float) -> Tensor:
    """The first patches of the image, row by row: (rows, N) boolean."""
    many = grid[0] * grid[1]
    return (torch.arange(many) < round(share * many)).expand(rows, -1)


def block_sources(
    rows: int, grid: tuple[int, int], share: float, generator: Generator
) -> Tensor:
    """A rectangle of about this share at a random place, as square as may be.

    Its height is `round(sqrt(share) R)` of `R` rows of patches, and its width what then
    comes nearest to the share; at least one patch.
    """
    high, wide = grid
    height = max(1, round(share**0.5 * high))
    width = min(wide, max(1, round(share * high * wide / height)))
    top = torch.randint(high - height + 1, (rows, 1), generator=generator)
    left = torch.randint(wide - width + 1, (rows, 1), generator=generator)
    row, column = torch.arange(high), torch.arange(wide)
    inside = (row >= top) & (row < top + height)  # (rows, high)
    across = (column >= left) & (column < left + width)
    return (inside[:, :, None] & across[:, None]).flatten(1)


# ------------------------------------------------------------------ as a generator


def _generation(
    asked: Asked, space: Features, x: Tensor, labels: Tensor, samples: int
) -> dict[str, Any]:
    """Images from the labels of test rows, `x ~ p(x | y)`, as often as needed."""
    times = -(-max(samples, len(x)) // len(x))
    given, wanted = x.repeat(times, 1, 1), labels.repeat(times, 1)
    label = is_label(asked.model).expand(len(given), -1)
    made = asked.ask_tokens(given, Task.conditional(label))
    shown, real = (_shown(images, asked) for images in (made, asked.restore(x)))
    return {
        "samples": len(made),
        "class accuracy": agreement(wanted, shown),
        "class accuracy, real": agreement(labels, real),
        "class accuracy of each": _of_each(asked.model, wanted, shown),
        "all labels": (wanted == shown).all(1).double().mean().item(),
        "all labels, real": (labels == real).all(1).double().mean().item(),
        **written(space.compare(made)),
    }


def _shown(images: Tensor, asked: Asked) -> Tensor:
    """The labels (N, M) that a judge reads from whole images."""
    return read(images, asked.judges).view(len(images), -1)


def _of_each(model: ImageLabelModel, wanted: Tensor, shown: Tensor) -> list[float]:
    """How often images show what was wanted: of each class, or of each attribute."""
    right = (wanted == shown).double()  # (N, M)
    if model.config.attributes:
        return right.mean(0).tolist()
    classes = range(model.config.classes)
    return [right[wanted == each].mean().item() for each in classes]


def _joint(asked: Asked, space: Features, x: Tensor, samples: int) -> dict[str, Any]:
    """Images with their labels, `x, y ~ p(x, y)`."""
    samples = max(samples, len(x))
    blank = torch.full((samples, *x.shape[1:]), torch.nan)
    drawn = asked.draw(blank, Task.joint(samples, asked.model.length))
    made = asked.restore(drawn).clamp(0, 1)
    labels = asked.model.split(drawn)[1].view(samples, -1)  # (N, M)
    shares = _label_shares(asked.model, labels)
    return {
        "samples": samples,
        "class accuracy": agreement(labels, _shown(made, asked)),
        "label shares": shares.tolist(),
        "smallest label": shares.min().item(),
        "largest label": shares.max().item(),
        **written(space.compare(made)),
    }


def _label_shares(model: ImageLabelModel, labels: Tensor) -> Tensor:
    """How often labels (N, M) name each class, or have each attribute."""
    if model.config.attributes:
        return labels.double().mean(0)
    named = labels[:, 0].bincount(minlength=model.config.classes)
    return named.double() / len(labels)


# ------------------------------------------------------------------ as one law


def consistency(model: ImageLabelModel, x: Tensor) -> dict[str, float]:
    """`log p(y | x) + log p(x) - log p(x | y) - log p(y)` of rows with their labels.

    The order of patches is the same in both factors; only where the label comes in
    differs. Mean and standard deviation over the rows (N, L, P), in nats and in nats a
    pixel; and `log p(x)`, `log p(x | y)` in nats, densities of the tokens.
    """
    label = is_label(model)[None]  # (1, L)
    nothing = torch.zeros_like(label)
    questions = {
        "y given x": Task(~label, label),
        "x": Task(nothing, ~label),
        "x given y": Task(label, ~label),
        "y": Task(nothing, label),
    }
    said = {name: log_probs(model, x, task) for name, task in questions.items()}
    gap = said["y given x"] + said["x"] - said["x given y"] - said["y"]
    pixels = model.config.image * model.config.pixels
    facts = {"mean": gap.mean().item(), "spread": gap.std(correction=0).item()}
    facts |= {f"{name} a pixel": value / pixels for name, value in facts.items()}
    both = ("x", "x given y")
    return facts | {f"log p({n})": said[n].mean().item() for n in both}


def two_answers(
    model: ImageLabelModel, x: Tensor, classes: Tensor
) -> dict[str, dict[str, float]]:
    """How good `p(y | x)` of rows (N, L, P) is as it is said, and as it is summed out.

    `"summed"` is `p(y) p(x | y)` over its sum; `"both"` the mean of the two logarithms,
    normalised.
    """
    label, home = is_label(model), device_of(model)
    task = Task.marginal(~label[None])
    with torch.no_grad():
        summed = torch.cat(
            [
                bayes_log_prob(model, rows.to(home), task.expand(len(rows)).to(home))
                for rows in x.split(CHUNK)
            ]
        )
    summed = summed.cpu().double()[:, None]  # (N, 1, C)
    said = laws(model, x, ~label.expand(len(x), -1))[:, :1, : model.config.classes]
    both = ((said + summed) / 2).log_softmax(-1)
    answers = {"said": said, "summed": summed, "both": both}
    return {name: said_of(each, classes) for name, each in answers.items()}


def is_label(model: ImageLabelModel) -> Tensor:
    """(L,) boolean, on the CPU."""
    return torch.arange(model.length) >= model.config.image
