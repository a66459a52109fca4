"""A method tried in a tiny world: its stages as the engine runs them, watched, repeated and resumed from a checkpoint.

The laws (`ctbench.laws`) look at what is gathered here; each of it is computed once.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ctbench.backbone import Backbone, Batch
from ctbench.data.stream import Stream
from ctbench.device import device, isolated
from ctbench.errors import CTBenchError
from ctbench.laws.world import SEED, World
from ctbench.memory import Tree, flatten
from ctbench.method import Method, configure
from ctbench.partial import load_progress, save_progress
from ctbench.plan import Plan
from ctbench.pretrain import Progress, Trainer
from ctbench.stage import Stage
from ctbench.store import Store

State = dict[str, Tensor]


class TrialFailed(Exception):
    """A method that raised an error, or whose memory cannot be stored; the message is one line."""


class NotPlain(TrialFailed):
    """The memory of a stage cannot be stored."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished stage.

    Attributes:
        start: all weights before the stage; `state`: after it.
        trained: names of the weights that the stage trained.
        memory: as the method left it; `loaded`: as the store gives it to the next stage.
        losses: the logged losses by name.
        num_updates: updates of any optimiser during the stage; `num_wanted`: those of the recipe.
        moved: what changed weights although it must not ("loss"), with the weight's name.
    """

    start: State
    state: State
    trained: frozenset[str]
    memory: Tree
    loaded: Tree
    losses: Mapping[str, list[float]]
    num_updates: int
    num_wanted: int
    moved: tuple[tuple[str, str], ...]


class Trial:
    """A method under some settings in a world.

    Args:
        cls: the method's class.
        world: where it is tried.
        name: its public name, for messages.
        settings: its hyper-parameters; the others keep their defaults.

    Raises:
        CTBenchError: settings that the method does not take.
    """

    def __init__(
        self, cls: type[Method], world: World, *, name: str = "", settings: Mapping[str, Any] | None = None
    ) -> None:
        self.cls = cls
        self.world = world
        self.name = name or cls.__name__.lower()
        self.settings = dict(settings or {})
        self.plan = self.plan_of(world.stream)
        self._store = Store(world.folder / "store")
        self._checkpoint = Path(tempfile.mkdtemp(dir=world.folder))

    def method(self) -> Method:
        """Return the method made anew, as every node of a run makes its own."""
        return configure(self.cls, self.name, self.settings)

    def plan_of(self, stream: Stream) -> Plan:
        """Return the method's plan for a stream, which must fit it."""
        with self._explained("plan"):
            return self.method().plan(stream).fitting(stream.names)

    def build(self, stream: Stream | None = None) -> Backbone:
        """Return the untouched LM as the method builds it for a stream, always with the same new weights."""
        with isolated(threads=1), self._explained("build"):
            torch.manual_seed(SEED)
            return _backbone(self.method().build(copy.deepcopy(self.world.base), stream or self.world.stream), "build")

    @cached_property
    def first(self) -> list[Done]:
        """The stages of the plan, with a mid-stage checkpoint of the last one."""
        return self._run_all(saves=True)

    @cached_property
    def second(self) -> list[Done]:
        """The same once more."""
        return self._run_all(saves=False)

    @cached_property
    def resumed(self) -> Done:
        """The last stage, gone on with from its checkpoint in the middle."""
        done = self.first
        progress = load_progress(self._store, self._checkpoint)
        assert progress is not None, "a stage of the world is too short for a checkpoint"
        return self._run_stage(len(done), done, progress=progress)

    def adapted(self, number: int, task: str, *, told: int | None = None) -> Backbone:
        """Return what a cell of stage `number` fine-tunes, where the method is told `task` and stage `told`."""
        backbone = self.build()
        backbone.load_state(self.first[number - 1].state)
        with isolated(threads=1), self._explained("adapt"):
            torch.manual_seed(SEED)
            stage = number if told is None else told
            return _backbone(self.method().adapt(backbone, self.world.stream, task, stage), "adapt")

    def features(self, backbone: Backbone) -> Tensor:
        """Return what the classifier of a cell reads of some text, [B, T, F]."""
        rows = next(iter(self.world.blocks.values()))[torch.arange(2).numpy()]
        with torch.no_grad(), isolated(threads=1), self._explained("a cell"):
            return backbone.eval().features(Batch(input_ids=torch.from_numpy(rows)).to(backbone.device))

    def _run_all(self, *, saves: bool) -> list[Done]:
        done: list[Done] = []
        for number in range(1, len(self.plan.stages) + 1):
            done.append(self._run_stage(number, done, saves=saves and number == len(self.plan.stages)))
        return done

    def _restore(self, source: Done | None) -> Backbone:
        backbone = self.build()
        if source is not None:
            backbone.load_state(source.state)
        return backbone

    def _run_stage(
        self, number: int, done: list[Done], *, saves: bool = False, progress: Progress | None = None
    ) -> Done:
        recipe, domains, parent = self.world.stream.recipe.pretrain, *self._of_plan(number)
        source = done[parent - 1] if parent else None
        backbone, watch = self._restore(source), Watch(self.method())
        start = backbone.state()
        trainer = Trainer(
            method=cast(Method, watch),
            backbone=backbone.to(device()),
            memory=copy.deepcopy(source.loaded) if source else {},
            blocks={name: self.world.blocks[name] for name in domains},
            recipe=recipe,
            num_steps=recipe.num_steps * len(domains),
            seed=SEED,
            load_teacher=lambda: self._restore(source),
        )
        save = (lambda state: save_progress(self._store, self._checkpoint, state)) if saves else None
        try:
            with watch.counting(), self._explained(f"stage {number}"):
                record = trainer.run(progress=progress, save=save, save_seconds=0.0)
        except (CTBenchError, TrialFailed):
            self._stored(trainer.stage.memory)  # says it better if the memory is the reason
            raise
        return Done(
            start=start,
            state=backbone.state(),
            trained=frozenset(trainer.named),
            memory=trainer.stage.memory,
            loaded=self._stored(trainer.stage.memory),
            losses=record["losses"],
            num_updates=watch.num_updates,
            num_wanted=trainer.stage.num_steps,
            moved=tuple(watch.moved.items()),
        )

    def _of_plan(self, number: int) -> tuple[tuple[str, ...], int]:
        return self.plan.stages[number - 1], self.plan.parents[number - 1]

    def _stored(self, memory: Tree) -> Tree:
        """Return the memory as the store gives it back."""
        folder = Path(tempfile.mkdtemp(dir=self.world.folder))
        try:
            self._store.save_tree(folder, "memory", memory)
            return self._store.load_tree(folder, "memory")
        except Exception as error:  # safetensors raises errors of its own kinds
            raise NotPlain(_one_line(error)) from error

    @contextmanager
    def _explained(self, where: str) -> Iterator[None]:
        """Turn whatever a method raises into one line that names the place; what it refuses stays as it is."""
        try:
            yield
        except (CTBenchError, TrialFailed):
            raise
        except Exception as error:
            own = sys.modules[self.cls.__module__].__file__
            lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
            place = f" ({Path(lines[-1].filename).name}:{lines[-1].lineno})" if lines else ""
            raise TrialFailed(f"{where}: {type(error).__name__}: {_one_line(error)}{place}") from error


