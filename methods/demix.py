"""DEMix: train one feed-forward expert per domain, the rest of the LM is frozen.

Gururangan, Lewis, Holtzman, Smith, Zettlemoyer, 2021, arXiv:2108.05036 (DEMix layers). The feed-forward networks of
all layers together are an expert. Every domain gets one of its own, a copy of the untouched LM's that learns from
that domain's text alone; attention, embeddings and head are shared by all, so nothing is forgotten and an expert can
be taken out again:

    expert_j = argmin L_lm(theta_0, expert; x_j) from the untouched LM's expert

A cell fine-tunes the LM with the expert of its task's domain, from that domain's stage on; before, there is none and
the cell is that of the untouched LM. So the domain of a task must be known, and T domains cost T experts.

Differs from the paper, told from memory: it trains the shared parts and the experts of many domains together before
it adds experts to the frozen LM, as we do from the start; a new expert of its begins as the nearest one, ours as the
untouched LM's, so that the order of the domains does not matter; it also mixes the experts of known domains for text
of an unknown one, by how likely each makes the text, where we fall back on the untouched LM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctbench import Method, Plan, Traits, hyper, one_per_domain

if TYPE_CHECKING:
    from ctbench import Backbone, Stream


class DEMix(Method):
    """One feed-forward expert per domain learns, the rest is frozen."""

    paper: ClassVar[str] = "arXiv:2108.05036"
    traits: ClassVar[Traits] = Traits(needs_domain=True, grows=True)
    needs_parts: ClassVar[bool] = True

    cell_trains: str = hyper("all", choices=("all", "expert"))
    """What a cell fine-tunes beside its head: the whole LM with the expert of its domain, or the expert alone."""

    def plan(self, stream: Stream) -> Plan:
        return one_per_domain(stream.names)

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        return _train_expert(backbone.requires_grad_(False))

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        return _train_expert(backbone.requires_grad_(self.cell_trains == "all"))


def _train_expert(backbone: Backbone) -> Backbone:
    for _, projection in backbone.parts("ffn_in") + backbone.parts("ffn_out"):
        projection.requires_grad_(True)
    return backbone
