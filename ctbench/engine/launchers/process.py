"""Processes that serve: they read requests from their standard input and answer on their standard output, as lines."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ctbench.engine.failures import Problem, problem_of_death
from ctbench.machine.allocator import KEEP_FREED
from ctbench.machine.gpus import visible_gpus


class Server(Protocol):
    """A worker process, on this machine or on another one, as a `Pool` sees it; `index` is its number."""

    index: int

    @property
    def is_ready(self) -> bool:
        """Whether it can be given a node; one of this machine always is, because the pool replaces it if it has ended."""

    @property
    def has_ended(self) -> bool:
        """Whether it is gone for good."""

    def send(self, line: str) -> None:
        """Give it a node."""

    def ask_to_stop(self, *, is_busy: bool) -> None:
        """Ask it to stop, after a checkpoint if it is busy."""

    def close(self) -> None:
        """Give it no more nodes."""

    def end(self, *, seconds: float) -> None:
        """Wait until it has ended, and kill it if that takes too long."""

    def kill(self) -> None:
        """End it at once."""

    def death(self) -> Problem:
        """Return what its end means."""


Replies = queue.Queue[tuple[Server, dict[str, Any] | None]]
"""Replies of workers in the order of their arrival; None is the last one of a worker."""
Start = Callable[[int, Replies], Server]
"""Starts the worker of a number."""


class Worker:
    """A worker process.

    Args:
        args: arguments of `ctbench.engine.launchers.worker`.
        index: number of the worker: of several GPUs, each gets the next one.
        replies: where its replies go.
    """

    is_ready = True

    def __init__(self, args: list[str], *, index: int, replies: Replies) -> None:
        self.index = index
        self.process = start_serving("ctbench.engine.launchers.worker", *args, index=index)
        self._replies = replies
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def death(self) -> Problem:
        """Return what the end of the process means; waits for it."""
        return problem_of_death(self.process.wait())

    def send(self, line: str) -> None:
        """Give the worker a node; if it is dead, its last reply tells."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def ask_to_stop(self, *, is_busy: bool) -> None:
        """Ask the worker to stop: a stage does at the end of an update, with a checkpoint, anything else at once."""
        if is_busy:
            self.process.terminate()
        self.close()

    def close(self) -> None:
        """Give the worker no more nodes."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self, *, seconds: float) -> None:
        """Wait until the process has ended, and kill it if that takes too long."""
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(timeout=seconds)

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):  # a line that was cut when the worker was killed
                    self._replies.put((self, json.loads(line)))
        self._replies.put((self, None))


def start_serving(module: str, *args: str, index: int = 0, keeps_freed: bool = True) -> subprocess.Popen[str]:
    """Start a module that reads requests from its standard input and answers on its standard output, as lines.

    Args:
        module: to be run.
        args: its arguments.
        index: number of the worker: of several GPUs, each gets the next one.
        keeps_freed: whether the C allocator keeps freed memory, which makes updates on a CPU faster.
    """
    environment = worker_environment(index)
    if not keeps_freed:
        environment = {name: value for name, value in environment.items() if name not in KEEP_FREED}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *args],  # -P: a json.py in the current directory is not Python's
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
        process_group=0,  # an interrupt at the terminal is for this process, which stops what it started
    )


def worker_environment(index: int = 0) -> dict[str, str]:
    """Return the environment of the worker of a number; what the user has set stays, but of several GPUs it sees one.

    GPUs are numbered as the driver's tools do it. Tokenizers must not start threads beside the node's own. OpenMP's
    threads wait awake for a moment only: where a core is taken by another process, waiting awake for milliseconds made
    a node of two threads four to seven times slower.
    """
    gpus = visible_gpus()
    only = {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if len(gpus) > 1 else {}
    usual = {"TOKENIZERS_PARALLELISM": "false", "GOMP_SPINCOUNT": "2000", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return usual | KEEP_FREED | os.environ | only
