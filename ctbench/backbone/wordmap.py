"""A map of the word embeddings for one pass: a mixture of low-rank maps, where words enter the LM and where they leave.

Legend: B batch, T tokens, D width, M (here) maps, r rank, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ctbench.backbone.batch import Prompt

if TYPE_CHECKING:
    from ctbench.backbone import Backbone


@dataclass(frozen=True)
class WordMap:
    """A mixture of linear maps I + sum_m shares_m down_m up_m, applied to word embeddings.

    Words enter as e (I + A) and features leave to the output embedding as h (I + A)^T, so under one context the LM is
    an ordinary one whose embedding matrices are W (I + A): see `baked`.

    Attributes:
        shares: [M], [B, M] or [B, T, M], for all texts, for each text or for each token; a row sums to 1.
        enter: (down [M, D, r], up [M, r, D]) for the input embeddings, or None to leave them as they are.
        leave: likewise for the output embedding, with its width D.
    """

    shares: Tensor
    enter: tuple[Tensor, Tensor] | None
    leave: tuple[Tensor, Tensor] | None

    @property
    def length(self) -> int:
        """0: a map takes no places in front of the text."""
        return 0

    def words(self, words: Tensor) -> Tensor:
        """Return the mapped embeddings [B, T, D] of words that enter."""
        if self.enter is None:
            return words
        down, up = self.enter
        return words + self._mixed(words, down, up, self._of_tokens(words))

    def features(self, features: Tensor, *, positions: Tensor | None, num_tokens: int) -> Tensor:
        """Return the mapped features that the output embedding reads.

        Args:
            features: [B, T, D], or [1, n, D] gathered.
            positions: [n] flat places of gathered features in the text, or None.
            num_tokens: T.
        """
        if self.leave is None:
            return features
        down, up = self.leave
        shares = self._of_tokens(features)
        if positions is not None and self.shares.dim() == 2:
            shares = self.shares.index_select(0, positions.div(num_tokens, rounding_mode="floor"))
        elif positions is not None and self.shares.dim() == 3:
            shares = self.shares.flatten(0, 1).index_select(0, positions)
        return features + self._mixed(features, up.transpose(1, 2), down.transpose(1, 2), shares)

    def baked(self, weight: Tensor, *, leaves: bool = False) -> Tensor:
        """Return the embedding matrix [V, D] of an ordinary LM that equals this one under shares [M].

        Args:
            weight: the input embeddings, or the output embedding's weight.
            leaves: whether it is the output embedding's.
        """
        maps = self.leave if leaves else self.enter
        if maps is None:
            return weight
        if self.shares.dim() != 1:
            raise ValueError(f"only one context can be baked in; these shares are {list(self.shares.shape)}")
        return weight + self._mixed(weight, *maps, self.shares)

    def detach(self) -> WordMap:
        """Return the map with shares that have no graph."""
        return WordMap(self.shares.detach(), self.enter, self.leave)

    def _of_tokens(self, words: Tensor) -> Tensor:
        """Return shares that broadcast over [B, T, M]."""
        return self.shares.unsqueeze(1) if self.shares.dim() == 2 and words.dim() == 3 else self.shares

    @staticmethod
    def _mixed(vectors: Tensor, first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
        """Return sum_m shares_m (vectors @ first_m @ second_m)."""
        num_maps, width, rank = first.shape
        inner = vectors @ first.transpose(0, 1).reshape(width, num_maps * rank)
        inner = inner.view(*inner.shape[:-1], num_maps, rank) * shares.unsqueeze(-1).to(inner.dtype)
        mixed: Tensor = inner.flatten(-2) @ second.reshape(num_maps * rank, -1)
        return mixed


class LowRankMaps(nn.Module):
    """M maps of rank r as factors, for where words enter an LM and where they leave; all maps are 0 at the start.

    An output embedding that is tied to the input embeddings shares their maps, another one has its own.

    Args:
        backbone: the LM.
        num_maps: M.
        rank: r.
        gain: a map is gain times the product of its factors, so it moves so many times as far as other weights do.
        places: "both", where words enter and leave, or "in" or "out" alone.
    """

    def __init__(self, backbone: Backbone, *, num_maps: int, rank: int, gain: float, places: str) -> None:
        super().__init__()
        words: Tensor = backbone.model.get_input_embeddings().weight
        output: Tensor = backbone.model.get_output_embeddings().weight
        self.gain = gain
        self.is_shared = places == "both" and words is output
        widths = {} if places == "out" else {"enter": words.shape[1]}
        if places != "in" and not self.is_shared:
            widths["leave"] = output.shape[1]
        factors = {name: (torch.randn(num_maps, width, rank), width) for name, width in widths.items()}
        self.down = nn.ParameterDict({name: down / rank**0.5 for name, (down, _) in factors.items()})
        self.up = nn.ParameterDict({name: torch.zeros(num_maps, rank, width) for name, (_, width) in factors.items()})

    def forward(self, shares: Tensor) -> WordMap:
        """Return the mixture that shares [..., M] give."""
        pairs = {name: (down, self.gain * self.up[name]) for name, down in self.down.items()}
        enter = pairs.get("enter")
        return WordMap(shares, enter, enter if self.is_shared else pairs.get("leave"))


Condition = Prompt | WordMap
"""What a pass is conditioned on: vectors in front of the text, or a map of the word embeddings."""
Given = Condition | Tensor | Literal["own"] | None
"""What a pass can be given: a condition, a prompt at the input, the backbone's own or none."""
