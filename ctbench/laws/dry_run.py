"""Run a method in a tiny world: all stages as the engine runs them, a second time, and the last one resumed.

The laws (`ctbench.laws.rules`) read these results; each of them is computed once, when a law first asks for it.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ctbench.backbone import Backbone, Batch
from ctbench.data.stream import Stream
from ctbench.engine.budget import stage_place
from ctbench.engine.resume import load_checkpoint, save_checkpoint
from ctbench.engine.starts import start_of
from ctbench.engine.tensors import load_tree, save_tree
from ctbench.errors import CTBenchError
from ctbench.laws.watch import Watch
from ctbench.laws.world import SEED, TinyWorld
from ctbench.machine.device import device, isolated
from ctbench.machine.manifest import write_manifest
from ctbench.memory import Tree
from ctbench.method import Method, configure
from ctbench.plans import Plan
from ctbench.plugins.find import load_class
from ctbench.stage import StageInputs
from ctbench.training.checkpoint import StageCheckpoint, capture
from ctbench.training.hooks import LoopHooks
from ctbench.training.optimizer import optimizer_state
from ctbench.training.pretrain import StageLoop
from ctbench.training.schedules import START, trunk_steps

State = dict[str, Tensor]


class DryRunFailed(Exception):
    """The method raised an error, or its memory cannot be stored; the message is one line."""


class NotPlain(DryRunFailed):
    """The memory of a stage cannot be stored."""


@dataclass(frozen=True, kw_only=True)
class FinishedStage:
    """A finished stage.

    Attributes:
        start: all weights before the stage.
        state: all weights after the stage.
        trained: names of the weights that the stage trained.
        memory: the memory that the method left.
        loaded: the same memory, written to the store and read back.
        onward: the stage that a next one goes on from, if it is not this one: its trunk.
        moments: state of the optimiser at the end.
        losses: the logged losses by name.
        notes: the numbers noted about the stage.
        num_updates: updates of all optimisers during the stage.
        num_wanted: updates that the recipe prescribes.
        moved: hooks that changed a weight although they must not, such as "loss", each with the name of the weight.
    """

    start: State
    state: State
    trained: frozenset[str]
    memory: Tree
    loaded: Tree
    losses: Mapping[str, tuple[float, ...]]
    notes: Mapping[str, float | None]
    num_updates: int
    num_wanted: int
    moved: tuple[tuple[str, str], ...]
    moments: State = field(default_factory=dict)
    onward: FinishedStage | None = None


class DryRun:
    """A method with given settings in a tiny world.

    Args:
        cls: the method's class.
        world: stream, text and LM.
        name: public name of the method, for messages.
        settings: hyper-parameters; the others keep their defaults.

    Raises:
        CTBenchError: a setting that the method does not have, or a value out of range.
    """

    def __init__(
        self, cls: type[Method], world: TinyWorld, *, name: str = "", settings: Mapping[str, Any] | None = None
    ) -> None:
        self.cls = cls
        self.world = world
        self.name = name or cls.__name__.lower()
        self.settings = dict(settings or {})
        self.plan = self.plan_of(world.stream)
        self._steps = [world.stream.recipe.pretrain.num_steps * len(domains) for domains in self.plan.stages]
        self._checkpoint = Path(tempfile.mkdtemp(dir=world.folder))

    def method(self) -> Method:
        """Return a new instance of the method; every node of a run makes its own."""
        return configure(self.cls, self.name, self.settings)

    def plan_of(self, stream: Stream) -> Plan:
        """Return the method's plan for a stream, after checking that the plan fits the stream."""
        with self._explained("plan"):
            return self.method().plan(stream).fitting(stream.names)

    def build(self, stream: Stream | None = None) -> Backbone:
        """Return the LM that the method builds from the untouched one for a stream; new weights are always the same."""
        with isolated(threads=1), self._explained("build"):
            torch.manual_seed(SEED)
            return _backbone(self.method().build(copy.deepcopy(self.world.base), stream or self.world.stream), "build")

    @cached_property
    def first(self) -> list[FinishedStage]:
        """All stages of the plan; the last one writes a mid-stage checkpoint."""
        return self._run_all(saves=True)

    @cached_property
    def second(self) -> list[FinishedStage]:
        """All stages of the plan, run a second time."""
        return self._run_all(saves=False)

    @cached_property
    def resumed(self) -> FinishedStage:
        """The last stage, resumed from its mid-stage checkpoint."""
        done = self.first
        checkpoint = load_checkpoint(self._checkpoint)
        assert checkpoint is not None, "a stage of the world is too short for a checkpoint"
        return self._run_stage(len(done), done, checkpoint=checkpoint)

    def adapted(self, number: int, task: str, *, told: int | None = None) -> Backbone:
        """Return the LM that a cell of stage `number` fine-tunes when `adapt` is called with `task` and stage `told`."""
        backbone = self.build()
        backbone.load_state(self.first[number - 1].state)
        with isolated(threads=1), self._explained("adapt"):
            torch.manual_seed(SEED)
            stage = number if told is None else told
            return _backbone(self.method().adapt(backbone, self.world.stream, task, stage), "adapt")

    def features(self, backbone: Backbone) -> Tensor:
        """Return the features that the classifier of a cell reads, [B, T, F], for two blocks of text."""
        rows = next(iter(self.world.blocks.values()))[torch.arange(2).numpy()]
        with torch.no_grad(), isolated(threads=1), self._explained("a cell"):
            return backbone.eval().features(Batch(input_ids=torch.from_numpy(rows)).to(backbone.device))

    def _run_all(self, *, saves: bool) -> list[FinishedStage]:
        done: list[FinishedStage] = []
        for number in range(1, len(self.plan.stages) + 1):
            done.append(self._run_stage(number, done, saves=saves and number == len(self.plan.stages)))
        return done

    @cached_property
    def shared(self) -> dict[int, tuple[FinishedStage, FinishedStage]]:
        """The first stages as the engine computes them for `starts_as`, by number: the other method's, ended by this one."""
        start = start_of(self.method(), self.name)
        if start is None:
            return {}
        other = DryRun(load_class(start[0]), self.world, name=start[0].name)
        other.plan, other._steps = self.plan, self._steps
        found = {}
        for number, parent in enumerate(self.plan.parents, start=1):
            loop, watch = other._loop(number, None)
            if parent or trunk_steps(loop.recipe, loop.stage.num_steps) < loop.stage.num_steps:
                continue
            done = other._finish(number, loop, watch)
            made = copy.deepcopy(capture(loop, loop.stage.num_steps))
            found[number] = done, self._finish(number, *self._loop(number, None), made=made)
        return found

    def _restore(self, source: FinishedStage | None) -> Backbone:
        backbone = self.build()
        if source is not None:
            backbone.load_state(source.state)
        return backbone

    def _run_stage(
        self, number: int, done: list[FinishedStage], *, saves: bool = False, checkpoint: StageCheckpoint | None = None
    ) -> FinishedStage:
        """Run a stage; under a schedule with trunks its trunk and, as another process would, its branch."""
        before = done[self.plan.parents[number - 1] - 1] if self.plan.parents[number - 1] else None
        source = before.onward or before if before else None
        loop, watch = self._loop(number, source)
        length = trunk_steps(loop.recipe, loop.stage.num_steps)
        if length == loop.stage.num_steps:
            return self._finish(number, loop, watch, saves=saves, checkpoint=checkpoint)
        if checkpoint is not None and checkpoint.step > length:
            return self._finish(number, loop, watch, checkpoint=checkpoint)
        on_trunk, watch_trunk = self._loop(number, source, stop=length)
        trunk = self._finish(number, on_trunk, watch_trunk, saves=saves, checkpoint=checkpoint)
        branch = self._finish(number, loop, watch, saves=saves, checkpoint=self._branching(on_trunk))
        num_updates, moved = trunk.num_updates + branch.num_updates, trunk.moved + branch.moved
        return replace(branch, start=trunk.start, num_updates=num_updates, moved=moved, onward=trunk)

    def _loop(self, number: int, source: FinishedStage | None, *, stop: int | None = None) -> tuple[StageLoop, Watch]:
        recipe, domains, watch = self.world.stream.recipe.pretrain, self.plan.stages[number - 1], Watch(self.method())
        inputs = StageInputs(
            backbone=self._restore(source).to(device()),
            memory=copy.deepcopy(source.loaded) if source else {},
            blocks={name: self.world.blocks[name] for name in domains},
            recipe=recipe,
            num_steps=self._steps[number - 1],
            seed=SEED,
            general=self.world.general if self.method().configured_traits.reads_general_text else None,
            load_teacher=lambda: self._restore(source),
        )
        place = stage_place(self.world.stream, self.plan, self._steps, number) or START
        carried = source.moments if source is not None and recipe.carry_optimizer else None
        return StageLoop(cast(Method, watch), inputs, place=place, stop=stop, carried=carried), watch

    def _finish(
        self,
        number: int,
        loop: StageLoop,
        watch: Watch,
        *,
        saves: bool = False,
        checkpoint: StageCheckpoint | None = None,
        made: StageCheckpoint | None = None,
    ) -> FinishedStage:
        backbone = loop.stage.backbone
        start = backbone.state()
        save = (lambda state: save_checkpoint(self._checkpoint, state)) if saves else None
        try:
            with watch.counting(), self._explained(f"stage {number}"):
                record = loop.run(LoopHooks(save=save, save_seconds=0.0), checkpoint=checkpoint, made=made)
        except (CTBenchError, DryRunFailed):
            self._stored(loop.stage.memory)  # raises the clearer NotPlain if the memory is the reason
            raise
        return FinishedStage(
            start=start,
            state=backbone.state(),
            trained=frozenset(loop.trained),
            memory=loop.stage.memory,
            loaded=self._stored(loop.stage.memory),
            losses=record.losses,
            notes=record.notes,
            num_updates=watch.num_updates,
            num_wanted=loop.stage.recipe.num_steps * len(loop.stage.domains),
            moved=tuple(watch.moved.items()),
            moments=optimizer_state(loop.optimizer, loop.trained),
        )

    def _branching(self, trunk: StageLoop) -> StageCheckpoint:
        """Return the state from which a branch goes on, its memory written to the store and read back."""
        assert trunk.branching is not None
        return replace(trunk.branching, memory=self._stored(trunk.branching.memory))

    def _stored(self, memory: Tree) -> Tree:
        """Return the memory after writing it to the store and reading it back."""
        folder = Path(tempfile.mkdtemp(dir=self.world.folder))
        try:
            save_tree(folder, "memory", memory)
            write_manifest(folder, {})
            return load_tree(folder, "memory")
        except Exception as error:  # safetensors raises its own exceptions
            raise NotPlain(_one_line(error)) from error

    @contextmanager
    def _explained(self, where: str) -> Iterator[None]:
        """Turn an exception of the method into one line with file and line number; a CTBenchError passes unchanged."""
        try:
            yield
        except (CTBenchError, DryRunFailed):
            raise
        except (Exception, SystemExit) as error:
            own = sys.modules[self.cls.__module__].__file__
            lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
            place = f" ({Path(lines[-1].filename).name}:{lines[-1].lineno})" if lines else ""
            raise DryRunFailed(f"{where}: {type(error).__name__}: {_one_line(error)}{place}") from error


def _backbone(given: object, hook: str) -> Backbone:
    if not isinstance(given, Backbone):
        raise DryRunFailed(f"{hook} returns a {type(given).__name__}; the backbone is wanted")
    return given


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
