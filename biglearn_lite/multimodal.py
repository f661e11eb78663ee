"""Several modalities in one sequence: to classify is to generate.

Put the labels `y` of an image `x` into its token sequence, and one model of
`p(x_T | x_S)` for any `S` and `T` (Big Cooperative Learning, arXiv 2407.21319, section
4.3; code and set-up were never released, so this is a choice of this package) answers

    p(y | x)          classify
    p(y | x_S)        classify what is half hidden
    p(x | y)          generate
    p(x_T | x_S, y)   complete with a wish
    p(x, y)           draw both
    p(x_T | x_S)      do without labels

Two matchings train it, on one interface:

- *likelihood*: all tokens have a law, as in `AnyConditionalTransformer`;
- *hybrid*: labels have a law and patches are drawn, as by `BigLearnGAN`. The chain rule
  `p(x_T, y | x_S) = p(y | x_S) p(x_T | x_S, y)` splits the work: cross-entropy matches
  the first factor, and a game on patches, with the real labels given to both players
  (teacher forcing), the second. No slope has to pass through a label.

Which of the questions are learned is said by `tasks.modalities`, so what this model is
to be compared with is the same network with another law of tasks, in a recipe

    tasks.law = "classification", arguments = { labels = [16] }        a classifier
    tasks.law = "modalities", arguments = { classification = 1.0 }     with masking
    tasks.law = "modalities", arguments = { generation = 1.0 }         class-conditional
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from biglearn_lite._bayes import bayes_log_prob
from biglearn_lite._label_tokens import Layout, one_hot
from biglearn_lite._likelihood_checks import check_tokens
from biglearn_lite._multimodal_parts import (
    ImageLabelHead,
    ImageLabelSizes,
    ImageLabelTrunk,
    PatchMaker,
)
from biglearn_lite._players import (
    Discriminator,
    draw_noise,
    kept_noise,
    start_large,
)
from biglearn_lite._task_checks import as_mask
from biglearn_lite.likelihood import AnyConditionalTransformer
from biglearn_lite.tasks import Task
from biglearn_lite.transformer import TransformerSizes

__all__ = [
    "ImageLabelDiscriminator",
    "ImageLabelModel",
    "ImageLabelSizes",
    "bayes_log_prob",
    "label_loss",
    "number_loss",
    "row_loss",
]


class ImageLabelModel(AnyConditionalTransformer):
    """`p(x_T | x_S)` over an image and its labels, for any source and target.

    Tokens are (B, L, P) floats, which `tokens` makes of patches and labels, and `split`
    takes apart. Labels have probabilities, patches densities. Where a task asks for
    several tokens, the default order is: labels first, then patches from left to right;
    what an image shows is decided before how it looks.

    A hybrid draws labels in the same way, and then all patches at once, given them. It
    has `log_prob` of labels only. Its labels are said with a latent of zero and without
    noise, by the same trunk.

    Args:
        sizes: see `ImageLabelSizes`.
    """

    def __init__(self, sizes: ImageLabelSizes) -> None:
        super().__init__(sizes)
        self.maker = PatchMaker(sizes) if sizes.matching == "hybrid" else None
        if self.maker is not None:
            start_large(self)
            start_tables(self)
            nn.init.normal_(self.trunk.modulate.weight, std=0.02)  # it is heard
            nn.init.normal_(self.head.labels.logits.weight, std=0.02)

    def _parts(self, sizes: ImageLabelSizes) -> tuple[ImageLabelTrunk, ImageLabelHead]:
        return ImageLabelTrunk(sizes.trunk(), sizes.layout), ImageLabelHead(sizes)

    # -------------------------------------------------------------- tokens

    def tokens(self, image: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Tokens of patches and labels, NaN where nothing is known.

        Args:
            image: (B, N, D) floats; None: not known.
            labels: (B,) whole numbers, or (B, M) if there are several labels: the
                class first, then an attribute each, 0 or 1; -1 is not known. None:
                none is.

        Returns:
            (B, L, P).

        Raises:
            ValueError: if the shapes do not fit, or a label is none of its choices.
        """
        made = self.config.layout.join(image, labels)
        return made if image is not None else made.to(self.trunk.position)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (B, N, D) and labels (B,) or (B, M) of tokens: undoes `tokens`."""
        return self.config.layout.split(x)

    # -------------------------------------------------------------- laws

    def hidden(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """What the head says `p(x_t | x_S)` from, unchecked: (B, L, width)."""
        if self.maker is None:
            return self.trunk(x, source, target)
        silent = self.trunk.position.new_zeros(len(x), self.config.latent)
        return self.trunk(x, source, target, self.maker.latent(silent))

    def log_prob(
        self,
        x: Tensor,
        task: Task,
        *,
        order: Tensor | None = None,
        **reading: Any,
    ) -> Tensor:
        """`log p(x_T | x_S)` in nats: probabilities of labels, densities of patches.

        Args:
            x: (B, L, P) tokens; what is absent is never read.
            task: one for each row; a hybrid has laws of labels only.
            order: (L,) or (B, L) ranks; None: labels first.
            **reading: see `AnyConditionalTransformer.log_prob`.

        Returns:
            (B,)

        Raises:
            ValueError: if a hybrid is asked for the law of a patch, a label is no
                one-hot, or as for the `AnyConditionalTransformer`.
        """
        self._check_labels(x, task, task.union)
        if self.maker is not None and (task.target & ~self.trunk.is_label).any():
            raise ValueError(
                "A hybrid draws patches and has no density of them: ask for the law "
                "of labels, or train with matching='likelihood'."
            )
        order = self._order() if order is None else order
        return super().log_prob(x, task, order=order, **reading)

    def label_log_prob(self, x: Tensor, source: Task | Tensor) -> Tensor:
        """`log p(y | x_S)` of every class, in one pass.

        Args:
            x: (B, L, P) tokens, read at the source only.
            source: (B, L) boolean, or a task, of which the source counts.

        Returns:
            (B, C) nats. Where the class is given, all of the probability is on it.

        Raises:
            ValueError: if there is no class, or tokens and source do not fit.
        """
        if not self.config.classes:
            raise ValueError(
                "This model has attributes and no class; ask attribute_log_prob."
            )
        return self.label_laws(x, source)[:, 0, : self.config.classes]

    def attribute_log_prob(self, x: Tensor, source: Task | Tensor) -> Tensor:
        """`log p(y_a | x_S)` of each attribute by itself, in one pass: (B, A, 2).

        Arguments and errors as for `label_log_prob`.
        """
        if not self.config.attributes:
            raise ValueError("This model has a class only; ask label_log_prob.")
        return self.label_laws(x, source)[:, -self.config.attributes :, :2]

    def label_laws(self, x: Tensor, source: Task | Tensor) -> Tensor:
        """`log p(y_m | x_S)` of all labels, each by itself, in one pass.

        Returns:
            (B, M, most) nats, -inf beyond the choices of a label.
        """
        source = source.source if isinstance(source, Task) else source
        source = as_mask("source", source)
        self._check_labels(x, Task._trusted(source, ~source), source)
        image = self.config.image
        hidden = self.hidden(x, source, self.trunk.is_label & ~source)
        laws = self.head.labels.laws(hidden[:, image:])
        named = one_hot(x[:, image:].argmax(-1), laws.shape[-1])  # (B, M, most)
        sure = torch.zeros_like(laws).masked_fill(~named, -torch.inf)
        return torch.where(source[:, image:, None], sure, laws)

    # -------------------------------------------------------------- samples

    def sample(
        self,
        x: Tensor,
        task: Task,
        generator: torch.Generator | None = None,
        *,
        order: Tensor | None = None,
        latent: Tensor | None = None,
        noise: Tensor | None = None,
        **reading: Any,
    ) -> Tensor:
        """Draw `x_T` given `x_S`: labels first, then patches given them.

        Args:
            x: (B, L, P) tokens; only source positions are read and checked.
            task: one for each row.
            generator: of the noise, which is drawn on its device and moved.
            order: (L,) or (B, L) ranks; None: labels first.
            latent: (B, latent), of a hybrid: to keep a sample's latent; None: drawn.
            noise: (B, L, noise), likewise.
            **reading: see `AnyConditionalTransformer.sample`; of a hybrid, how labels
                are drawn.

        Returns:
            (B, L, P): source tokens as they came, targets drawn, absent ones NaN.

        Raises:
            ValueError: if tokens, task, order or noise do not fit the model, or a
                source token is not finite, or no one-hot of its label.
        """
        self._check_labels(x, task, task.source)
        order = self._order() if order is None else order
        if self.maker is None:
            return super().sample(x, task, generator, order=order, **reading)
        drawn = self._draw_labels(x, task, generator, order, reading)
        fresh = self.draw_noise(len(x), generator)
        latent, noise = kept_noise(latent, noise, fresh)
        with torch.no_grad():
            made = self(drawn, task.source, task.target, latent, noise)
        return made.masked_fill(task.absent[..., None], torch.nan)

    def _draw_labels(
        self,
        x: Tensor,
        task: Task,
        generator: torch.Generator | None,
        order: Tensor,
        reading: dict[str, Any],
    ) -> Tensor:
        """The labels that are asked for, drawn one after the other, beside the source.

        Other positions mean nothing.
        """
        labels = Task._trusted(task.source, task.target & self.trunk.is_label)
        rows = labels.target.any(1).nonzero()[:, 0]
        order = torch.as_tensor(order, device=task.device)
        order = order.expand(task.source.shape)[rows]
        drawn = x.clone()
        drawn[rows] = super().sample(
            x[rows], labels[rows], generator, order=order, **reading
        )
        return drawn

    def draw_noise(
        self, batch: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Of a hybrid: (B, latent) of the samples and (B, L, noise) of the tokens."""
        return draw_noise(self.config, self.trunk.position, batch, generator)

    def forward(
        self, x: Tensor, source: Tensor, target: Tensor, latent: Tensor, noise: Tensor
    ) -> Tensor:
        """Of a hybrid: patches from noise, given source and labels, unchecked.

        Args:
            x: (B, L, P), read at source positions and at labels that are targets: these
                are taken as they are, real in training, drawn before in `sample`.
            source: (B, L) boolean.
            target: (B, L) boolean.
            latent: (B, latent), standard normal.
            noise: (B, L, noise), standard normal.

        Returns:
            (B, L, P): source and labels as they came, patches made, zeros elsewhere.
        """
        given, asked = self.trunk.labels_first(source, target)
        made = self.maker(self.trunk, x, given, asked, latent, noise)
        made = torch.where(asked[..., None], made, 0.0)
        return torch.where(given[..., None], x, made)

    def _order(self) -> Tensor:
        """The ranks of labels first, then patches: (L,)."""
        return torch.arange(self.length).roll(self.config.image)

    def _check_labels(self, x: Tensor, task: Task, read: Tensor) -> None:
        check_tokens(self.config, x, task, read)
        self.config.layout.check_labels(x, read)


