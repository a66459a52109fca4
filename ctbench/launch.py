"""Who computes the nodes of a graph: this process, or local worker processes that are given specs as JSON.

Launchers only decide where a node runs; its numbers do not depend on it, because the number of threads belongs to the
node. Workers start once and keep models and data warm.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctbench.errors import BadConfig, BadData, BadPlugin, CTBenchError, RunFailed
from ctbench.gpu import visible_gpus
from ctbench.graph import Node, in_order
from ctbench.store import Store

MAX_WORKERS = 256


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a node: "start", "progress" (step of num_steps, loss) or "done"."""

    what: str
    node: Node
    step: int = 0
    num_steps: int = 0
    loss: float = 0.0


Listener = Callable[[Event], None]


def missing(nodes: Iterable[Node], store: Store) -> list[Node]:
    """Return the nodes that the store lacks, and the ancestors they need, parents first."""
    needed: dict[str, Node] = {}

    def visit(node: Node) -> None:
        if node.key in needed or store.has(node.key):
            return
        for parent in node.parents:
            visit(parent)
        needed[node.key] = node

    for node in nodes:
        visit(node)
    return list(needed.values())


def launch(nodes: Sequence[Node], store: Store, cache: Path, *, workers: int, listen: Listener) -> None:
    """Compute nodes and what they need.

    Args:
        nodes: those whose records are wanted.
        store: where they go.
        cache: folder of packed corpora.
        workers: number of processes; 0 computes in this one.
        listen: told about every event, in this thread.

    Raises:
        CTBenchError: a node failed; what was complete stays in the store.
    """
    todo = missing(nodes, store)
    if not todo:
        return
    if workers == 0:
        _launch_here(todo, store, cache, listen)
    else:
        _Pool(todo, store, cache, count=min(workers, len(todo)), listen=listen).run()


def _launch_here(todo: Sequence[Node], store: Store, cache: Path, listen: Listener) -> None:
    from ctbench.compute import Workshop

    workshop = Workshop(store, cache)
    for node in todo:
        listen(Event(what="start", node=node))

        def report(step: int, num_steps: int, loss: float, node: Node = node) -> None:
            listen(Event(what="progress", node=node, step=step, num_steps=num_steps, loss=loss))

        try:
            workshop.compute(node.spec(), report)
        except CTBenchError:
            raise
        except (Exception, SystemExit) as error:  # a method is a stranger's code: whatever it raises ends the run
            raise RunFailed(f"{node.title} failed: {type(error).__name__}: {error}") from error
        listen(Event(what="done", node=node))


class _Pool:
    """Local workers and what they are waiting for; the longest chain of waiting nodes goes first."""

    def __init__(self, todo: Sequence[Node], store: Store, cache: Path, *, count: int, listen: Listener) -> None:
        self.store, self.cache, self.listen = store, cache, listen
        self.todo = {node.key: node for node in todo}
        self.waiting = {node.key: {parent.key for parent in node.parents} & set(self.todo) for node in todo}
        self.height = _heights(todo)
        self.ready: list[tuple[int, int, str]] = []
        self.rank = {node.key: index for index, node in enumerate(todo)}
        self.replies: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self.busy: dict[int, Node] = {}
        self.count = count
        self.processes: list[subprocess.Popen[str]] = []
        self.readers: list[threading.Thread] = []

    def run(self) -> None:
        for key, parents in self.waiting.items():
            if not parents:
                self._push(key)
        try:
            for index in range(self.count):
                self.processes.append(self._start(index))
            left = len(self.todo)
            self._assign()
            while left:
                index, reply = self.replies.get()
                if reply is None:
                    if index in self.busy:
                        raise RunFailed(f"a worker died in {self.busy[index].title}; run it again to go on from there")
                    continue
                left -= self._handle(index, reply)
                self._assign()
        finally:
            self._stop()

    def _push(self, key: str) -> None:
        heapq.heappush(self.ready, (-self.height[key], self.rank[key], key))

    def _assign(self) -> None:
        for index, process in enumerate(self.processes):
            if index in self.busy or not self.ready:
                continue
            node = self.todo[heapq.heappop(self.ready)[2]]
            self.busy[index] = node
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(node.spec()) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                continue  # its reader thread reports the death
            self.listen(Event(what="start", node=node))

    def _handle(self, index: int, reply: dict[str, Any]) -> int:
        node = self.busy[index]
        if reply["what"] == "progress":
            self.listen(
                Event(what="progress", node=node, step=reply["step"], num_steps=reply["num_steps"], loss=reply["loss"])
            )
            return 0
        del self.busy[index]
        if reply["what"] == "failed":
            raise _error(node, reply)
        self.listen(Event(what="done", node=node))
        for key, parents in self.waiting.items():
            if node.key in parents:
                parents.discard(node.key)
                if not parents:
                    self._push(key)
        return 1

    def _start(self, index: int) -> subprocess.Popen[str]:
        process = start_serving("ctbench.worker", str(self.store.root), str(self.cache), index=index)

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    self.replies.put((index, json.loads(line)))
            self.replies.put((index, None))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self.readers.append(reader)
        return process

    def _stop(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            if self.busy:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for reader in self.readers:
            reader.join(timeout=10)


def start_serving(module: str, *args: str, index: int = 0) -> subprocess.Popen[str]:
    """Start a module that reads requests from its standard input and answers on its standard output, as lines.

    Args:
        module: to be run.
        args: its arguments.
        index: number of the worker: of several GPUs, each gets the next one.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=worker_environment(index),
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
    return usual | os.environ | only


def _heights(todo: Sequence[Node]) -> dict[str, int]:
    height = {node.key: 0 for node in todo}
    for node in reversed(in_order(todo)):
        for parent in node.parents:
            if parent.key in height:
                height[parent.key] = max(height[parent.key], height[node.key] + 1)
    return height


def _error(node: Node, reply: dict[str, Any]) -> CTBenchError:
    for kind in (BadConfig, BadData, BadPlugin):
        if reply["kind"] == kind.__name__:
            return kind(reply["message"])
    return RunFailed(f"{node.title} failed: {reply['message']}\n{reply['trace']}".rstrip())
