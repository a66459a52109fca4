"""Oracle map: hypermap's maps of the word embeddings, told the domain; what knowing it could give.

A ceiling for `hypermap`, arXiv:2310.13024 being the source of the agreement: each domain has a map of its own. In its
stage the LM and the map learn; under the map of another domain, drawn at random, the LM agrees with its teacher. A cell
uses the map of its task's domain, which for a domain to come is still 0.

    L = L_lm(x | A_k) + agree_weight * KL(teacher(x | A_j) || LM(x | A_j)),  j another domain

Run it by its path: ctbench run --method tests/helpers/oracle_map.py --stream domain. Differs from the paper: it is told the
domain, so nothing is chosen and nothing disagrees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench import Backbone, Batch, Method, Traits, hyper
from ctbench.backbone.wordmap import LowRankMaps, WordMap
from ctbench.hypernetwork import agreement
from ctbench.masking import first_rows

if TYPE_CHECKING:
    from ctbench import Stage
    from ctbench.data.stream import Stream


class OracleMap(Method):
    """A map of the word embeddings for each domain, which is given."""

    paper: ClassVar[str] = "arXiv:2310.13024"
    traits: ClassVar[Traits] = Traits(needs_domain=True, grows=True)

    rank: int = hyper(32, low=1)
    """Rank of every map."""
    gain: float = hyper(16.0, low=0.0)
    """The maps move this many times as far as other weights do."""
    agree_weight: float = hyper(2.0, low=0.0)
    """Weight of the agreement with the teacher; 0 leaves it out."""
    random_fraction: float = hyper(0.5, low=0.0, high=1.0)
    """Share of each batch's rows that are run under another domain's map too."""

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        backbone.added["maps"] = MapTable(self, backbone, stream.names)
        backbone.prompter = "maps"
        return backbone

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        (domain,) = stage.domains
        table, rows = _table(stage.backbone), len(batch.input_ids)
        terms = {"lm": stage.backbone(batch, prompt=table.of(torch.full((rows,), table.names.index(domain)))).loss}
        others = [index for index, name in enumerate(table.names) if name != domain]
        if self.agree_weight and others:
            some = first_rows(batch, max(1, round(self.random_fraction * rows)))
            drawn = torch.from_numpy(stage.generator("other domains").choice(others, len(some.input_ids)))
            with torch.no_grad():
                teacher = stage.teacher(some, prompt=_table(stage.teacher).of(drawn))
            terms["agree"] = self.agree_weight * agreement(stage.backbone(some, prompt=table.of(drawn)), teacher)
        return terms

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(True)
        _table(backbone).requires_grad_(False)
        _table(backbone).selected = task
        return backbone


class MapTable(nn.Module):
    """One map per domain, of which one can be selected."""

    def __init__(self, method: OracleMap, backbone: Backbone, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.selected: str | None = None
        self.maps = LowRankMaps(backbone, num_maps=len(names), rank=method.rank, gain=method.gain, places="both")

    def of(self, domains: Tensor) -> WordMap:
        """Return the maps of domains [B] or []."""
        given: WordMap = self.maps(F.one_hot(domains, len(self.names)).float().to(self.maps.down["enter"].device))
        return given

    def forward(self, _backbone: Backbone, _batch: Batch) -> WordMap:
        """Return the selected map, for every text the same."""
        assert self.selected is not None
        return self.of(torch.tensor(self.names.index(self.selected)))


def _table(backbone: Backbone) -> MapTable:
    return cast(MapTable, backbone.added["maps"])