class ImageLabelDiscriminator(Discriminator):
    """The judge `f(x; S, T)` of patches, to which all labels are given.

    A label that is a target counts as given, for real and for generated patches alike:
    this is the second factor of the chain rule. A row that asks for no patch has the
    logit 0.

    With a projection each given label `y_m` adds `<e(y_m), h_m>`, with the vector `h_m`
    at its token: of `log q(x|y) / p(x|y)` the part that compares `q(y|x)` with `p(y|x)`
    (Miyato and Koyama 2018; there `h` knows `x` only, here all that is given).

    Args:
        sizes: of the trunk.
        layout: of the tokens.
        projection: whether labels add logits.
    """

    def __init__(
        self, sizes: TransformerSizes, layout: Layout, projection: bool = False
    ) -> None:
        super().__init__(sizes, ImageLabelTrunk(sizes, layout))
        start_tables(self)
        symbols = sum(layout.choices)
        self.values = nn.Embedding(symbols, sizes.width) if projection else None
        if projection:
            nn.init.zeros_(self.values.weight)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B,) of samples (B, L, P) under tasks (B, L), unchecked."""
        given, asked = self.trunk.labels_first(source, target)
        some = asked.any(1)  # (B,)
        # a mean over nothing would be NaN, and its slope too
        pooled = torch.where(some[:, None], asked, given)
        judge = super().forward if self.values is None else self._projected
        return torch.where(some, judge(x, given, pooled), 0.0)

    def _projected(self, x: Tensor, given: Tensor, asked: Tensor) -> Tensor:
        """A logit of each token: patches by the head, each label by a vector."""
        first, shown = self.trunk.content.layout.image, given | asked
        hidden = self.trunk(x, given, asked, explicit=True, shown=shown).float()
        logits = (hidden * self.head.weight[0]).sum(-1) * asked / asked.sum(1, True)
        symbols = self.trunk.content.symbols(torch.where(given[..., None], x, 0.0))
        fits = (hidden[:, first:] * self.values(symbols)).sum(-1)  # (B, M)
        fits = fits * given[:, first:]
        return logits.sum(1) + fits.sum(1) + self.head.bias[0]  # (B,)


def start_tables(net: ImageLabelModel | ImageLabelDiscriminator) -> None:
    """What `start_large` is for weights, for the embedding of labels."""
    nn.init.normal_(net.trunk.content.labels.weight, std=0.5)


# ------------------------------------------------------------------ losses


def row_loss(model: AnyConditionalTransformer, x: Tensor, task: Task) -> Tensor:
    """`matching_loss` with a mean in each row first: every task counts the same.

    A classification has one target and a joint task many. In the mean over all targets
    of a batch the label is one token among many; here it counts as `q(S, T)` says.

        mean over rows of  - 1 / size(T) sum over t in T of  log p(x_t | x_S)   in nats
    """
    said = model.token_log_prob(x, task.source, task.target)  # (B, L)
    return _mean_by_row(said, task)


def number_loss(model: ImageLabelModel, x: Tensor, task: Task) -> Tensor:
    """`row_loss` with the nats of a patch divided by its `D` numbers.

    The density of a large patch has more nats than the chance of a label, and a larger
    slope. Here both weigh about the same, and the best model is where it was.
    """
    said = model.token_log_prob(x, task.source, task.target)  # (B, L)
    said = torch.where(model.trunk.is_label, said, said / model.config.pixels)
    return _mean_by_row(said, task)


def _mean_by_row(said: Tensor, task: Task) -> Tensor:
    """Minus the mean over the targets of each row, then over the rows."""
    return -(said.sum(1) / task.target.sum(1)).mean()


def label_loss(
    model: ImageLabelModel, x: Tensor, source: Tensor, target: Tensor
) -> Tensor:
    """Cross-entropy of the labels that are targets, `- log p(y | x_S)` in nats.

    In each row the mean over its labels, then the mean over all rows, of which those
    that ask for no label count 0. Patches that are asked for beside labels are absent:
    the chain rule comes to them later.
    """
    asked = target & model.trunk.is_label
    said = model.token_log_prob(x, source, asked).sum(1)  # (B,)
    return -(said / asked.sum(1).clamp(min=1)).mean()
