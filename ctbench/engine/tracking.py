"""Experiment trackers: what a run computes, sent to TensorBoard, W&B, Trackio or MLflow through accelerate as it comes.

A tracker only listens to the events of a run: it changes no number, and one that fails is left out from then on. Names
are `WHOSE/WHAT/NAME`: "naive-seed-0/stage 2 domain-2/loss".
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from ctbench.data.settings import PretrainRecipe
from ctbench.engine.identity import BaseIdentity, CellIdentity, LossIdentity, StageIdentity
from ctbench.engine.job import Job
from ctbench.engine.launchers.events import Event, Listener
from ctbench.engine.node import Node
from ctbench.engine.records import Stored, StoredBase, StoredCell, StoredLoss, StoredStage
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig, CTBenchError, UnknownName, first_line
from ctbench.training.schedules import START, learning_rate

FOLDER: Final = "tracking"
"""Sub-folder of the results in which trackers that write files write them."""
PROJECT: Final = "ctbench"
NOT_ALLOWED: Final = r"[^\w./ -]"
"""Characters that MLflow refuses in the name of a metric."""

Listen = Callable[[Sequence[Node]], Listener] | None
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a tracker needs.

    Args:
        packages: the packages of which one must be installed.
        own_steps: whether every metric may have steps of its own; other trackers have one axis, and get the step as a
            value.
        options: from the folder of the tracker and the name of the run to the arguments of accelerate's class.
    """

    packages: tuple[str, ...]
    own_steps: bool
    options: Callable[[Path, str], dict[str, Any]]


KINDS: Final[Mapping[str, Kind]] = {
    "tensorboard": Kind(
        packages=("tensorboard", "tensorboardX"),
        own_steps=True,
        options=lambda folder, name: {"run_name": name, "logging_dir": str(folder)},
    ),
    "wandb": Kind(
        packages=("wandb",),
        own_steps=False,
        options=lambda folder, name: {"run_name": PROJECT, "name": name, "dir": str(folder)},
    ),
    "trackio": Kind(
        packages=("trackio",), own_steps=False, options=lambda _folder, name: {"run_name": PROJECT, "name": name}
    ),
    "mlflow": Kind(
        packages=("mlflow",),
        own_steps=True,
        options=lambda _folder, name: {"experiment_name": PROJECT, "run_name": name},
    ),
}


@contextlib.contextmanager
def tracked(jobs: Sequence[Job], listen: Listen, say: Say) -> Iterator[Listen]:
    """Yield the argument `listen` of `engine.run.run`, with the trackers that jobs ask for beside the one given.

    Args:
        jobs: those of one call, whose trackers, folder and network are the same.
        listen: called with the nodes to compute; returns an event callback.
        say: told in one line about a tracker that failed.

    Raises:
        UnknownName: no such tracker.
        BadConfig: its package is missing, or it would need the network.
    """
    names = read_trackers(jobs[0].track, online=jobs[0].online)
    if not names:
        yield listen
        return
    with Tracking({name: make_tracker(name, jobs) for name in names}, Store(home() / "store"), say=say) as tracking:
        yield tracking.beside(listen)


def read_trackers(track: str | None, *, online: bool) -> tuple[str, ...]:
    """Return the names of the trackers, each of which can be used.

    Raises:
        UnknownName: no such tracker.
        BadConfig: its package is missing, or it would need the network.

    Examples:
        >>> read_trackers(None, online=False)
        ()
    """
    names = tuple(dict.fromkeys(name.strip() for name in (track or "").split(",") if name.strip()))
    for name in names:
        if name not in KINDS:
            raise UnknownName("tracker", name, KINDS)
        packages = KINDS[name].packages
        if not any(importlib.util.find_spec(package) for package in packages):
            raise BadConfig(f"--track {name} needs the package {packages[0]}: pip install {packages[0]}")
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    if "mlflow" in names and server.startswith("http") and not online:
        raise BadConfig(f"MLFLOW_TRACKING_URI names the server {server}; add --online, or unset it to write files")
    return names


