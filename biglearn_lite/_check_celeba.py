"""Checkers for the chapter on photographs of faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# celeba


@exercise("celeba/copy")
def _copy(answer: Callable[[Any], float]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for shape in ((5,), (40,)):
        p = torch.rand(shape, generator=generator, dtype=torch.float64)
        drawn = (p**2 + (1 - p) ** 2).mean()
        best = torch.maximum(p, 1 - p).mean()
        got = answer(p)
        if near(got, float(best - drawn) * 100, 1e-6):
            continue
        if near(got, float(best - drawn), 1e-8):
            return "points are hundredths"
        if near(got, float(best) * 100, 1e-6):
            return "this is how often the reading is right; what does the rule expect?"
        if near(got, float(drawn - best) * 100, 1e-6):
            return "who is right more often, the likelier answer or a drawn one?"
        if near(got, 100 * float(p.mean() - p.square().mean()), 1e-6):
            return "both answers count: yes with chance p, and no with chance 1 - p"
        return "a reading is right with chance max(p, 1 - p); a draw, p^2 + (1 - p)^2"
    return None


@exercise("celeba/mirror")
def _mirror(answer: Callable[[Any], Any]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for size in (2, 4):
        q = torch.rand((size, size), generator=generator, dtype=torch.float64)
        q /= q.sum()
        got = torch.as_tensor(answer(q.clone()), dtype=torch.float64)
        if got.shape != q.shape:
            return f"a table like q is asked for, not the shape {tuple(got.shape)}"
        both = (q + q.T) / 2
        plain, turned = (x / x.sum(1, keepdim=True) for x in (q, q.T))
        if torch.allclose(got, both / both.sum(1, keepdim=True), rtol=0, atol=1e-9):
            continue
        if torch.allclose(got, both, rtol=0, atol=1e-9):
            return "this is the law of both tokens; divide by that of the left one"
        if torch.allclose(got, (plain + turned) / 2, rtol=0, atol=1e-9):
            return "mix the laws first: a source says something of the mirror"
        if torch.allclose(got, both / both.sum(0), rtol=0, atol=1e-9):
            return "rows are given, so rows sum to one"
        return "the mirror exchanges the tokens; half of the images are mirrored"
    return None
