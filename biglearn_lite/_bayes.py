"""A class by Bayes' rule: what the generator in an image-label model says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biglearn_lite._label_tokens import one_hot
from biglearn_lite._task import Task

if TYPE_CHECKING:
    from biglearn_lite.multimodal import ImageLabelModel


def bayes_log_prob(
    model: ImageLabelModel, x: Tensor, task: Task, reading: str = "autoregressive"
) -> Tensor:
    """`log p(y | x_S, x_T)` of every class, from how likely it makes the target.

        p(y | x_S, x_T)  =  p(y | x_S) p(x_T | x_S, y)  /  sum of this over all y

    holds in any law, for any split of the patches that are seen. With an empty source
    it is the generative classifier. A network says both sides, and they need not agree.

    Args:
        model: of the matching `"likelihood"`, with a class.
        x: (B, L, P) tokens, of which patches in source and target are read.
        task: patches given and patches asked for; labels are absent.
        reading: of `p(x_T | x_S, y)`; `"factorised"` takes one pass a class, and is too
            sure where targets depend on each other beyond the class.

    Returns:
        (B, C) nats.

    Raises:
        ValueError: if the model has no class or no density, or a label is in the task.
    """
    label = model.trunk.is_label
    if (task.union & label).any():
        raise ValueError(
            "Bayes' rule weighs all classes by the patches that are seen: leave the "
            "labels of the task absent."
        )
    said = model.label_log_prob(x, task.source)  # raises if there is no class
    x = torch.where(task.union[..., None], x, torch.nan)
    first = model.config.image  # the class is the first token behind the patches
    source = task.source.clone()
    source[:, first] = True
    weighed = []
    for each in range(model.config.classes):
        x[:, first] = one_hot(torch.tensor(each, device=x.device), x.shape[2]).to(x)
        given = Task._trusted(source, task.target)
        weighed.append(model.log_prob(x, given, reading=reading))  # (B,)
    return (said + torch.stack(weighed, 1)).log_softmax(1)
