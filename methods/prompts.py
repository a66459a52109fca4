"""Prompts: learn one soft prompt per domain, the LM is frozen.

Lester, Al-Rfou, Constant, 2021, arXiv:2104.08691 (prompt tuning, vectors at the input); Li, Liang, 2021,
arXiv:2101.00190 and Liu et al. 2021, arXiv:2110.07602 (vectors in every layer). P vectors stand in front of the text.
In stage k only the prompt of domain k learns, by the LM loss; the LM and the other prompts stay as they were, so
nothing is forgotten:

    L = L_lm(theta_0; x | p_k)

A cell puts the prompt of its task's domain in front, from that domain's stage on; before, there is none to choose and
the cell is that of the untouched LM. So the domain of a task must be known.

Differs from the papers: they tune a prompt on labelled tasks with the LM frozen throughout, here the LM loss trains it
and in cells everything trains unless `cell_trains` says otherwise; it starts as noise and not from word vectors; they
use learning rates up to 0.3 for prompts alone, here the recipe's holds for every method and `gain` makes up for it: a
prompt is gain times its parameter; prompt and text share position ids, peft's text goes on behind the prompt; `deep`
replaces hidden vectors in front of each layer, where prefix tuning gives keys and values. Written here and not taken
from peft, whose prompts belong to one task and one head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn

from ctbench import Backbone, Batch, Method, Plan, Prompt, Traits, hyper, one_per_domain
from ctbench.errors import BadConfig

if TYPE_CHECKING:
    from ctbench import Stage, Stream


class Prompts(Method):
    """A prompt per domain learns in front of the frozen LM."""

    paper: ClassVar[str] = "arXiv:2104.08691"
    traits: ClassVar[Traits] = Traits(needs_domain=True, grows=True)

    prompt_length: int = hyper(16, low=1, high=256, tune=(4, 16, 32))
    """P, vectors in front of the text."""
    deep: bool = hyper(True)
    """Whether every layer gets vectors of its own, or only the input."""
    scale: float = hyper(0.5, low=0.0)
    """Standard deviation of the vectors at the start."""
    gain: float = hyper(10.0, low=0.1, high=1000.0, tune=(1.0, 3.0, 10.0, 30.0))
    """The vectors move this many times as far as other weights do at the same learning rate."""
    cell_trains: str = hyper("all", choices=("all", "added"))
    """What a cell fine-tunes beside its head: the whole LM with the prompt of its domain, or the prompt alone."""

    def plan(self, stream: Stream) -> Plan:
        return one_per_domain(stream.names, goes_on=True)

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        backbone.requires_grad_(False)
        shape: tuple[int, ...] = (self.prompt_length, backbone.width)
        if self.deep:
            shape = (len(backbone.layers), self.prompt_length, backbone.hidden_size)
        backbone.added["prompts"] = PromptTable(self, shape, stream.names)
        backbone.prompter = "prompts"
        return backbone

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        (domain,) = stage.domains
        loss = stage.backbone(batch, prompt=_table(stage.backbone).prompt_of(domain)).loss
        assert loss is not None
        return {"lm": loss}

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        backbone.requires_grad_(self.cell_trains == "all")
        _table(backbone).select(task)
        return backbone


class PromptTable(nn.Module):
    """One prompt per domain, of which one can be selected as the LM's own."""

    def __init__(self, method: Prompts, shape: tuple[int, ...], names: tuple[str, ...]) -> None:
        super().__init__()
        self.method = method
        self.names = names
        self.selected: str | None = None
        start = method.scale / method.gain
        self.vectors = nn.ParameterList([nn.Parameter(start * torch.randn(shape)) for _ in names])

    def forward(self, _backbone: Backbone, _batch: Batch) -> Prompt:
        """Return the selected prompt, for every text the same."""
        if self.selected is None:
            raise BadConfig(f"no prompt is selected; call adapt with one of the domains {', '.join(self.names)}")
        return self.prompt_of(self.selected)

    def prompt_of(self, domain: str) -> Prompt:
        """Return the prompt of a domain."""
        return Prompt(self.method.gain * self.vectors[self.names.index(domain)], self.method.deep)

    def select(self, domain: str) -> None:
        """Make a domain's prompt the LM's own and the only one that trains."""
        self.selected = domain
        for name, vectors in zip(self.names, self.vectors, strict=True):
            vectors.requires_grad_(name == domain)


def _table(backbone: Backbone) -> PromptTable:
    return cast(PromptTable, backbone.added["prompts"])
