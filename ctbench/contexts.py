"""What a text is about: one vector, made from a frozen table of its words, and running means of such vectors.

The context of some texts is the mean over their ordinary tokens of the base's word embeddings, whitened, each weighted
by how rare the word is (a / (a + q), smooth inverse frequency: Arora, Liang, Ma, ICLR 2017). Whitening makes all
directions of the embeddings count the same (Su et al. 2021, arXiv:2103.15316); without it the contexts of two domains
have a cosine near 1. How frequent a word is, q, is the base's own guess, so that no text is read for it. The guess is
good enough for weights and no more: contexts that are centred by the words it expects (total variation from general
text: 0.4 to 0.5 on tiny) all point to where it errs, with a cosine of 0.98 between domains instead of 0.75.

Legend: B batch, T tokens, V vocabulary, E width of a context.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch

RARITY = 1e-4
"""a: a word this frequent counts half."""
MAX_WIDTH = 128
"""E at most, of whitened and random vectors; the directions of largest variance are kept."""
_GUESSES = 256


class Contexts(nn.Module):
    """Reads texts into sums that contexts are made of; keeps a running sum.

    The table depends on the untouched base, random vectors on the seed too, and every `Method.build` makes it anew, so it is
    not stored.

    Args:
        backbone: the untouched base.
        kind: "whitened" embeddings, "plain" ones (centred only), or a "random" vector for every word.

    Attributes:
        table: [V, E] weighted vectors of the words; special tokens have none.
        weights: [V] how much each word counts.
        total: [E] running sum of what was observed.
        count: running sum of weights.
    """

    table: Tensor
    weights: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, backbone: Backbone, *, kind: str = "whitened") -> None:
        super().__init__()
        frequencies = guess_frequencies(backbone)
        weights = RARITY / (RARITY + frequencies)
        embeddings: Tensor = backbone.model.get_input_embeddings().weight
        vectors = embeddings.detach().float().cpu()[: len(weights)]
        weights = weights[: len(vectors)]
        weights[sorted(backbone.special_ids)] = 0.0
        if kind == "random":
            vectors = torch.randn(len(vectors), min(vectors.shape[1], MAX_WIDTH))
        vectors = vectors - vectors[weights > 0].mean(0)
        if kind == "whitened":
            vectors = vectors @ whitening(vectors[weights > 0], max_width=MAX_WIDTH)
        self.register_buffer("table", vectors * weights.unsqueeze(1), persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("total", torch.zeros(vectors.shape[1]))
        self.register_buffer("count", torch.zeros(()))

    @property
    def width(self) -> int:
        """E."""
        return self.table.shape[1]

    @torch.no_grad()
    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted vector of each token [B, T, E] and its weight [B, T, 1]; padding has none."""
        vectors, weights = F.embedding(batch.input_ids, self.table), self.weights[batch.input_ids].unsqueeze(-1)
        if batch.attention_mask is None:
            return vectors, weights
        mask = batch.attention_mask.unsqueeze(-1)
        return vectors * mask, weights * mask

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


def to_context(total: Tensor, count: Tensor) -> Tensor:
    """Return contexts [..., E], of root mean square 1, from sums [..., E] and their weights [..., 1] or []."""
    return unit(total / count.clamp(min=1e-6))


def unit(context: Tensor) -> Tensor:
    """Return contexts [..., E] of root mean square 1; what is 0 stays so."""
    scaled: Tensor = F.normalize(context, dim=-1) * context.shape[-1] ** 0.5
    return scaled


@torch.no_grad()
def guess_frequencies(backbone: Backbone) -> Tensor:
    """Return how frequent the base expects every token to be, [V], summing to 1.

    An encoder is shown a text of masks; a decoder is asked what follows each of `_GUESSES` tokens spread over the
    vocabulary.
    """
    was_training, device = backbone.training, backbone.device
    backbone.eval()
    if backbone.objective == "mlm":
        length = min(16, backbone.max_length or 16)
        ids = torch.full((1, length), backbone.mask_id, device=device)
    else:
        ids = torch.linspace(0, backbone.vocab_size - 1, _GUESSES, device=device).long().unsqueeze(1)
    logits = backbone(Batch(input_ids=ids, positions=torch.arange(ids.numel(), device=device)), prompt=None).logits
    backbone.train(was_training)
    shares: Tensor = logits.float().softmax(-1).mean(0)
    return shares.cpu()


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
