"""What a text is about: one vector, made from a frozen table of its words, and running means of such vectors.

The context of some texts is the mean over their ordinary tokens of the base's word embeddings, whitened, each weighted
by how rare the word is (a / (a + q), smooth inverse frequency: Arora, Liang, Ma, ICLR 2017); without the weights the
contexts of two domains have a cosine near 1. Whitening makes all directions of the embeddings count the same (Su et al.
2021, arXiv:2103.15316); without it some domains still look alike. How frequent a word is, q, is what the base expects on
average in the text of the first stage. Neither of two simpler ways will do. Counts in that text call every word rare
that it lacks, so all later domains are the first one's opposite, and alike. What the base expects on a text of masks is
far from any text (total variation 0.4 to 0.55 on tiny): words wrongly taken for rare made up most of a context.

Legend: B batch, T tokens, V vocabulary, E width of a context.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch

RARITY = 1e-4
"""a: a word this frequent counts half."""
MAX_WIDTH = 128
"""E at most, of whitened and random vectors; the directions of largest variance are kept."""


class Contexts(nn.Module):
    """Reads texts into sums that contexts are made of; keeps a running sum.

    The vectors depend on the untouched base, random ones on the seed too, and every `Method.build` makes them anew, so they
    are not stored.

    Args:
        backbone: the untouched base.
        kind: "whitened" embeddings, "plain" ones (centred only), or a "random" vector for every word.

    Attributes:
        vectors: [V, E] of the words.
        weights: [V] how much each word counts: all alike before `weigh`, and special tokens never.
        total: [E] running sum of what was observed.
        count: running sum of weights.
    """

    vectors: Tensor
    weights: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, backbone: Backbone, *, kind: str = "whitened") -> None:
        super().__init__()
        self.hides_predicted = backbone.objective == "mlm"
        embeddings: Tensor = backbone.model.get_input_embeddings().weight
        vectors = embeddings.detach().float().cpu()[: backbone.vocab_size]
        weights = torch.ones(len(vectors))
        weights[sorted(backbone.special_ids)] = 0.0
        if kind == "random":
            vectors = torch.randn(len(vectors), min(vectors.shape[1], MAX_WIDTH))
        vectors = vectors - vectors[weights > 0].mean(0)
        if kind == "whitened":
            vectors = vectors @ whitening(vectors[weights > 0], max_width=MAX_WIDTH)
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("weights", weights)
        self.register_buffer("total", torch.zeros(vectors.shape[1]))
        self.register_buffer("count", torch.zeros(()))

    @property
    def width(self) -> int:
        """E."""
        return self.vectors.shape[1]

    @torch.no_grad()
    def weigh(self, frequency: Tensor) -> None:
        """Weigh every word by how rare it is.

        Args:
            frequency: [V] of each word, in any unit; what special tokens have is left out.
        """
        frequency = frequency.to(self.weights) * (self.weights > 0)
        rare = RARITY / (RARITY + frequency / frequency.sum().clamp(min=1e-12))
        self.weights.copy_(rare * (self.weights > 0))

    @torch.no_grad()
    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted vector of each token [B, T, E] and its weight [B, T, 1].

        Padding has none, nor have an encoder's predicted places: random words stand at some of them, most of them rare.
        """
        weights = self.weights[batch.input_ids]
        if batch.attention_mask is not None:
            weights = weights * batch.attention_mask
        if self.hides_predicted and batch.positions is not None:
            weights = weights.flatten().index_fill(0, batch.positions, 0.0).view_as(weights)
        weights = weights.unsqueeze(-1)
        return F.embedding(batch.input_ids, self.vectors) * weights, weights

    @torch.no_grad()
    def observe(self, batch: Batch) -> None:
        """Let a batch enter the running sum."""
        vectors, weights = self.read(batch)
        self.total += vectors.sum((0, 1))
        self.count += weights.sum()

    @torch.no_grad()
    def forget(self) -> None:
        """Begin a new running sum."""
        self.total.zero_()
        self.count.zero_()

    def running(self) -> Tensor:
        """Return the context [E] of all that was observed."""
        return to_context(self.total, self.count)


@torch.no_grad()
def expected_words(backbone: Backbone, batches: Iterable[Batch]) -> Tensor:
    """Return how often [V] an LM without a prompt expects each word at the predicted places of some texts, summed."""
    total = torch.zeros(backbone.vocab_size, device=next(backbone.parameters()).device)
    for batch in batches:
        logits = backbone(batch, prompt=None).logits
        assert logits is not None
        total += logits.float().softmax(-1).sum(0)[: len(total)]
    return total


def to_context(total: Tensor, count: Tensor) -> Tensor:
    """Return contexts [..., E], of root mean square 1, from sums [..., E] and their weights [..., 1] or []."""
    return unit(total / count.clamp(min=1e-6))


def unit(context: Tensor) -> Tensor:
    """Return contexts [..., E] of root mean square 1; what is 0 stays so."""
    scaled: Tensor = F.normalize(context, dim=-1) * context.shape[-1] ** 0.5
    return scaled


def distance(one: Tensor, other: Tensor) -> Tensor:
    """Return 1 - cosine of contexts, at least 0."""
    return (1.0 - F.cosine_similarity(one, other, dim=-1)).clamp(min=0.0)


def whitening(vectors: Tensor, *, max_width: int) -> Tensor:
    """Return the matrix [D, E] after which centred vectors [n, D] have variance 1 in every one of E directions.

    Where D is small enough it is the inverse square root of their covariance (ZCA), which a little noise changes a
    little only. Single eigenvectors turn with noise where eigenvalues are close, so each processor would get contexts of
    its own; they are what is left where directions must be dropped.

    Args:
        vectors: centred.
        max_width: keep at most so many directions, those of largest variance.
    """
    precise = vectors.double()
    values, directions = torch.linalg.eigh(precise.T @ precise / max(1, len(vectors)))
    scale = values.clamp(min=1e-4 * float(values[-1])).rsqrt()
    if len(values) <= max_width:
        symmetric: Tensor = directions * scale @ directions.T
        return symmetric.to(vectors.dtype)
    scale, directions = scale[-max_width:], directions[:, -max_width:]
    # An eigenvector's sign is arbitrary: its largest entry decides it, on every machine.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    whitened: Tensor = directions * largest.sign() * scale
    return whitened.to(vectors.dtype)
