"""What the graph of a job is made from: everything that does not depend on the run's seed, read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ctbench.backbone.checkpoint import MADE, model_type
from ctbench.backbone.families import require_family
from ctbench.data.schema import GENERAL
from ctbench.data.settings import OFF_PROTOCOL
from ctbench.data.sources import task_fingerprint
from ctbench.data.split import text_digest
from ctbench.data.stream import Stream, reorder
from ctbench.engine.bases import find_start, require_base, require_warm_up
from ctbench.engine.identity import Arithmetic, Probed
from ctbench.engine.job import Job
from ctbench.engine.node import Lookup, Node, digest, plain
from ctbench.engine.preflight import require_names
from ctbench.engine.readings import Readings, readings_of
from ctbench.engine.recipes import choose_recipe
from ctbench.engine.starts import Trainer, start_of
from ctbench.errors import BadConfig, BadPlugin, CTBenchError, code_place, first_line
from ctbench.kernels.switch import uses_plain_kernels
from ctbench.machine.gpus import accelerator
from ctbench.machine.precision import resolve_precision
from ctbench.method import Method, configure
from ctbench.plans import BASE, Plan
from ctbench.plugins.find import find_plugin, load_class
from ctbench.plugins.plugin import Plugin


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A job with its names resolved and its data fingerprinted.

    Attributes:
        job: what the user asked for.
        plugin: the method's file.
        stream: the stream, its domains in the order of the run.
        method: the configured method.
        plan: its plan for the stream.
        start: the method that it declares to start as, or None.
        model: an embedded model, a Hugging Face id or a folder.
        arithmetic: by table of the recipe: "base", "pretrain", "finetune".
        text: fingerprint of each domain's text; `tasks`: of each end task.
        lookup: where workers find things, without the method.
        base: node of the untouched LM; None for a given checkpoint and a shipped base.
        backbone: key of the base node, or digest of the files of the checkpoint or the shipped base.
        readings: how the model reads tasks and texts, where that changed since nodes exist.
    """

    job: Job
    plugin: Plugin
    stream: Stream
    method: Method
    plan: Plan
    start: tuple[Plugin, Method] | None
    model: str
    arithmetic: Mapping[str, Arithmetic]
    text: Mapping[str, str]
    tasks: Mapping[str, str]
    lookup: Lookup
    base: Node | None
    backbone: str
    readings: Readings

    @cached_property
    def data_digest(self) -> str:
        """A digest of all text and all end tasks, whatever the order of the domains."""
        return digest([sorted(self.text.values()), sorted(self.tasks.values())])

    @cached_property
    def general_text(self) -> str | None:
        """The fingerprint of the general text if the method reads it in its stages."""
        return text_digest(self.stream, GENERAL) if self.method.configured_traits.reads_general_text else None

    @cached_property
    def protocol(self) -> str:
        """A digest of everything that two runs must share to be compared: stream, data, recipe, backbone, precision."""
        recipe = self.stream.recipe
        return digest(
            {
                "stream": [self.stream.name, self.stream.version],
                "data": self.data_digest,
                "recipe": [
                    plain(recipe.pretrain, without=OFF_PROTOCOL),
                    plain(recipe.finetune),
                ],
                "backbone": self.backbone,
                "precision": {table: each.precision for table, each in self.arithmetic.items()},
                **self.readings.changed(),
            }
        )[:16]

    def with_settings(self, method_settings: Mapping[str, Any]) -> Inputs:
        """Return the inputs of the same job under other hyper-parameters; data and backbone are not read again."""
        job = self.job.with_method_settings(method_settings)
        return dataclasses.replace(self, job=job, **_configured(self.plugin, method_settings, self.stream))

    @property
    def trainer(self) -> Trainer:
        """The method as nodes hold it."""
        return Trainer.of(self.plugin, self.method, self.lookup, general=self.general_text)

    @property
    def first_trainer(self) -> Trainer | None:
        """The method that trains the first stages, as nodes hold it; None if the job's own does."""
        return Trainer.of(*self.start, self.lookup, general=self.general_text) if self.start else None

    def probed(self, plan: Plan, number: int) -> Probed | None:
        """Return the texts that a stage is probed on: the domains of the stages it goes on from, and general text."""
        stream, names = self.stream, list[str]()
        parent = plan.parents[number - 1]
        while parent != BASE:
            names = [name for name in plan.stages[parent - 1] if name not in names] + names
            parent = plan.parents[parent - 1]
        past = [name for name in names if name in stream.names and name not in plan.stages[number - 1]]
        texts = {name: self.text[name] for name in past}
        if stream.general is not None:
            texts[GENERAL] = text_digest(stream, GENERAL)
        tokens = stream.recipe.pretrain.held_out_tokens
        return Probed(texts=texts, stage=number, held_out_tokens=tokens) if texts else None


