"""A worker on a machine of the cluster, as a `Pool` sees it. One that is lost with its machine is replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable
from typing import Any, Final

from ctbench.engine.failures import Problem, problem_of_death
from ctbench.engine.launchers.process import Replies
from ctbench.errors import first_line

MAX_STARTS: Final = 3
"""Times that a worker is started anew if it is lost before it is ready."""


class RayWorker:
    """A worker of a Ray cluster: an actor, and a thread that waits for its replies.

    Args:
        make: starts an actor; it may wait for machines.
        index: number of the worker.
        replies: where its replies go.
    """

    def __init__(self, make: Callable[[], Any], *, index: int, replies: Replies) -> None:
        self.index = index
        self._make, self._replies = make, replies
        self._lock = threading.Lock()
        self._is_ready = self._is_busy = self._is_stopping = False
        self._actor = make()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether its machine was found and looked at, so that it can be given a node."""
        return self._is_ready

    @property
    def has_ended(self) -> bool:
        """Whether nobody waits for its replies any more."""
        return not self._thread.is_alive()

    def send(self, line: str) -> None:
        """Give the worker a node; if it is lost, the reply is a failure."""
        with self._lock:
            self._is_busy = True
            if self._is_ready:
                self._actor.send.remote(line)
                return
        self._lose("it was gone before it was given the node")

    def ask_to_stop(self, *, is_busy: bool) -> None:
        """Ask the worker to stop: a stage does at the end of an update, with a checkpoint, anything else at once."""
        with self._lock:
            self._is_stopping = True
            if self._is_ready:
                self._actor.stop.remote(is_busy)
                return
        self.kill()

    def close(self) -> None:
        """Give the worker no more nodes."""

    def end(self, *, seconds: float) -> None:
        """Wait until the worker has ended, and give its place back."""
        self._thread.join(timeout=seconds)
        self.kill()

    def kill(self) -> None:
        """End the worker at once."""
        import ray

        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(self._actor)

    def death(self) -> Problem:
        """Return what the end of the worker means; a lost one tells itself."""
        return Problem(kind="lost", reason="its worker was lost")

    def _serve(self) -> None:
        import ray
        from ray.exceptions import RayError

        starts = 0
        while not self._is_stopping:
            try:
                told = json.loads(ray.get(self._actor.begin.remote()))
                if told["what"] == "ready":
                    starts = 0
                    with self._lock:
                        self._is_ready = True
                self._replies.put((self, told))
                if told["what"] != "ready":
                    return
                self._pass_on(ray.get)
            except RayError as error:
                starts += 1
                self._lose(first_line(error))
                if starts >= MAX_STARTS and not self._is_stopping:
                    reason = f"Ray starts no worker: {_cause(error)}"
                    self._replies.put((self, {"what": "refused", "code": 2, "reason": reason}))
                    return
                self.kill()
                if not self._is_stopping:
                    self._actor = self._make()

    def _pass_on(self, get: Callable[[Any], list[str]]) -> None:
        """Pass replies on until the worker was asked to stop and has ended."""
        while True:
            for line in get(self._actor.replies.remote()):
                reply = json.loads(line)
                if reply["what"] == "ended":
                    if self._is_stopping:
                        return
                    self._fail(problem_of_death(reply["code"]))
                    continue
                if reply["what"] in ("done", "failed"):
                    with self._lock:
                        self._is_busy = False
                self._replies.put((self, reply))

    def _lose(self, why: str) -> None:
        with self._lock:
            self._is_ready = False
        self._fail(Problem(kind="lost", reason=f"its worker was lost ({why})"))

    def _fail(self, problem: Problem) -> None:
        """Tell that the node failed that the worker was given, if there is one."""
        with self._lock:
            was_busy, self._is_busy = self._is_busy, False
        if was_busy and not self._is_stopping:
            self._replies.put((self, {"what": "failed", "problem": dataclasses.asdict(problem)}))


def _cause(error: BaseException) -> str:
    """Return what went wrong when an actor was started, in one line."""
    text = str(error)
    if "No module named 'ctbench" in text:
        return "ctbench is not installed on a machine of the cluster, or is another version there"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
