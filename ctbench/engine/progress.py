"""Progress on standard error: live bars in a terminal or a notebook, a line now and then in a log or a pipe.

Bars and shares count work in estimated seconds (`ctbench.engine.workload`), and every finished row of the matrix is a line.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from ctbench.engine.estimate import costs
from ctbench.engine.failures import whose
from ctbench.engine.job import VERBOSE, ProgressOption
from ctbench.engine.launchers.capacity import auto_workers
from ctbench.engine.launchers.events import MAX_WORKERS, Event, Listener
from ctbench.engine.logfile import LogFile
from ctbench.engine.node import Node
from ctbench.engine.rows import Rows
from ctbench.engine.store import Store, home
from ctbench.engine.workload import Workload
from ctbench.reporting.numbers import percent, rough_duration

LOG_SECONDS = 10.0
"""Without live bars, seconds between two lines about training."""
MANY = MAX_WORKERS
"""Number of workers that jobs of a cluster are taken for."""
UPDATE_SECONDS = 0.5
"""Seconds between two looks at how much is done, which take a while of a launch with very many nodes."""

Listen = Callable[[Sequence[Node]], Listener] | None
Say = Callable[[str], None]


@contextlib.contextmanager
def following(
    progress: ProgressOption, *, log: str | Path | None = None, workers: int | None = None, in_jobs: bool = False
) -> Iterator[tuple[Listen, Say]]:
    """Yield the arguments `listen` and `say` of `engine.run.run` for a job's options.

    Args:
        progress: True shows bars and lines on standard error, "verbose" a line for each node too, False shows nothing, a
            function is called with every event.
        log: a file that everything is appended to, whatever is shown.
        workers: number of workers that will compute; None for the number that suits the machine.
        in_jobs: whether jobs of a cluster will compute.
    """
    with contextlib.ExitStack() as stack:
        file = None if log is None else stack.enter_context(_logging(log))
        is_shown = progress is True or progress == VERBOSE
        if not is_shown and file is None:
            yield (None if not callable(progress) else lambda _todo: progress), _ignore
            return
        shown = stack.enter_context(
            Progress(is_shown=is_shown, is_verbose=progress == VERBOSE, log=file, workers=MANY if in_jobs else workers)
        )

        def follow(todo: Sequence[Node]) -> Listener:
            hear = shown.follow(todo)
            return hear if not callable(progress) else lambda event: (hear(event), progress(event))[0]

        yield follow, shown.say


@contextlib.contextmanager
def _logging(path: str | Path) -> Iterator[LogFile]:
    log = LogFile(path)
    try:
        yield log
    except BaseException as error:
        log.write_error(error)
        raise
    finally:
        log.close()


class _Title(ProgressColumn):
    """The name of a task, cut where the terminal is narrow."""

    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _Shown(ProgressColumn):
    """What a task shows behind its bar; of the whole launch the time left, which goes down between two events."""

    def render(self, task: Task) -> Text:
        shown = task.fields["shown"]
        return Text(shown() if callable(shown) else str(shown), no_wrap=True)


class Progress:
    """Shows the events of a launch while its context is open.

    Args:
        is_shown: whether anything goes to standard error.
        is_verbose: whether every node is a line.
        log: where every line and every event goes.
        workers: as of `following`.
    """

    def __init__(
        self,
        *,
        is_shown: bool = True,
        is_verbose: bool = False,
        log: LogFile | None = None,
        workers: int | None = None,
    ) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=not is_shown)
        has_widgets = self.console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        self.is_live = is_shown and (self.console.is_terminal or has_widgets)
        self._is_verbose, self._log, self._workers = is_verbose, log, workers
        columns = (_Title(), BarColumn(bar_width=16), _Shown(table_column=Column(no_wrap=True)))
        self._bars = Bars(*columns, console=self.console, transient=True, disable=not self.is_live)
        self._launch: _Launch | None = None

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """Print one line above the bars, and log it."""
        if self._log is not None:
            self._log.write(line)
        self.console.print(line, soft_wrap=True, markup=False)

    def follow(self, todo: Sequence[Node]) -> Callable[[Event], None]:
        """Start bars for the nodes to compute; return an event callback."""
        if self._launch is not None:  # of the launch before
            self._launch.clear()
        store = Store(home() / "store", writes=False)
        count = auto_workers(todo) if self._workers is None else max(1, self._workers)
        seconds, is_measured = costs(todo, store, home())
        work = Workload(todo, seconds, is_measured=is_measured, workers=count)
        kinds = [node.kind for node in todo]
        stages, cells = kinds.count("stage") + kinds.count("base"), kinds.count("cell")
        left = work.seconds_left()
        time_needed = "" if left is None else f", {rough_duration(left)}"
        where = " in jobs" if count == MANY else f" on {count} worker{'s' if count > 1 else ''}"
        self.say(f"to compute: {stages} stages, {cells} cells, {kinds.count('loss')} LM losses{time_needed}{where}")
        self._launch = _Launch(self, self._bars, work, Rows(todo, store), num_cells=cells)
        return self._hear

    def _hear(self, event: Event) -> None:
        assert self._launch is not None
        node, launch = event.node, self._launch
        if self._log is not None:
            self._log.write_event(event)
        match event.what:
            case "start":
                launch.start(node)
            case "progress":
                launch.report(event)
            case "waiting":
                self.say(f"{node.title}: waiting for {event.owner}")
            case "resuming":
                launch.resume(event)
                self.say(f"{node.title}: resuming from step {event.step} of {event.num_steps}")
            case "saved":
                self.say(f"{node.title}: checkpoint saved at step {event.step} of {event.num_steps}")
            case "retrying":
                launch.stop(node)
                self.say(f"{node.title}: {event.reason}")
            case "failed":
                self.say(f"failed: {whose(node)}{node.title}: {event.reason}")
                launch.drop([node, *event.dependents])
            case "done":
                launch.finish(node, is_verbose=self._is_verbose)


class _Launch:
    """The bars and lines of one launch."""

    def __init__(self, shown: Progress, bars: Bars, work: Workload, rows: Rows, *, num_cells: int) -> None:
        self._shown, self._bars, self._work, self._rows = shown, bars, work, rows
        self._started = self._logged = time.monotonic()
        self._left: tuple[float, float | None] = (self._started, work.seconds_left())
        self._share, self._updated = 0.0, 0.0
        self._num_cells, self._cells_done, self._has_started = num_cells, 0, False
        self._training: dict[str, TaskID] = {}
        self._overall = bars.add_task("everything", total=1.0, shown=self._state)
        self._cells = bars.add_task("cells", total=num_cells, shown=f"0 of {num_cells}") if num_cells else None

    def clear(self) -> None:
        """Remove the bars."""
        for task in (self._overall, self._cells, *self._training.values()):
            if task is not None:
                self._bars.remove_task(task)

    def start(self, node: Node) -> None:
        self._work.start(node.key)
        if node.kind in ("base", "stage"):
            self._training[node.key] = self._bars.add_task(node.title, total=None, shown="loading")
        if not self._shown.is_live and not self._has_started:  # a process takes seconds to import torch
            self._line(f"{node.title}: loading")
        self._has_started = True

    def resume(self, event: Event) -> None:
        self._work.resume(event.node.key, event.step / max(1, event.num_steps))

    def report(self, event: Event) -> None:
        node, step, num_steps = event.node, event.step, event.num_steps
        self._work.report(node.key, step / max(1, num_steps))
        if node.key in self._training:
            shown = f"step {step} of {num_steps}, loss {event.loss:.3f}"
            self._bars.update(self._training[node.key], completed=step, total=num_steps, shown=shown)
        self._update()
        if not self._shown.is_live and time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            self._line(f"{node.title}: step {step} of {num_steps}, loss {event.loss:.3f}")

    def finish(self, node: Node, *, is_verbose: bool) -> None:
        seconds = self._work.finish(node.key)
        self._update()
        took = "" if seconds is None else f" in {seconds:.1f} s"
        if node.key in self._training:
            self._bars.remove_task(self._training.pop(node.key))
            if is_verbose or not self._shown.is_live:
                self._line(f"{node.title}: done{took}")
        elif is_verbose:
            score = f", {percent(self._rows.score(node))}" if node.kind == "cell" else ""
            self._line(f"{node.title}: done{took}{score}")
        if node.kind == "cell":
            self._count_cell(self._rows.finish(node))

    def stop(self, node: Node) -> None:
        """A node is not computed any more, at least for now."""
        self._work.stop(node.key)
        if node.key in self._training:
            self._bars.remove_task(self._training.pop(node.key))

    def drop(self, nodes: Sequence[Node]) -> None:
        """Nodes are given up: what is left is less by them."""
        for node in nodes:
            self.stop(node)
            self._work.drop(node.key)
        self._update()
        for node in nodes:
            if node.kind == "cell":
                self._count_cell(self._rows.drop(node))

    def _count_cell(self, row: str | None) -> None:
        self._cells_done += 1
        if self._cells is not None:
            shown = f"{self._cells_done} of {self._num_cells}"
            self._bars.update(self._cells, completed=self._cells_done, shown=shown)
        if row is not None:
            self._line(row)

    def _update(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if now - self._updated < UPDATE_SECONDS and not at_once:
            return
        self._updated, self._share = now, self._work.share()
        self._left = now, self._work.seconds_left()
        self._bars.update(self._overall, completed=self._share)

    def _state(self) -> str:
        """Return the share of the work that is done and the time left."""
        share = f"{100 * self._share:.0f} %"
        then, left = self._left
        if left is None:
            return share
        return f"{share}, {rough_duration(max(0.0, left - (time.monotonic() - then)))} left"

    def _line(self, text: str) -> None:
        self._update(at_once=True)
        seconds = time.monotonic() - self._started
        self._shown.say(f"[{seconds:.0f} s, {self._state()}] {text}")


def _ignore(_line: str) -> None:
    pass
