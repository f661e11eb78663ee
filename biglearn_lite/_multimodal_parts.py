"""What an image-label model is made of: how it reads its tokens, and what it says.

Each modality has an embedding and a head of its own; between them is one trunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biglearn_lite._draws import draw_component
from biglearn_lite._heads import MixtureHead, full
from biglearn_lite._label_tokens import Layout, one_hot
from biglearn_lite._task_checks import whole
from biglearn_lite.transformer import MaskedTransformer, TransformerSizes

MATCHINGS = ("likelihood", "hybrid")


@dataclass(frozen=True)
class ImageLabelSizes:
    """Sizes of an `ImageLabelModel`.

    Attributes:
        image: `N`, the patches of an image.
        pixels: `D`, the numbers in a patch.
        classes: `C`; the class is the token behind the patches. 0: there is none.
        attributes: `A`, tokens of things that are there or not, behind the class.
        matching: `"likelihood"` or `"hybrid"`.
        width: of the transformer.
        depth: its blocks.
        heads: its attention heads.
        components: `K`, Gaussians in the law of a patch; of likelihood.
        latent: numbers in the latent that a whole sample shares; of the hybrid.
        noise: numbers in the noise that each target patch has to itself; likewise.
        bounded: whether patches are between -1 and 1, or any numbers; likewise.
    """

    image: int
    pixels: int
    classes: int = 0
    attributes: int = 0
    matching: str = "likelihood"
    width: int = 64
    depth: int = 3
    heads: int = 4
    components: int = 8
    latent: int = 32
    noise: int = 8
    bounded: bool = True

    def __post_init__(self) -> None:
        for name in ("image", "pixels", "components", "latent", "noise"):
            whole(name, getattr(self, name))
        for name in ("classes", "attributes"):
            whole(name, getattr(self, name), least=0)
        if self.classes == 1 or not self.choices:
            raise ValueError(
                "A label says something: give at least 2 classes, or attributes; got "
                f"classes={self.classes} and attributes={self.attributes}."
            )
        if self.matching not in MATCHINGS:
            raise ValueError(f"matching is one of {MATCHINGS}, got {self.matching!r}.")
        self.trunk()  # which checks the others

    @property
    def choices(self) -> tuple[int, ...]:
        """Values that each label can take: the class, then the attributes."""
        return (self.classes,) * (self.classes > 0) + (2,) * self.attributes

    @property
    def layout(self) -> Layout:
        """Where patches and labels stand."""
        return Layout(self.image, self.pixels, self.choices)

    @property
    def length(self) -> int:
        """`L`, all tokens."""
        return self.layout.length

    @property
    def values(self) -> int:
        """`P`, the numbers in a token of either kind."""
        return self.layout.values

    @property
    def symbols(self) -> int:
        """None: labels are one-hots among numbers."""
        return 0

    def trunk(self) -> TransformerSizes:
        """The sizes of the trunk; a generator's targets have to agree."""
        shared = {name: getattr(self, name) for name in ("width", "depth", "heads")}
        if self.matching == "hybrid":
            shared |= {"modulation": self.width, "reach": "union"}
        return TransformerSizes(self.length, values=self.values, **shared)


