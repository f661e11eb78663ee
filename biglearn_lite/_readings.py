"""What a judge reads of images, as the report has it: one class, or attributes.

Classes are counted, and so are attributes; but of many attributes most are beyond
doubt, so what is known of each stands by its name, and what was in doubt by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Generator, Tensor
from torch.nn import functional as F

from biglearn_lite._agreement import (
    agreement,
    bayes_accuracy,
    class_kl,
    perfect_agreement,
)
from biglearn_lite._judges import Judges
from biglearn_lite._scenes import acceptance, attribute_shares, class_shares, scores

AGAIN = 4321  # of what a perfect sampler would have drawn
DRAWS = 100  # of it, for a class; attributes share them
SURE = 0.95  # perfect agreement from which on an attribute is not in doubt


def read(images: Tensor, judges: Judges) -> Tensor:
    """The most likely class (B,), or the more likely value of each attribute (B, A)."""
    attributes = bool(judges.config.attributes)
    return scores(images, judges.look, attributes).argmax(-1)


def columns(names: Sequence[str], wanted: Sequence[str] = ()) -> list[int]:
    """Places of the attributes that are wanted, all of them if none is named.

    Raises:
        ValueError: if the data have no attribute of a name.
    """
    if lost := [name for name in wanted if name not in names]:
        known = ", ".join(names) or "none, their images have one label each"
        raise ValueError(
            f"The data have no attribute {lost[0]!r}; their attributes are {known}."
        )
    return [names.index(name) for name in wanted or names]


def joint_facts(made: Tensor, test: Tensor, judges: Judges) -> dict[str, Any]:
    """How clear samples are, and how often they show what, beside test rows."""
    if judges.config.attributes:
        return _attribute_facts(made, test, judges)
    shares = class_shares(made, judges.look).tolist()
    return {
        "accepted": acceptance(made, judges.look),
        "accepted, real": acceptance(test, judges.look),
        "class shares": shares,
        "smallest class": min(shares),
        "largest class": max(shares),
    }


def _attribute_facts(made: Tensor, test: Tensor, judges: Judges) -> dict[str, Any]:
    """Shares of both are read by the same judge, so that its errors cancel."""
    look, names = judges.look, judges.config.attributes
    sets = {"": made, ", real": test}
    shares = {who: attribute_shares(images, look) for who, images in sets.items()}
    gap = (shares[""] - shares[", real"]).abs()
    facts: dict[str, Any] = {
        "mean difference": gap.mean().item(),
        "mean difference, perfect": _chance(shares[", real"], len(made), len(test)),
        "largest difference": gap.max().item(),
    }
    for who, images in sets.items():
        facts[f"attribute shares{who}"] = by_name(names, shares[who])
        for every in (False, True):
            name = f"accepted{', every attribute' * every}{who}"
            facts[name] = acceptance(images, look, attributes=True, every=every)
    return facts


def _chance(share: Tensor, one: int, other: int) -> float:
    """Mean absolute difference of the shares in two sets of these sizes from one law.

    For normal deviations: `sqrt(2 p (1 - p) (1 / n + 1 / m) / pi)`.
    """
    variance = share * (1 - share) * (1 / one + 1 / other)
    return (2 / math.pi * variance).sqrt().mean().item()


def agreement_facts(
    labels: Tensor, shown: Tensor, law: Tensor, names: Sequence[str] = ()
) -> dict[str, Any]:
    """What completions show, against what they may show.

    Args:
        labels: (B,) of the test rows, or their attributes (B, A).
        shown: (K, B) or (K, B, A), what K completions of each show.
        law: (B, classes) or (B, A, 2), log probabilities given the source.
        names: of the attributes.
    """
    counts = F.one_hot(shown, law.shape[-1]).sum(0)
    draws = max(1, DRAWS // max(1, len(names)))
    divergence = class_kl(counts, law, Generator().manual_seed(AGAIN), draws)
    said = law.exp().gather(-1, labels.long()[..., None])
    return {
        **agrees(labels, shown, law),
        # the same in the mean if the judge is calibrated: what it gives the label
        "label's probability": said.mean().item(),
        "bayes accuracy": bayes_accuracy(law),
        "class kl": divergence.value,
        "class kl, perfect": divergence.perfect,
        **(_of_attributes(labels, shown, law, names) if names else {}),
    }


def agrees(labels: Tensor, shown: Tensor, law: Tensor) -> dict[str, float]:
    """How often completions show the label, and how often a perfect sampler's would.

    Arguments as for `agreement_facts`.
    """
    found, perfect = agreement(labels, shown), perfect_agreement(law)
    return {
        "agreement": found,
        "perfect agreement": perfect,
        "points": 100 * (found - perfect),
    }


def _of_attributes(
    labels: Tensor, shown: Tensor, law: Tensor, names: Sequence[str]
) -> dict[str, Any]:
    """The same for every attribute, and for what the source leaves in doubt."""
    each = {
        name: agrees(labels[:, a], shown[..., a], law[:, a])
        for a, name in enumerate(names)
    }
    return {"attributes": each, "uncertain": uncertain_facts(labels, shown, law)}


def uncertain_facts(labels: Tensor, shown: Tensor, law: Tensor) -> dict[str, float]:
    """Agreement where a perfect sampler has less than `SURE`, and how often that is.

    Arguments as for `agreement_facts`, of attributes.
    """
    doubt = (2 * law).exp().sum(-1) < SURE  # (B, A)
    found = {"share": doubt.double().mean().item()}
    if not doubt.any():
        return found | dict.fromkeys(
            ("agreement", "perfect agreement", "points"), math.nan
        )
    return found | agrees(labels[doubt], shown[:, doubt], law[doubt])


def by_name(names: Sequence[str], values: Tensor) -> dict[str, float]:
    """A number for each attribute, by its name."""
    return dict(zip(names, values.tolist(), strict=True))
