"""From a job to the graph of its runs: which nodes a method on a stream asks for, and where each lies in the matrix."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ctbench.checkpoint import TINY, backbone_digest, model_type
from ctbench.data.schema import GENERAL
from ctbench.data.sources import fingerprint, task_fingerprint
from ctbench.data.stream import PretrainRecipe, Stream, reorder
from ctbench.errors import BadConfig, BadPlugin, CTBenchError
from ctbench.families import require_family
from ctbench.gpu import accelerator
from ctbench.graph import Node, digest, plain
from ctbench.job import Job, Run
from ctbench.method import Method, configure
from ctbench.plan import BASE, Plan
from ctbench.plugins import find_plugin, get_stream, load_class
from ctbench.precision import resolve_precision
from ctbench.randomness import seed_from
from ctbench.source import source_digest

BASE_SEED = 0
"""The base belongs to the stream and its language, not to a run."""


class Expander:
    """Makes the runs of a job; what does not depend on the seed is worked out once.

    Args:
        job: what the user asks for.

    Raises:
        CTBenchError: anything wrong with the names, the settings or the data that can be seen without computing.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.plugin = find_plugin("method", job.method)
        own = get_stream(job.stream, recipe=job.recipe, settings=job.settings)
        self.stream = reorder(own, job.order, allow_temporal=job.allow_reorder)
        self.method = configure(load_class(self.plugin), self.plugin.name, dict(job.method_settings))
        self.plan = _plan(self.method, self.plugin.name, self.stream)
        self.model = job.model or self.stream.recipe.model
        self._check_family()
        self.precision = {
            "base": resolve_precision(self.stream.recipe.base.precision if self.stream.recipe.base else "fp32"),
            "pretrain": resolve_precision(self.stream.recipe.pretrain.precision),
            "finetune": resolve_precision(self.stream.recipe.finetune.precision),
        }
        self.device = accelerator()
        self.compiled = {
            table: self.device == "cuda" and recipe is not None and recipe.compiled
            for table, recipe in (("base", self.stream.recipe.base), ("pretrain", self.stream.recipe.pretrain))
        }
        self.text = {name: self._text(name) for name in self.stream.names}
        self.tasks = {name: task_fingerprint(self.stream, self.stream.domain(name)) for name in self.stream.names}
        self.how = {
            "stream": str(own.path) if not own.registered else own.name,
            "recipe": self.stream.recipe.name,
            "settings": dict(job.settings),
            "order": job.order,
            "model": self.model,
            "online": job.online,
            "base": None,
        }
        self._check_objective()
        self.base = self._base() if self.model == TINY else None
        if self.base is not None:
            self.how["base"] = self.base.key
        self.backbone = self.base.key if self.base else backbone_digest(self.model, online=job.online)

    def with_settings(self, method_settings: Mapping[str, Any]) -> Expander:
        """Return the expander of the same job under other hyper-parameters; data and backbone are not read again."""
        other = copy.copy(self)
        other.job = dataclasses.replace(self.job, method_settings=method_settings)
        other.method = configure(load_class(self.plugin), self.plugin.name, method_settings)
        other.plan = _plan(other.method, self.plugin.name, self.stream)
        return other

    def _check_family(self) -> None:
        """Refuse a method that reads the parts of a model whose module names are not known (those of tiny are)."""
        if type(self.method).needs_parts and self.model != TINY:
            family = model_type(self.model, online=self.job.online)
            require_family(family, purpose=f"method {self.plugin.name}")

    def _check_objective(self) -> None:
        """Refuse causal training of tiny, an encoder; other models are asked when they are loaded."""
        if self.model != TINY:
            return
        recipe = self.stream.recipe
        for table, part in (("pretrain", recipe.pretrain), ("base", recipe.base)):
            if part is not None and part.objective == "clm":
                raise BadConfig(f"{table}.objective is 'clm', and tiny is a masked LM; name a decoder with --model")

    @cached_property
    def data_digest(self) -> str:
        """A digest of all text and all end tasks, whatever the order of the domains."""
        return digest([sorted(self.text.values()), sorted(self.tasks.values())])

    @cached_property
    def protocol(self) -> str:
        """A digest of everything that two runs must share to be compared: stream, data, recipe, backbone, precision."""
        recipe = self.stream.recipe
        return digest(
            {
                "stream": [self.stream.name, self.stream.version],
                "data": self.data_digest,
                "recipe": [plain(recipe.pretrain, without=("compiled",)), plain(recipe.finetune)],
                "backbone": self.backbone,
                "precision": self.precision,
            }
        )[:16]

    def run(self, seed: int) -> Run:
        """Return the run of one seed."""
        method = {
            "name": self.plugin.name,
            "version": type(self.method).version,
            "digest": source_digest(self.plugin),
            "settings": self.method.settings(),
        }
        how = {**self.how, "method": self.job.method if self.plugin.registered else str(self.plugin.path)}
        run = self._expand(self.plan, method, how, seed)
        return dataclasses.replace(run, control=self._control(seed) if self.job.control else None)

    def _expand(self, plan: Plan, method: dict[str, Any], how: dict[str, Any], seed: int) -> Run:
        stages: list[Node] = []
        for number, (domains, parent) in enumerate(zip(plan.stages, plan.parents, strict=True), start=1):
            stages.append(self._stage(number, domains, stages[parent - 1] if parent else self.base, method, how, seed))
        sources = sorted({source for row in plan.cells for source in row if source is not None})
        losses = {source: self._loss(source, stages, method, how, seed) for source in sources}
        wanted = {
            (source, name)
            for row in plan.cells
            for source, name in zip(row, self.stream.names, strict=True)
            if source is not None
        }
        cells = {
            (source, name, finetune_seed): self._cell(source, name, finetune_seed, stages, method, how, seed)
            for source, name in sorted(wanted)
            for finetune_seed in self.stream.recipe.finetune.seeds
        }
        return Run(
            job=self.job,
            seed=seed,
            stream=self.stream,
            plugin=self.plugin,
            method=self.method,
            plan=plan,
            base=self.base,
            stages=tuple(stages),
            losses=losses,
            cells=cells,
        )

    def _control(self, seed: int) -> Run:
        if self.stream.general is None:
            raise BadConfig(f"stream {self.stream.name} has no general text (key `general`), which --control trains on")
        names = self.stream.names
        plan = Plan(stages=((GENERAL,),), parents=(BASE,), cells=((BASE,) * len(names), (1,) * len(names)))
        nobody = {"name": "", "version": 1, "digest": "", "settings": {}}
        # A seed of its own: the base drew from the same text under `BASE_SEED`, which seed 0 would draw from again.
        return self._expand(plan, nobody, {**self.how, "method": None}, seed_from(seed, [GENERAL], "control"))

    # Nodes

    def _base(self) -> Node:
        stream, recipe = self.stream, self.stream.recipe.base
        if stream.general is None or recipe is None:
            raise BadConfig(
                f"model 'tiny' is pre-trained on the stream's general text, and stream {stream.name} lacks the table "
                "[general] or [base]; add them, or name another model with --model"
            )
        return Node(
            kind="base",
            identity={
                "model": "tiny",
                "text": fingerprint(stream, stream.general, domain=None),
                "recipe": plain(recipe, without=("compiled",)),
                "precision": self.precision["base"],
                **self._where("base"),
                "seed": BASE_SEED,
            },
            how={**self.how, "threads": recipe.threads},
            title=f"base of {stream.name}",
        )

    def _stage(
        self,
        number: int,
        domains: tuple[str, ...],
        parent: Node | None,
        method: dict[str, Any],
        how: dict[str, Any],
        seed: int,
    ) -> Node:
        recipe = self.stream.recipe.pretrain
        parents = (parent,) if parent else ()
        return Node(
            kind="stage",
            identity={
                **self._given(parents),
                "names": list(self.stream.names),
                "method": method,
                "domains": list(domains),
                "text": [self._text(name) for name in domains],
                "recipe": plain(recipe, without=("tokens", "held_out_tokens", "compiled")),
                "num_steps": self._num_steps(recipe, domains),
                "precision": self.precision["pretrain"],
                **self._where("pretrain"),
                "seed": seed,
                "build_seed": seed,
            },
            how={**how, "threads": recipe.threads},
            parents=parents,
            title=f"stage {number} ({', '.join(domains)})",
        )

    def _num_steps(self, recipe: PretrainRecipe, domains: tuple[str, ...]) -> int:
        """A stage on n domains gets the budget of n; the control gets that of the whole stream."""
        known = [name for name in domains if name in self.stream.names]
        return recipe.num_steps * (len(known) or len(self.stream.names))

    def _loss(self, source: int, stages: list[Node], method: dict[str, Any], how: dict[str, Any], seed: int) -> Node:
        recipe = self.stream.recipe.pretrain
        parents = self._source(source, stages)
        keys = ("length", "batch", "mask_fraction", "held_out_tokens", "threads")
        return Node(
            kind="loss",
            identity={
                **self._measured(source, method, seed),
                **self._given(parents),
                "domains": sorted(self.stream.names),
                "text": [self.text[name] for name in sorted(self.stream.names)],
                "recipe": {key: value for key, value in plain(recipe).items() if key in keys},
                "precision": self.precision["pretrain"],
                **self._where(),
            },
            how={**(self.how | {"method": None} if source == BASE else how), "threads": recipe.threads},
            parents=parents,
            title=f"LM loss after stage {source}" if source else "LM loss of the base",
        )

    def _cell(
        self,
        source: int,
        name: str,
        finetune_seed: int,
        stages: list[Node],
        method: dict[str, Any],
        how: dict[str, Any],
        seed: int,
    ) -> Node:
        recipe = self.stream.recipe.finetune
        parents = self._source(source, stages)
        return Node(
            kind="cell",
            identity={
                **self._measured(source, method, seed),
                **self._given(parents),
                "domain": name,
                "task": self.tasks[name],
                "recipe": plain(recipe, without=("seeds",)),
                "precision": self.precision["finetune"],
                **self._where(),
                "seed": finetune_seed,
            },
            how={**(self.how | {"method": None} if source == BASE else how), "threads": recipe.threads},
            parents=parents,
            title=f"cell {name} in row {source}, fine-tuning seed {finetune_seed}",
        )

    def _source(self, source: int, stages: list[Node]) -> tuple[Node, ...]:
        node = self.base if source == BASE else stages[source - 1]
        return (node,) if node else ()

    def _measured(self, source: int, method: dict[str, Any], seed: int) -> dict[str, Any]:
        """Row 0 is the untouched base: neither the method nor the run's seed enters it."""
        if source == BASE:
            return {"stage": BASE}
        return {"stage": source, "method": method, "build_seed": seed}

    def _where(self, table: str = "") -> dict[str, Any]:
        """Say what else the numbers depend on off the CPU: dropout draws others there, and others in compiled layers."""
        if self.device == "cpu":
            return {}
        return {"device": self.device} | ({"compiled": True} if self.compiled.get(table) else {})

    def _given(self, parents: tuple[Node, ...]) -> dict[str, str]:
        """A checkpoint that is given has no node: its digest stands for it."""
        return {} if parents else {"backbone": self.backbone}

    def _text(self, name: str) -> str:
        if name == GENERAL and name not in self.stream.names:
            assert self.stream.general is not None
            return fingerprint(self.stream, self.stream.general, domain=None)
        domain = self.stream.domain(name)
        held_out = fingerprint(self.stream, domain.held_out, domain=name, purpose="held_out") if domain.held_out else ""
        return digest([name, fingerprint(self.stream, domain.text, domain=name), held_out])


def _plan(method: Method, name: str, stream: Stream) -> Plan:
    try:
        plan = method.plan(stream)
    except CTBenchError:
        raise
    except Exception as error:  # the code of a method is a stranger's
        raise BadPlugin(f"plan of method '{name}' failed: {type(error).__name__}: {error}") from error
    if not isinstance(plan, Plan):
        raise BadPlugin(f"plan of method '{name}' must return a Plan; it returned a {type(plan).__name__}")
    return plan.fitting(stream.names)