def read_inputs(job: Job, *, like: Inputs | None = None) -> Inputs:
    """Resolve the names and settings of a job of one order, and fingerprint its data.

    Args:
        job: what is asked for.
        like: inputs of a job that differs in its method only: stream, data and backbone are not read again.

    Raises:
        CTBenchError: anything wrong with the names, the settings or the data that can be seen without computing.
    """
    plugin = find_plugin("method", str(job.method))
    require_names({"method": plugin.name})
    if like is None:
        stream, model = _stream(job)
    else:
        stream, model = like.stream, like.model
    configured = _configured(plugin, job.method_settings, stream)
    _check_family(configured["method"], plugin, model, online=job.online)
    if like is not None:
        return dataclasses.replace(like, job=job, plugin=plugin, **configured)
    if model in MADE:
        require_base(stream, model)
    else:
        require_warm_up(stream)
    arithmetic = _arithmetic(stream, accelerator() if job.cluster is None else job.cluster.device)
    lookup = Lookup(
        stream=stream.name if stream.registered else str(stream.path),
        recipe=stream.recipe.name,
        settings=job.settings,
        order=job.orders[0],
        model=model,
        online=job.online,
    )
    start = find_start(stream, arithmetic["base"], lookup)
    return Inputs(
        job=job,
        plugin=plugin,
        stream=stream,
        **configured,
        model=model,
        arithmetic=arithmetic,
        text={name: text_digest(stream, name) for name in stream.names},
        tasks={name: task_fingerprint(stream, stream.domain(name)) for name in stream.names},
        lookup=dataclasses.replace(lookup, base=start.node.key if start.node else None),
        base=start.node,
        backbone=start.backbone,
        readings=readings_of(stream, model, arithmetic, online=job.online),
    )


def _configured(plugin: Plugin, settings: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
    """Return the fields of `Inputs` that depend on the settings of the method."""
    method = configure(load_class(plugin), plugin.name, settings)
    plan = _plan(method, plugin.name, stream)
    return {"method": method, "plan": plan, "start": start_of(method, plugin.name)}


def _stream(job: Job) -> tuple[Stream, str]:
    """Return the stream of a job of one order, and the model that it names or the recipe has."""
    (order,) = job.orders
    wanted = None if job.model is None else str(job.model)
    own = choose_recipe(str(job.stream), model=wanted, recipe=job.recipe, settings=job.settings)
    model = wanted or own.recipe.model
    require_names({"stream": own.name, "model": model})
    return reorder(own, order, allow_temporal=job.reorder_periods), model


def _arithmetic(stream: Stream, device: str) -> dict[str, Arithmetic]:
    recipe, plain_kernels = stream.recipe, uses_plain_kernels()
    tables = {"base": recipe.base, "pretrain": recipe.pretrain, "finetune": recipe.finetune}
    return {
        table: Arithmetic(
            precision=resolve_precision(part.precision if part is not None else "fp32", device),
            device=device,
            compiled=device == "cuda" and bool(getattr(part, "compiled", False)),
            plain_kernels=plain_kernels,
        )
        for table, part in tables.items()
    }


def _check_family(method: Method, plugin: Plugin, model: str, *, online: bool) -> None:
    """Refuse a method that needs the parts of a model whose module names are unknown."""
    if type(method).needs_parts:
        require_family(model_type(model, online=online), purpose=f"method {plugin.name}")


def _check_general_text(method: Method, name: str, stream: Stream) -> None:
    """Refuse a method that reads general text in its stages on a stream that has none."""
    if method.configured_traits.reads_general_text and stream.general is None:
        raise BadConfig(
            f"method {name} with these settings reads general text in its stages, and stream {stream.name} has "
            "none (key `general`): add some to the stream or choose other settings"
        )


def _plan(method: Method, name: str, stream: Stream) -> Plan:
    """Return the plan of a method for a stream that has what the method reads."""
    _check_general_text(method, name, stream)
    try:
        plan = method.plan(stream)
    except CTBenchError:
        raise
    except Exception as error:  # a method may be third-party code
        raise BadPlugin(
            f"plan of method '{name}' failed: {type(error).__name__}: {first_line(error)}{code_place(error)}"
        ) from error
    if not isinstance(plan, Plan):
        raise BadPlugin(f"plan of method '{name}' must return a Plan; it returned a {type(plan).__name__}")
    return plan.fitting(stream.names)
