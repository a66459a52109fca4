"""From the inputs of a job to the graph of one seed: which nodes there are, and where each lies in the matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from ctbench.data.schema import GENERAL
from ctbench.data.split import text_digest
from ctbench.data.stream import Stream
from ctbench.engine.budget import stage_place, stage_steps, steps_by_tokens
from ctbench.engine.edited import cell_recipe, loss_recipe, stage_recipe
from ctbench.engine.identity import (
    CellIdentity,
    Identity,
    LossIdentity,
    MeasuredLM,
    MethodIdentity,
    StageIdentity,
)
from ctbench.engine.inputs import Inputs
from ctbench.engine.labels import ALONE, Labels
from ctbench.engine.node import Lookup, Node, digest, in_order
from ctbench.engine.starts import Trainer
from ctbench.errors import BadConfig
from ctbench.machine.launched import num_ranks
from ctbench.plans import BASE, Plan
from ctbench.randomness import seed_from
from ctbench.training.schedules import trunk_steps

NOBODY = MethodIdentity(name="", version=1, digest="", settings={})
"""The method of the control, which trains on general text as `naive` would."""
UNSEEDED: Final = 0
"""Seed of a cell that is scored without fine-tuning: all fine-tuning seeds share it, because none changes its score."""


@dataclass(frozen=True, kw_only=True)
class RunGraph:
    """One seed of a job as nodes.

    Attributes:
        inputs: the job with what was read for it.
        seed: the run's seed.
        plan: the method's plan, or that of the control.
        stages: the plan's stages in order; under a schedule with trunks, their branches.
        lms: what the rows measure: the stages, or those of the method that they start as.
        general: held-out losses of general text by source; empty without general text.
        trunks: what later stages go on from where it is not the stage itself.
        losses: held-out LM losses by source (stage number, `BASE`).
        cells: cells by (source, domain, fine-tuning seed); rows share them, and seeds where nothing is fine-tuned.
        control: the graph of the control, whose plan has one stage on general text; None if it was not asked for.
        label: what tells the run from the others of its study; empty if it is the only one.
    """

    inputs: Inputs
    seed: int
    plan: Plan
    stages: tuple[Node, ...]
    lms: tuple[Node, ...]
    losses: Mapping[int, Node]
    cells: Mapping[tuple[int, str, int], Node]
    trunks: tuple[Node, ...] = ()
    general: Mapping[int, Node] = field(default_factory=dict)
    control: RunGraph | None = None
    label: str = ""

    @property
    def stream(self) -> Stream:
        """The stream, its domains in the order of the run."""
        return self.inputs.stream

    @property
    def base(self) -> Node | None:
        """Node of the untouched LM; None for a given checkpoint and a shipped base."""
        return self.inputs.base

    @cached_property
    def nodes(self) -> list[Node]:
        """Every node whose record the result needs."""
        added = [*self.general.values(), *(self.control.general.values() if self.control else ())]
        return [*self.key_nodes, *added]

    @property
    def key_nodes(self) -> list[Node]:
        """The nodes that name the result; retention came later and does not, so that results keep their names."""
        first = [*(in_order([self.base]) if self.base else []), *self.trunks]
        shared = [lm for lm, stage in zip(self.lms, self.stages, strict=True) if lm is not stage]
        own = [*first, *shared, *self.stages, *self.losses.values(), *self.cells.values()]
        return own + (self.control.key_nodes if self.control else [])

    @cached_property
    def key(self) -> str:
        """The key of the result: a digest of the nodes, the method and what is read off them."""
        stream = self.inputs.stream
        return digest(
            {
                "nodes": sorted({node.key for node in self.key_nodes}),
                "method": self.inputs.plugin.name,
                "stream": stream.name,
                "metrics": {domain.name: domain.task.metric for domain in stream.domains},
                "plan": dataclasses.asdict(self.plan),
                **({"protocol": "equal compute"} if stream.recipe.pretrain.equal_compute else {}),
            }
        )


def expand(inputs: Inputs, seed: int, labels: Labels = ALONE) -> RunGraph:
    """Return the graph of a run.

    Args:
        inputs: of the job.
        seed: the run's seed.
        labels: what the titles of the nodes begin with.

    Raises:
        BadConfig: the job asks for a control and the stream has no general text.
    """
    run = _Expansion(
        inputs=inputs,
        plan=inputs.plan,
        steps=stage_steps(inputs),
        own=inputs.trainer,
        start=inputs.first_trainer,
        seed=seed,
        labels=labels,
    )
    control = _control(inputs, seed, labels) if inputs.job.control else None
    return dataclasses.replace(run.graph(), control=control, label=labels.run)


def _control(inputs: Inputs, seed: int, labels: Labels) -> RunGraph:
    if inputs.stream.general is None:
        raise BadConfig(f"stream {inputs.stream.name} has no general text (key `general`), which --control trains on")
    count = len(inputs.stream.names)
    plan = Plan(stages=((GENERAL,),), parents=(BASE,), cells=((BASE,) * count, (1,) * count))
    # A seed of its own: the base drew from the same text under `BASE_SEED`, which seed 0 would draw from again.
    own = seed_from(seed, [GENERAL], "control")
    labels = dataclasses.replace(labels, run=f"control, {labels.run}" if labels.run else "control")
    steps = (steps_by_tokens(inputs.stream, (GENERAL,)),)
    nobody = Trainer(identity=NOBODY, lookup=inputs.lookup)
    return _Expansion(inputs=inputs, plan=plan, steps=steps, own=nobody, seed=own, labels=labels).graph()


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """The nodes of a stage: of its record, of the LM that rows measure, and of what a next stage goes on from.

    They are one node for most methods and schedules. A trunk is what a next stage goes on from beside the branch, which is
    measured; a first stage that another method trains is measured as such, and its memory is a node that holds the rest.
    """

    whole: Node
    lm: Node
    onward: Node


@dataclass(frozen=True, kw_only=True)
class _Expansion:
    """Makes the nodes of one plan under one seed; `own` trains its stages, `start` the first ones if it is not None."""

    inputs: Inputs
    plan: Plan
    steps: tuple[int, ...]
    own: Trainer
    start: Trainer | None = None
    seed: int
    labels: Labels

    def graph(self) -> RunGraph:
        inputs, plan, names = self.inputs, self.plan, self.inputs.stream.names
        made: list[_Stage] = []
        for number, parent in enumerate(plan.parents, start=1):
            made.append(self._stage(number, made[parent - 1].onward if parent else inputs.base))
        stages, lms = [stage.whole for stage in made], [stage.lm for stage in made]
        wanted = {
            (source, name) for row in plan.cells for source, name in zip(row, names, strict=True) if source is not None
        }
        sources = sorted({source for source, _ in wanted})
        return RunGraph(
            inputs=inputs,
            seed=self.seed,
            plan=plan,
            stages=tuple(stages),
            lms=tuple(lms),
            general={
                source: self._loss(source, lms, (GENERAL,))
                for source in (sources if inputs.stream.general is not None else ())
            },
            trunks=tuple(stage.onward for stage in made if stage.onward is not stage.whole),
            losses={source: self._loss(source, lms, tuple(sorted(names))) for source in sources},
            cells={
                (source, name, finetune_seed): self._cell(source, name, finetune_seed, lms)
                for source, name in sorted(wanted)
                for finetune_seed in inputs.stream.recipe.finetune.seeds_of(is_base=source == BASE)
            },
        )

    def _stage(self, number: int, parent: Node | None) -> _Stage:
        """Return the nodes of a stage that goes on from `parent`."""
        stream, domains = self.inputs.stream, self.plan.stages[number - 1]
        recipe = stream.recipe.pretrain
        num_steps = self.steps[number - 1]
        length = trunk_steps(recipe, num_steps)
        is_shared = self.start is not None and self.plan.parents[number - 1] == BASE and length == num_steps
        probed = self.inputs.probed(self.plan, number) if recipe.probes else None
        trainer = self.start if self.start is not None and is_shared else self.own
        identity = StageIdentity(
            backbone=None if parent else self.inputs.backbone,
            names=stream.names,
            method=trainer.identity,
            domains=domains,
            text=tuple(self.inputs.text.get(name) or text_digest(stream, name) for name in domains),
            recipe=stage_recipe(recipe),
            num_steps=num_steps,
            arithmetic=self.inputs.arithmetic["pretrain"],
            seed=self.seed,
            build_seed=self.seed,
            place=stage_place(stream, self.plan, self.steps, number),
            probed=probed,
            general=trainer.general,
            ranks=num_ranks() if num_ranks() > 1 else None,
            noise=self.inputs.readings.noise,
            logits=self.inputs.readings.losses if probed else None,
        )
        parents, title = (parent,) if parent else (), f"stage {number} ({', '.join(domains)})"
        if is_shared:
            lm = self._node(identity, parents, recipe.threads, title=title)
            ending = dataclasses.replace(identity, method=self.own.identity, span=(num_steps, num_steps))
            node = self._node(ending, (*parents, lm), recipe.threads, title=f"memory after {title}")
            return _Stage(whole=node, lm=lm, onward=node)
        if length == num_steps:
            node = self._node(identity, parents, recipe.threads, title=title)
            return _Stage(whole=node, lm=node, onward=node)
        of_trunk, of_branch = (dataclasses.replace(identity, span=span) for span in ((0, length), (length, num_steps)))
        trunk = self._node(of_trunk, parents, recipe.threads, title=f"trunk of {title}")
        branch = self._node(of_branch, (*parents, trunk), recipe.threads, title=title)
        return _Stage(whole=branch, lm=branch, onward=trunk)

    def _loss(self, source: int, lms: list[Node], names: tuple[str, ...]) -> Node:
        recipe, stream = self.inputs.stream.recipe.pretrain, self.inputs.stream
        identity = LossIdentity(
            lm=self._lm(source, lms),
            trained_on=self.plan.stages[source - 1] if source != BASE else (),
            domains=names,
            text=tuple(self.inputs.text.get(name) or text_digest(stream, name) for name in names),
            recipe=loss_recipe(recipe),
            arithmetic=dataclasses.replace(self.inputs.arithmetic["pretrain"], compiled=False),
            logits=self.inputs.readings.losses,
        )
        what = "general LM loss" if names == (GENERAL,) else "LM loss"
        title = f"{what} after stage {source}" if source else f"{what} of the base"
        return self._node(identity, self._parents(source, lms), recipe.threads, title=title)

    def _cell(self, source: int, name: str, finetune_seed: int, lms: list[Node]) -> Node:
        recipe = self.inputs.stream.recipe.finetune
        is_zero_shot = self.inputs.stream.domain(name).task.zero_shot
        identity = CellIdentity(
            lm=self._lm(source, lms),
            domain=name,
            task=self.inputs.tasks[name],
            recipe=cell_recipe(recipe),
            arithmetic=self.inputs.arithmetic["finetune"],
            seed=UNSEEDED if is_zero_shot else finetune_seed,
            pairs=self.inputs.readings.pairs.get(name),
            logits=self.inputs.readings.cells.get(name),
        )
        how = "without fine-tuning" if is_zero_shot else f"fine-tuning seed {finetune_seed}"
        title = f"cell {name} in row {source}, {how}"
        return self._node(identity, self._parents(source, lms), recipe.threads, title=title)

    def _node(self, identity: Identity, parents: tuple[Node, ...], threads: int, *, title: str) -> Node:
        lookup, label = self._whose(identity)
        lookup = dataclasses.replace(lookup, threads=threads)
        title = f"{label}: {title}" if label else title
        return Node(identity=identity, lookup=lookup, parents=parents, title=title, label=label)

    def _whose(self, identity: Identity) -> tuple[Lookup, str]:
        """Return where the method of a node is found, and what the node's title begins with."""
        assert identity.kind != "base"
        method = identity.method if isinstance(identity, StageIdentity) else identity.lm.method
        if method is None:
            return dataclasses.replace(self.own.lookup, method=None), self.labels.base
        if self.start is not None and method is self.start.identity:
            return self.start.lookup, self.labels.start
        return self.own.lookup, self.labels.run

    def _parents(self, source: int, lms: list[Node]) -> tuple[Node, ...]:
        node = self.inputs.base if source == BASE else lms[source - 1]
        return (node,) if node else ()

    def _lm(self, source: int, lms: list[Node]) -> MeasuredLM:
        backbone = None if self._parents(source, lms) else self.inputs.backbone
        if source == BASE:
            return MeasuredLM(stage=BASE, backbone=backbone)
        trained = lms[source - 1].identity
        assert isinstance(trained, StageIdentity)
        return MeasuredLM(stage=source, backbone=backbone, method=trained.method, build_seed=self.seed)
