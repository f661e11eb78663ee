"""Fixed classifiers that judge images: one of whole images, one of any part of them.

`look` reads a whole image. It says what a generated image shows, whether it looks like
anything at all, and its last hidden layer are the named features of the distances.

`guess` reads the tokens at any source and says `p(y | x_S)`: what a completion of `x_S`
may show. A perfect sampler draws the class of its completions from exactly this law, so
it is the measure of agreement; therefore it is calibrated.

What is read is one of several classes, or a number of yes-or-no attributes, each with a
law of its own, as of faces.

Both are small convolutional networks. What `guess` may not see is zero, and a mask, one
more channel, says so: where it is hidden nothing is read, not even NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biglearn_lite._images import unpatchify
from biglearn_lite._task_checks import whole

__all__ = ["Guess", "JudgeSizes", "Judges", "Look", "log_law", "start_large"]

SHARES = (0.0, 0.1, 0.3, 0.5, 0.75, 1.0)  # |S| / L at which a temperature is fitted
SMALLEST = 4  # pixels of the last grid of a network, at most


@dataclass(frozen=True)
class JudgeSizes:
    """Sizes of `Judges`.

    Attributes:
        channels: `C` of an image.
        height, width: of an image, in pixels.
        patch: side of a patch; `guess` takes tokens as `patchify` makes them.
        classes: number of them; 2, no and yes, if attributes are read.
        features: `F`, the width of the last hidden layer of each network.
        filters: of the first convolutions; twice as many after each halving of the
            image, at most four times.
        members: networks whose log probabilities `guess` averages.
        dropout: before and after the last hidden layer, while training.
        attributes: names of the `K` yes-or-no attributes; none: an image has a class.
    """

    channels: int = 1
    height: int = 8
    width: int = 8
    patch: int = 2
    classes: int = 10
    features: int = 24
    filters: int = 32
    members: int = 1
    dropout: float = 0.2
    attributes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", tuple(self.attributes))  # JSON has lists
        for name in ("channels", "height", "width", "patch", "classes"):
            whole(name, getattr(self, name))
        for name in ("features", "filters", "members"):
            whole(name, getattr(self, name))
        if self.height % self.patch or self.width % self.patch:
            raise ValueError(
                f"The patch must divide the image, got patch={self.patch} for "
                f"{self.height} x {self.width} pixels; choose a divisor of both sides."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"dropout is a share of at least 0 and below 1, got {self.dropout}."
            )
        if self.attributes and self.classes != 2:
            raise ValueError(
                "An attribute is yes or no, so with attributes classes is 2, got "
                f"{self.classes}."
            )

    @property
    def length(self) -> int:
        """`L`, the patches of an image."""
        return self.height // self.patch * (self.width // self.patch)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def scores(self) -> int:
        """Numbers that a network says of an image: one a class, or one an attribute."""
        return len(self.attributes) or self.classes


def log_law(scores: Tensor, attributes: bool) -> Tensor:
    """Log probabilities of what scores say.

    Args:
        scores: (B, classes), or (B, K): of attributes, log odds of yes.
        attributes: which of the two.

    Returns:
        (B, classes), or (B, K, 2): of no and yes.
    """
    if attributes:
        scores = torch.stack([torch.zeros_like(scores), scores], -1)
    return scores.log_softmax(-1)


class Look(nn.Module):
    """A convolutional classifier: two convolutions, halve the image, and so on.

    Args:
        sizes: see `JudgeSizes`.
        extra: channels beside those of the image.
    """

    def __init__(self, sizes: JudgeSizes, extra: int = 0) -> None:
        super().__init__()
        before, sides = sizes.channels + extra, [sizes.height, sizes.width]
        layers, level = [], 0
        while level == 0 or max(sides) > SMALLEST:
            filters = sizes.filters * min(2**level, 4)
            stride = 1 if level == 0 else 2
            layers += [nn.Conv2d(before, filters, 3, stride, padding=1), nn.GELU()]
            layers += [nn.Conv2d(filters, filters, 3, padding=1), nn.GELU()]
            sides = [-(-side // stride) for side in sides]
            before, level = filters, level + 1
        self.body = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Dropout(sizes.dropout),
            nn.Linear(before * sides[0] * sides[1], sizes.features),
            nn.GELU(),
        )
        self.drop = nn.Dropout(sizes.dropout)
        self.head = nn.Linear(sizes.features, sizes.scores)

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer: (B, C, H, W) in [0, 1] -> (B, F)."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        """Scores, see `log_law`: (B, C, H, W) in [0, 1] -> (B, classes) or (B, K)."""
        return self.head(self.drop(self.features(images)))


def start_large(net: Look) -> None:
    """First weights that keep the size of what goes through (He et al. 2015).

    Pixels lie around one half with a deviation of about a third, so the first layer
    takes off the one and divides by the other; the last one starts small.
    """
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        first = layers[0]
        first.weight.mul_(3)
        first.bias.copy_(-0.5 * first.weight.sum((1, 2, 3)))
        net.head.weight.mul_(0.2)


class Guess(nn.Module):
    """`p(y | x_S)` for any source, with a temperature for each size of the source.

        p(y | x_S) = softmax(mean of the members' log probabilities / t(s))

    with `s = |S| / L` and `t` linear between the `SHARES` (temperature scaling: Guo et
    al. 2017). The mean is that of logs: one of probabilities is flatter than what each
    member says, so a temperature that was found for members would not be right for it.
    Of attributes, `y` is no or yes and each has this law; all share the temperatures.

    Args:
        sizes: see `JudgeSizes`.
    """

    def __init__(self, sizes: JudgeSizes) -> None:
        super().__init__()
        self.config = sizes
        self.members = nn.ModuleList(Look(sizes, 1) for _ in range(sizes.members))
        self.register_buffer("log_temperature", torch.zeros(len(SHARES)))

    def log_prob(
        self, tokens: Tensor, source: Tensor, members: Sequence[int] | None = None
    ) -> Tensor:
        """`log p(y | x_S)` of every class, or of no and yes for every attribute.

        Args:
            tokens: (B, L, P), patches of images in [0, 1], read at the source only.
            source: (B, L) boolean, the tokens that are seen; none is allowed.
            members: places of the networks that answer; None: all.

        Returns:
            (B, classes), log probabilities; of attributes (B, K, 2).

        Raises:
            ValueError: if tokens or source have another shape.
        """
        return self.scaled(self.scores(tokens, source, members), source)

    def scores(
        self, tokens: Tensor, source: Tensor, members: Sequence[int] | None = None
    ) -> Tensor:
        """Mean of the members' log probabilities: (B, classes) or (B, K, 2)."""
        seen = self.show(tokens, source)  # (B, C + 1, H, W)
        asked = range(len(self.members)) if members is None else members
        attributes = bool(self.config.attributes)
        said = [log_law(self.members[place](seen), attributes) for place in asked]
        return torch.stack(said).mean(0)

    def scaled(self, scores: Tensor, source: Tensor) -> Tensor:
        """Scores at the temperature of the source's size, as log probabilities."""
        share = source.float().mean(1)  # (B,)
        log_temperature = between(share, self.log_temperature)  # (B,)
        scale = (-log_temperature).exp().view(-1, *[1] * (scores.ndim - 1))
        return (scores * scale).log_softmax(-1)

    def show(self, tokens: Tensor, source: Tensor) -> Tensor:
        """What is seen, as an image with its mask: (B, C + 1, H, W)."""
        sizes = self.config
        values = sizes.channels * sizes.patch**2
        good = tokens.shape[1:] == (sizes.length, values)
        if not good or source.dtype != torch.bool or source.shape != tokens.shape[:2]:
            raise ValueError(
                f"This judge guesses from tokens (B, {sizes.length}, {values}) and a "
                f"boolean source (B, {sizes.length}), got {tuple(tokens.shape)} and "
                f"{source.dtype} of {tuple(source.shape)}; cut the images with "
                f"patchify(images, {sizes.patch})."
            )
        # where, not a product: what is hidden may be NaN
        shown = torch.where(source[..., None], tokens, 0.0).float()
        mask = source[..., None].expand(-1, -1, sizes.patch**2).float()
        image = unpatchify(shown, sizes.patch, sizes.shape)
        seen = unpatchify(mask, sizes.patch, (1, *sizes.shape[1:]))
        return torch.cat([image, seen], 1)


def between(share: Tensor, values: Tensor) -> Tensor:
    """The piecewise linear function with these values at the `SHARES`."""
    knots = torch.tensor(SHARES, device=share.device)
    right = torch.searchsorted(knots, share.contiguous()).clamp(1, len(SHARES) - 1)
    left, width = right - 1, knots[1:] - knots[:-1]
    part = (share - knots[left]) / width[left]
    return values[left] * (1 - part) + values[right] * part


class Judges(nn.Module):
    """The two judges of one dataset; they travel together.

    Args:
        sizes: see `JudgeSizes`.
    """

    def __init__(self, sizes: JudgeSizes) -> None:
        super().__init__()
        self.config = sizes
        self.look = Look(sizes)
        self.guess = Guess(sizes)
