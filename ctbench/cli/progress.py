"""Live progress on standard error: bars in a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ctbench.graph import Node
from ctbench.launch import Event

LOG_SECONDS = 10.0
"""Without a terminal, at most one line of progress per node in so many seconds."""


class Progress:
    """Shows the events of a launch; use it as a context."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.is_live = self.console.is_terminal
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.console,
            transient=True,
            disable=not self.is_live,
        )
        self._training: dict[str, TaskID] = {}
        self._overall: TaskID | None = None
        self._cells: TaskID | None = None
        self._started = time.monotonic()
        self._logged = self._started
        self._done = 0
        self._count = 0

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        self.console.print(line, soft_wrap=True, markup=False)

    def follow(self, todo: Sequence[Node]) -> Callable[[Event], None]:
        """Return what is told about every event of the nodes to compute."""
        for task in (self._overall, self._cells):  # of a launch before
            if task is not None:
                self._bars.remove_task(task)
        kinds = [node.kind for node in todo]
        self._count, self._done = len(todo), 0
        stages, cells = kinds.count("stage") + kinds.count("base"), kinds.count("cell")
        self.say(f"to compute: {stages} stages, {cells} cells, {kinds.count('loss')} LM losses")
        self._overall = self._bars.add_task("everything", total=len(todo), loss="")
        self._cells = self._bars.add_task("cells", total=cells, loss="") if cells else None
        return self._hear

    def _hear(self, event: Event) -> None:
        key, node = event.node.key, event.node
        if event.what == "start" and node.kind in ("base", "stage"):
            self._training[key] = self._bars.add_task(node.title, total=None, loss="")
        elif event.what == "progress":
            self._bars.update(
                self._training[key], completed=event.step, total=event.num_steps, loss=f"loss {event.loss:.3f}"
            )
            if not self.is_live and time.monotonic() - self._logged > LOG_SECONDS:
                self._logged = time.monotonic()
                self._log(f"{node.title}: step {event.step} of {event.num_steps}, loss {event.loss:.3f}")
        elif event.what == "done":
            self._finish(node)

    def _finish(self, node: Node) -> None:
        self._done += 1
        assert self._overall is not None
        self._bars.advance(self._overall)
        if node.kind == "cell" and self._cells is not None:
            self._bars.advance(self._cells)
        if node.key in self._training:
            self._bars.remove_task(self._training.pop(node.key))
            if not self.is_live:
                self._log(f"{node.title}: done")

    def _log(self, text: str) -> None:
        seconds = time.monotonic() - self._started
        self.say(f"[{seconds:6.0f} s, {self._done} of {self._count} nodes] {text}")
