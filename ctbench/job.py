"""What a user asks for, and what one seed of it is as nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ctbench.data.stream import Stream
from ctbench.graph import Node, digest
from ctbench.method import Method
from ctbench.plan import Plan
from ctbench.plugins import Plugin


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a user asks for, before seeds.

    Args:
        method: name or path of a method.
        stream: name or path of a stream.
        model: "tiny", a Hugging Face id with @revision, or a folder; None for the recipe's own.
        recipe: name of one of the stream's recipes; None for its default.
        settings: changes of the protocol by key ("pretrain.tokens"), as texts.
        method_settings: hyper-parameters of the method by name.
        order: 0 for the stream's own order of domains, else a seeded permutation.
        allow_reorder: whether periods of time may be permuted.
        online: whether models and data may be fetched.
        control: whether the base trained on for as long on general text is scored as well.
    """

    method: str
    stream: str
    model: str | None = None
    recipe: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    method_settings: Mapping[str, Any] = field(default_factory=dict)
    order: int = 0
    allow_reorder: bool = False
    online: bool = False
    control: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """One seed of a job as nodes.

    Attributes:
        base: node of the untouched LM, None where the checkpoint is given.
        stages: the plan's stages in order.
        losses: held-out LM losses by source (stage number, `BASE`).
        cells: cells by (source, domain, fine-tuning seed); rows share them.
        control: the run of the control, whose plan has one stage on general text; None if it was not asked for.
    """

    job: Job
    seed: int
    stream: Stream
    plugin: Plugin
    method: Method
    plan: Plan
    base: Node | None
    stages: tuple[Node, ...]
    losses: Mapping[int, Node]
    cells: Mapping[tuple[int, str, int], Node]
    control: Run | None = None

    @cached_property
    def nodes(self) -> list[Node]:
        """Every node whose record the result needs."""
        own = [*([self.base] if self.base else []), *self.stages, *self.losses.values(), *self.cells.values()]
        return own + (self.control.nodes if self.control else [])

    @cached_property
    def key(self) -> str:
        """The key of the result: a digest of the nodes, the method and what is read off them."""
        return digest(
            {
                "nodes": sorted({node.key for node in self.nodes}),
                "method": self.plugin.name,
                "stream": self.stream.name,
                "metrics": {domain.name: domain.task.metric for domain in self.stream.domains},
                "plan": dataclasses.asdict(self.plan),
            }
        )
