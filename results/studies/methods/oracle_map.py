"""Oracle map: hypermap's maps of the word embeddings, chosen by the domain's name and not by the text.

No method of a paper but a ceiling of `hypermap`: what a map of the words can give if the right one is chosen with
certainty. Each domain has a map of its own, with the rank, the gain and the agreement of `hypermap`'s defaults;
`domain_table.py` has the loss. A cell uses the map of its task's domain; a domain to come has none.

Differs from hypermap: the domain is given, so there is no hypernetwork, no mixture, no disagreement and no keeping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from domain_table import DomainTable, adapt, begin, insert, terms
from torch import Tensor
from torch.nn import functional as F

from ctbench import Backbone, Batch, LowRankMaps, Method, Traits, WordMap, hyper

if TYPE_CHECKING:
    from ctbench import Stage, Stream


class OracleMap(Method):
    """A map of the word embeddings for each domain, which is given."""

    traits: ClassVar[Traits] = Traits(needs_domain=True, grows=True)

    rank: int = hyper(32, low=1)
    """Rank of every map."""
    gain: float = hyper(16.0, low=0.0)
    """The maps move this many times as far as other weights do."""
    agree_weight: float = hyper(3.0, low=0.0)
    """Weight of the agreement with the teacher; 0 leaves it out."""
    random_fraction: float = hyper(0.5, low=0.0, high=1.0)
    """Share of each batch's rows that are run under another condition too, in [0, 1], one row at least."""

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        return insert(backbone, Maps(self, backbone, stream.names))

    def begin(self, stage: Stage) -> None:
        begin(stage)

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        return terms(self, stage, batch)

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        return adapt(backbone, task)


class Maps(DomainTable):
    """One low-rank map per domain."""

    def __init__(self, method: OracleMap, backbone: Backbone, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.maps = LowRankMaps(backbone, num_maps=len(names), rank=method.rank, gain=method.gain, places="both")

    def make(self, index: int) -> WordMap:
        """Return the map of a domain."""
        shares = F.one_hot(torch.tensor(index, device=self.is_trained.device), len(self.names)).float()
        given: WordMap = self.maps(shares)
        return given