def make_tracker(name: str, jobs: Sequence[Job]) -> Any:
    """Return a tracker of accelerate that was not started yet; without `online` it sends nothing over a network."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # trackers ask it whether this is the main process
    if not jobs[0].online:
        os.environ.setdefault("WANDB_MODE", "offline")
    folder = jobs[0].results_folder / FOLDER
    parts = (job.method for job in jobs), (job.stream for job in jobs)
    run = "-".join([*map(_title, parts), time.strftime("%Y%m%d-%H%M%S")])
    return LOGGER_TYPE_TO_CLASS[name](**KINDS[name].options(folder, run))


class Tracking:
    """Sends the events of a run to trackers while its context is open.

    Args:
        trackers: accelerate's trackers by name, not started.
        store: where the records of finished nodes are read.
        say: told in one line about a tracker that failed.
    """

    def __init__(self, trackers: Mapping[str, Any], store: Store, *, say: Say) -> None:
        self._trackers = dict(trackers)
        self._store = store
        self._say = say
        self._seen: dict[str, tuple[int, float]] = {}
        self._has_started = False

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._has_started:
            self._each(lambda tracker: tracker.finish())

    def beside(self, listen: Listen) -> Callable[[Sequence[Node]], Listener]:
        """Return a function of the nodes to compute that starts the trackers, and whose callback serves `listen` too."""

        def follow(todo: Sequence[Node]) -> Listener:
            other = listen(todo) if listen is not None else None
            self._start(todo)

            def hear(event: Event) -> None:
                if other is not None:
                    other(event)
                self.hear(event)

            return hear

        return follow

    def hear(self, event: Event) -> None:
        """Send what an event tells: loss, learning rate and tokens per second of training, scores of what is done."""
        if event.what == "progress":
            self._log(event.node, self._progress(event), step=event.step)
        elif event.what == "done":
            try:
                record = self._store.read(event.node.key)
            except CTBenchError:  # whoever reads it next says what is wrong with it
                return
            for step, values in _values(record):
                self._log(event.node, values, step=step)

    def _start(self, todo: Sequence[Node]) -> None:
        if self._has_started:
            return
        self._has_started = True
        config = _config(todo)

        def start(tracker: Any) -> None:
            tracker.start()
            tracker.store_init_configuration(config)

        self._each(start)

    def _progress(self, event: Event) -> dict[str, float]:
        identity = event.node.identity
        step, now = self._seen.get(event.node.key, (0, 0.0))
        seconds = time.monotonic() - now if now else 0.0
        self._seen[event.node.key] = event.step, time.monotonic()
        values = {"loss": event.loss}
        if isinstance(identity, BaseIdentity | StageIdentity):
            recipe = PretrainRecipe(**{"tokens": 1, **identity.recipe})  # a stage's identity has its updates instead
            num_steps, place = event.num_steps, START
            if isinstance(identity, StageIdentity):
                num_steps, place = identity.num_steps, identity.place or START
            values["lr"] = learning_rate(recipe, event.step - 1, num_steps, place)
            if seconds > 0 and event.step > step:
                values["tokens_per_second"] = (event.step - step) * recipe.batch * recipe.length / seconds
        return values

    def _log(self, node: Node, values: Mapping[str, float], *, step: int) -> None:
        prefix = f"{_whose(node)}/{re.sub(NOT_ALLOWED, '', node.title)}"
        named = {f"{prefix}/{name}": value for name, value in values.items()}

        for name in list(self._trackers):
            own = KINDS[name].own_steps
            given = named if own else {**named, f"{prefix}/step": step}
            self._try(name, partial(_send, given, step if own else None))

    def _each(self, call: Callable[[Any], None]) -> None:
        for name in list(self._trackers):
            self._try(name, call)

    def _try(self, name: str, call: Callable[[Any], None]) -> None:
        """Call something of a tracker; leave it out for good if it fails, as no run stops because of it."""
        try:
            call(self._trackers[name])
        except Exception as error:  # a tracker may raise anything
            del self._trackers[name]
            self._say(f"tracking with {name} stopped, the run goes on: {type(error).__name__}: {first_line(error)}")


def _send(values: Mapping[str, float], step: int | None, tracker: Any) -> None:
    tracker.log(dict(values), step=step)


def _values(record: Stored) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the steps of a record with their values; the total loss came while it was computed."""
    if isinstance(record, StoredBase | StoredStage):
        terms = {name: values for name, values in record.training.losses.items() if name != "loss"}
        for index, step in enumerate(record.training.steps):
            yield step, {name: values[index] for name, values in terms.items()}
        notes = {name: value for name, value in record.training.notes.items() if value is not None}
        last = record.training.steps[-1] if record.training.steps else 0
        yield last, {"seconds": record.training.seconds, **notes}
    elif isinstance(record, StoredLoss):
        yield 0, {name: value for name, value in record.losses.items() if value is not None}
    elif isinstance(record, StoredCell):
        yield 0, {name: value for name, value in record.metrics.items() if value is not None}


def _whose(node: Node) -> str:
    """Return the method and the seed that a node belongs to; the base and row 0 belong to every run."""
    identity = node.identity
    if isinstance(identity, StageIdentity):
        return f"{identity.method.name or 'control'}-seed-{identity.seed}"
    if isinstance(identity, LossIdentity | CellIdentity) and identity.lm.method is not None:
        return f"{identity.lm.method.name or 'control'}-seed-{identity.lm.build_seed}"
    return "base"


def _title(names: Iterable[str | Path]) -> str:
    """Return the name of a method or stream, or how many there are."""
    stems = list(dict.fromkeys(Path(name).stem for name in names))
    return stems[0] if len(stems) == 1 else f"{stems[0]}-and-{len(stems) - 1}-more"


def _config(todo: Sequence[Node]) -> dict[str, str | int | float]:
    """Return what a tracker shows of the nodes: methods with their settings, streams, models, recipe, counts."""
    names: dict[str, dict[str, None]] = {}
    settings: dict[str, str | int | float] = {}
    for node in todo:
        identity = node.identity
        if isinstance(identity, StageIdentity) and (method := identity.method.name):
            names.setdefault("method", {})[method] = None
            names.setdefault("domains", {}).update(dict.fromkeys(identity.names))
            settings |= {f"{method}.{key}": _plain(value) for key, value in identity.method.settings.items()}
            settings |= {f"pretrain.{key}": str(value) for key, value in identity.recipe.items()}
        names.setdefault("stream", {})[Path(node.lookup.stream).stem] = None
        names.setdefault("model", {})[Path(node.lookup.model).name] = None
    return {"nodes": len(todo), **{key: ", ".join(found) for key, found in names.items()}, **settings}


def _plain(value: object) -> str | int | float:
    return value if isinstance(value, str | int | float) else str(value)
