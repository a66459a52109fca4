"""Worker processes that are given specs as JSON; they start once and keep models and data warm."""

from __future__ import annotations

import contextlib
import queue
import time
from typing import Any, Final

from ctbench.engine.failures import Problem
from ctbench.engine.launchers.agenda import Agenda
from ctbench.engine.launchers.events import Event, fields_of
from ctbench.engine.launchers.process import Replies, Server, Start
from ctbench.engine.node import Node
from ctbench.errors import BadConfig, RunFailed

GRACE_SECONDS: Final = 30.0
"""Time that interrupted workers have to end their update and to write a checkpoint."""
IDLE_SECONDS: Final = 10.0
"""Time that workers without work have to end."""


class Pool:
    """Computes an agenda in worker processes. One that dies is replaced; what it computed is failed or tried again.

    Args:
        agenda: what is to compute.
        start: starts a worker.
        count: number of workers.
    """

    def __init__(self, agenda: Agenda, start: Start, *, count: int) -> None:
        self._agenda = agenda
        self._start = start
        self._count = count
        self._replies: Replies = queue.Queue()
        self._workers: list[Server] = []
        self._busy: dict[int, Node] = {}

    @property
    def num_ready(self) -> int:
        """Number of workers that can be given nodes or compute one."""
        return sum(worker.is_ready for worker in self._workers)

    def run(self) -> None:
        """Compute until nothing is left.

        Raises:
            CTBenchError: a problem ends the whole launch.
        """
        try:
            for index in range(self._count):
                self._workers.append(self._start(index, self._replies))
            self._assign()
            while self._agenda.num_left:
                worker, reply = self._replies.get()
                if reply is None:
                    self._bury(worker)
                else:
                    self._hear(worker, reply)
                self._assign()
        finally:
            self._stop()

    def _assign(self) -> None:
        for index in range(self._count):
            if index in self._busy or not self._workers[index].is_ready:
                continue
            node = self._agenda.take(num_busy=len(self._busy))
            if node is None:
                return
            self._busy[index] = node
            if self._workers[index].has_ended:
                self._workers[index].close()
                self._workers[index] = self._start(index, self._replies)
            self._workers[index].send(node.spec().to_json())

    def _hear(self, worker: Server, reply: dict[str, Any]) -> None:
        if reply["what"] == "ready":
            return
        if reply["what"] == "refused":
            raise (RunFailed if reply["code"] == 1 else BadConfig)(reply["reason"])
        node = self._busy[worker.index]
        if reply["what"] == "done":
            del self._busy[worker.index]
            self._agenda.finish(node)
        elif reply["what"] == "failed":
            del self._busy[worker.index]
            self._agenda.fail(node, Problem(**reply["problem"]))
        else:
            self._agenda.listen(Event(node=node, **fields_of(reply)))

    def _bury(self, worker: Server) -> None:
        """Take note that a worker is dead; another one takes its place when there is work for it."""
        problem = worker.death()
        if self._workers[worker.index] is worker and worker.index in self._busy:
            self._agenda.fail(self._busy.pop(worker.index), problem)

    def _stop(self) -> None:
        """Stop the workers; those that compute write a checkpoint first. A second interrupt kills them."""
        try:
            for worker in self._workers:
                worker.ask_to_stop(is_busy=worker.index in self._busy)
            deadline = time.monotonic() + (GRACE_SECONDS if self._busy else IDLE_SECONDS)
            for worker in self._workers:
                worker.end(seconds=max(0.1, deadline - time.monotonic()))
            while not self._replies.empty():
                worker, reply = self._replies.get()
                if reply is not None and reply["what"] == "saved" and worker.index in self._busy:
                    with contextlib.suppress(OSError):  # the terminal is gone
                        self._agenda.listen(Event(node=self._busy[worker.index], **fields_of(reply)))
        finally:
            for worker in self._workers:
                if not worker.has_ended:
                    worker.kill()
