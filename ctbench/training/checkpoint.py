"""Stage checkpoints: all that a half-finished stage needs to resume, bit for bit, or a whole one to be ended anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from ctbench.machine.device import Stopwatch
from ctbench.memory import Tree
from ctbench.training.flops import FlopMeter
from ctbench.training.optimizer import optimizer_state

if TYPE_CHECKING:
    from ctbench.training.log import TrainingRecord
    from ctbench.training.pretrain import StageLoop


@dataclass(kw_only=True)
class StageCheckpoint:
    """The state of a stage after `step` updates.

    Generators are not part of it: they are made anew from (seed, domains, purpose, step).

    Attributes:
        step: number of updates made.
        weights: of the LM, added modules included.
        optimizer: moments and step counts by "KEY/NAME OF THE PARAMETER".
        memory: the method's memory.
        log: the logged losses so far.
        window: terms of the updates since the last logged point, by number of the update.
        notes: the method's notes so far.
        num_extra: blocks given out by `Stage.text` and `Stage.sample`.
        forward_tokens: tokens that went forward through an LM so far.
        flops: what was counted of floating-point operations so far, from `FlopMeter.state`.
        has_teacher: whether the method has asked for the teacher.
        probes: what the probes have measured so far.
        seconds: wall time so far; `cpu_seconds`: time of the cores.
        peak_memory_bytes: peak memory of the processes so far.
    """

    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    memory: Tree = field(default_factory=dict)
    log: dict[str, list[float]] = field(default_factory=dict)
    window: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)
    num_extra: int = 0
    forward_tokens: int = 0
    flops: dict[str, float] = field(default_factory=dict)
    has_teacher: bool = False
    probes: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


def capture(loop: StageLoop, step: int) -> StageCheckpoint:
    """Return the checkpoint of a stage after `step` updates; where weights are in shards, all ranks must call."""
    stage = loop.stage
    return StageCheckpoint(
        step=step,
        weights=stage.backbone.state(),
        optimizer=optimizer_state(loop.optimizer, loop.trained),
        memory=stage.memory,
        log=loop.log.columns,
        window=loop.log.window,
        notes=stage.notes,
        num_extra=stage.num_extra,
        forward_tokens=loop.forward_tokens,
        flops=loop.flops.state,
        has_teacher=stage.has_teacher,
        probes=loop.probes.columns,
        seconds=loop.watch.seconds,
        cpu_seconds=loop.watch.cpu_seconds,
        peak_memory_bytes=loop.peak_memory_bytes,
    )


def restore(loop: StageLoop, checkpoint: StageCheckpoint) -> None:
    """Set a stage to the state of a checkpoint."""
    stage = loop.stage
    if checkpoint.has_teacher:
        assert stage.teacher is not None
    stage.backbone.load_state(checkpoint.weights)
    loop.moments = checkpoint.optimizer
    stage.memory.clear()
    stage.memory.update(checkpoint.memory)
    stage.notes = dict(checkpoint.notes)
    stage.num_extra = checkpoint.num_extra
    loop.log.columns = {name: list(values) for name, values in checkpoint.log.items()}
    loop.probes.columns = {name: list(values) for name, values in checkpoint.probes.items()}
    loop.log.restore_window(checkpoint.window, stage.device)
    loop.earlier_forward_tokens = checkpoint.forward_tokens
    loop.flops = FlopMeter(checkpoint.flops)
    loop.watch = Stopwatch(seconds=checkpoint.seconds, cpu_seconds=checkpoint.cpu_seconds)
    loop.earlier_peak = checkpoint.peak_memory_bytes


def finished(record: TrainingRecord, weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> StageCheckpoint:
    """Return the state of a finished stage, without its memory, for `adopt`."""
    probes = {"step": record.probe_steps, **record.probes} if record.probe_steps else {}
    return StageCheckpoint(
        step=record.steps[-1],
        weights=dict(weights),
        optimizer=dict(optimizer),
        log={name: list(values) for name, values in {"step": record.steps, **record.losses}.items()},
        notes={name: _number(value) for name, value in record.notes.items()},
        forward_tokens=record.forward_tokens,
        flops={"whole": _number(record.flops)},
        probes={name: [_number(value) for value in values] for name, values in probes.items()},
        seconds=record.seconds,
        cpu_seconds=record.cpu_seconds,
        peak_memory_bytes=record.peak_memory_bytes,
    )


def adopt(loop: StageLoop, made: StageCheckpoint) -> None:
    """Take over the updates that another method's stage made, and what they cost, in a stage that has just begun."""
    stage = loop.stage
    stage.backbone.load_state(made.weights)
    loop.moments = made.optimizer
    stage.notes |= made.notes
    loop.log.columns = {name: list(values) for name, values in made.log.items()}
    loop.probes.columns = {name: list(values) for name, values in made.probes.items()}
    loop.earlier_forward_tokens += made.forward_tokens
    loop.flops.whole += FlopMeter(made.flops).total
    seconds, cpu_seconds = loop.watch.seconds + made.seconds, loop.watch.cpu_seconds + made.cpu_seconds
    loop.watch = Stopwatch(seconds=seconds, cpu_seconds=cpu_seconds)
    loop.earlier_peak = made.peak_memory_bytes


def _number(value: float | None) -> float:
    """Return a number of a record, which has None for what is not finite or not known."""
    return math.nan if value is None else value