class Watch:
    """Stands for a method in a stage, hands every hook on, and sees what the hooks do to the weights.

    Attributes:
        num_updates: updates of any optimiser.
        moved: the first weight that a hook changed, by the hook's name; only `after_step` and `end` may.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.num_updates = 0
        self.moved: dict[str, str] = {}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the updates of all optimisers while the context lasts."""

        def count(*_: Any) -> None:
            self.num_updates += 1

        handle = register_optimizer_step_post_hook(count)
        try:
            yield
        finally:
            handle.remove()

    def begin(self, stage: Stage) -> None:
        """Hand on what comes before the first update."""
        with self._watching("begin", stage):
            self.method.begin(stage)

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        """Hand on the loss."""
        with self._watching("loss", stage):
            return self.method.loss(stage, batch)

    def after_backward(self, stage: Stage) -> None:
        """Hand on the gradients."""
        with self._watching("after_backward", stage):
            self.method.after_backward(stage)

    def after_step(self, stage: Stage) -> None:
        """Hand on the weights, which may be edited here."""
        self.method.after_step(stage)

    def end(self, stage: Stage) -> None:
        """Hand on the end, where weights may be edited too."""
        self.method.end(stage)

    @contextmanager
    def _watching(self, hook: str, stage: Stage) -> Iterator[None]:
        before = {name: value.detach().clone() for name, value in stage.backbone.named_parameters()}
        yield
        moved = difference(before, dict(stage.backbone.named_parameters()))
        if moved:
            self.moved.setdefault(hook, moved)


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str | None:
    """Return the first name whose tensors are not equal bit for bit, or None."""
    for name in [*one, *(name for name in other if name not in one)]:
        if name not in one or name not in other or not _same_bits(one[name], other[name]):
            return name
    return None


def tree_difference(one: Tree, other: Tree) -> str | None:
    """Return what differs between two plain trees, or None."""
    (plain, tensors), (other_plain, other_tensors) = flatten(one), flatten(other)
    if name := difference(tensors, other_tensors):
        return name
    return None if plain == other_plain else "memory"


def _backbone(given: object, hook: str) -> Backbone:
    if not isinstance(given, Backbone):
        raise TrialFailed(f"{hook} returns a {type(given).__name__}; the backbone is wanted")
    return given


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    left, right = (tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(left, right)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