class ImageLabelTrunk(MaskedTransformer):
    """A `MaskedTransformer` over the patches and labels of a layout.

    With `reach = "union"` targets see each other, but for labels: a label that is asked
    for holds nothing to be seen, and so `p(y | x_S)` is a law that depends on `x_S`
    alone.
    """

    def __init__(self, sizes: TransformerSizes, layout: Layout) -> None:
        super().__init__(sizes)
        self.content = ImageLabelContent(sizes.width, layout)
        self.content.apply(self._initialise)
        is_label = torch.arange(layout.length) >= layout.image  # (L,)
        self.register_buffer("is_label", is_label, persistent=False)

    def reach(self, source: Tensor, target: Tensor) -> Tensor:
        """As of the trunk, with no label among the targets that are seen."""
        return super().reach(source, target & ~self.is_label)

    def labels_first(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The second factor of `p(x_T, y | x_S) = p(y | x_S) p(x_T | x_S, y)`.

        The labels that were asked for are given by now: (S and y, T without y).
        """
        return source | (target & self.is_label), target & ~self.is_label


class ImageLabelContent(nn.Module):
    """The content of tokens: a patch by a linear map, a label as the symbol it names.

    All labels share one vocabulary, in which each has a part of its own. A symbol has
    no slope, so a judge's slope is one in the patches alone.
    """

    def __init__(self, width: int, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.patches = nn.Linear(layout.pixels, width)
        self.labels = nn.Embedding(sum(layout.choices), width)
        first = torch.tensor([0, *accumulate(layout.choices[:-1])])  # (M,)
        self.register_buffer("first", first, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(B, L, P) tokens, zero where they are not shown -> (B, L, W)."""
        image, pixels = self.layout.image, self.layout.pixels
        patches = self.patches(values[:, :image, :pixels])  # (B, N, W)
        labels = self.labels(self.symbols(values))  # (B, M, W)
        return torch.cat([patches, labels.to(patches)], 1)

    def symbols(self, values: Tensor) -> Tensor:
        """What the labels say, in the vocabulary that they share: (B, M)."""
        return values[:, self.layout.image :].argmax(-1) + self.first


class LabelHead(nn.Module):
    """A categorical law for each label, over its own part of the vocabulary."""

    def __init__(self, width: int, choices: tuple[int, ...]) -> None:
        super().__init__()
        self.logits = nn.Linear(width, sum(choices))
        first = torch.tensor([0, *accumulate(choices[:-1])])[:, None]  # (M, 1)
        place = torch.arange(max(choices))  # (most,)
        real = place < torch.tensor(choices)[:, None]  # (M, most)
        symbols = (first + place).masked_fill(~real, 0)
        self.register_buffer("real", real, persistent=False)
        self.register_buffer("symbols", symbols, persistent=False)

    def laws(self, hidden: Tensor) -> Tensor:
        """(B, M, W) -> (B, M, most) nats, -inf beyond the choices of a label."""
        logits = full(self.logits(hidden))  # (B, M, vocabulary)
        own = logits.gather(-1, self.symbols.expand(len(logits), -1, -1))
        return own.masked_fill(~self.real, -torch.inf).log_softmax(-1)

    def log_prob(self, hidden: Tensor, x: Tensor) -> Tensor:
        """(B, M, W) and one-hots (B, M, P) -> (B, M) nats."""
        return self.laws(hidden).gather(-1, x.argmax(-1, True)).squeeze(-1)

    def sample(
        self, hidden: Tensor, values: int, generator: torch.Generator | None
    ) -> Tensor:
        """(B, M, W) -> one-hots (B, M, P)."""
        laws = self.laws(hidden)
        return one_hot(draw_component(laws, generator), values).to(laws)


class ImageLabelHead(nn.Module):
    """Laws of patches (mixtures of Gaussians) and of labels (categorical).

    A hybrid draws its patches without a law of them: what is said of a patch is 0.
    """

    def __init__(self, sizes: ImageLabelSizes) -> None:
        super().__init__()
        self.layout = sizes.layout
        self.patches = None
        if sizes.matching == "likelihood":
            self.patches = MixtureHead(sizes.width, sizes.pixels, sizes.components)
        self.labels = LabelHead(sizes.width, sizes.choices)

    def spread(self) -> None:
        """See `MixtureHead`."""
        if self.patches is not None:
            self.patches.spread()

    def log_prob(self, hidden: Tensor, x: Tensor) -> Tensor:
        """(B, L, W) and (B, L, P) -> (B, L) nats."""
        image, pixels = self.layout.image, self.layout.pixels
        named = self.labels.log_prob(hidden[:, image:], x[:, image:])  # (B, M)
        if self.patches is None:
            return F.pad(named, (image, 0))
        patches = x[:, :image, :pixels]
        return torch.cat([self.patches.log_prob(hidden[:, :image], patches), named], 1)

    def sample(self, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        """(B, L, W) -> (B, L, P)."""
        image, values = self.layout.image, self.layout.values
        named = self.labels.sample(hidden[:, image:], values, generator)  # (B, M, P)
        if self.patches is None:
            return F.pad(named, (0, 0, image, 0))
        patches = self.patches.sample(hidden[:, :image], generator)  # (B, N, D)
        patches = F.pad(patches, (0, values - self.layout.pixels))
        return torch.cat([patches, named], 1)


class PatchMaker(nn.Module):
    """What makes a trunk draw patches from noise, as in `BigLearnGAN`."""

    def __init__(self, sizes: ImageLabelSizes) -> None:
        super().__init__()
        width = sizes.width
        self.config = sizes
        self.latent = nn.Sequential(
            nn.Linear(sizes.latent, width), nn.GELU(), nn.Linear(width, width)
        )
        self.noise = nn.Linear(sizes.noise, width)
        self.head = nn.Linear(width, sizes.pixels)

    def forward(
        self,
        trunk: ImageLabelTrunk,
        x: Tensor,
        source: Tensor,
        target: Tensor,
        latent: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Patches for all positions, (B, L, P), of which those of the target count."""
        added = self.noise(noise) * target[..., None]  # (B, L, W)
        hidden = trunk(x, source, target, self.latent(latent), added=added)
        made = self.head(hidden).to(x.dtype)  # (B, L, D)
        made = made.tanh() if self.config.bounded else made
        return F.pad(made, (0, self.config.values - self.config.pixels))
