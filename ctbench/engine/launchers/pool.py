"""Local worker processes that are given specs as JSON; they start once and keep models and data warm."""

from __future__ import annotations

import contextlib
import queue
import time
from typing import Any, Final

from ctbench.engine.failures import Problem, problem_of_death
from ctbench.engine.launchers.agenda import Agenda
from ctbench.engine.launchers.events import Event, fields_of
from ctbench.engine.launchers.process import Replies, Worker
from ctbench.engine.node import Node

GRACE_SECONDS: Final = 30.0
"""Time that interrupted workers have to end their update and to write a checkpoint."""
IDLE_SECONDS: Final = 10.0
"""Time that workers without work have to end."""


class Pool:
    """Computes an agenda in worker processes. One that dies is replaced; what it computed is failed or tried again.

    Args:
        agenda: what is to compute.
        args: arguments of the workers.
        count: number of workers.
    """

    def __init__(self, agenda: Agenda, args: list[str], *, count: int) -> None:
        self._agenda = agenda
        self._args = args
        self._count = count
        self._replies: Replies = queue.Queue()
        self._workers: list[Worker] = []
        self._busy: dict[int, Node] = {}

    def run(self) -> None:
        """Compute until nothing is left.

        Raises:
            CTBenchError: a problem ends the whole launch.
        """
        try:
            for index in range(self._count):
                self._workers.append(self._start(index))
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

    def _start(self, index: int) -> Worker:
        return Worker(self._args, index=index, replies=self._replies)

    def _assign(self) -> None:
        for index in range(self._count):
            if index in self._busy:
                continue
            node = self._agenda.take(num_busy=len(self._busy))
            if node is None:
                return
            self._busy[index] = node
            if self._workers[index].process.poll() is not None:
                self._workers[index].close()
                self._workers[index] = self._start(index)
            self._workers[index].send(node.spec().to_json())

    def _hear(self, worker: Worker, reply: dict[str, Any]) -> None:
        node = self._busy[worker.index]
        if reply["what"] == "done":
            del self._busy[worker.index]
            self._agenda.finish(node)
        elif reply["what"] == "failed":
            del self._busy[worker.index]
            self._agenda.fail(node, Problem(**reply["problem"]))
        else:
            self._agenda.listen(Event(node=node, **fields_of(reply)))

    def _bury(self, worker: Worker) -> None:
        """Take note that a worker is dead; another one takes its place when there is work for it."""
        code = worker.process.wait()
        if self._workers[worker.index] is worker and worker.index in self._busy:
            self._agenda.fail(self._busy.pop(worker.index), problem_of_death(code))

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
                if reply is not None and reply["what"] == "saved":
                    with contextlib.suppress(OSError):  # the terminal is gone
                        self._agenda.listen(Event(node=self._busy[worker.index], **fields_of(reply)))
        finally:
            for worker in self._workers:
                if worker.process.poll() is None:
                    worker.kill()
