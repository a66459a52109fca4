"""One side of a comparison in its own process: reads requests as JSON lines and answers with readings.

    python -m ctbench.speed.side engine|trainer

The sides do not share a process: the engine configures the allocator of its whole process, and the Trainer would benefit
from that. Both processes stay warm between rounds.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from ctbench.engine.launchers.process import start_serving
from ctbench.errors import CTBenchError, RunFailed


class SideProcess:
    """The parent's handle of a side's process.

    Args:
        kind: "engine" or "trainer".
    """

    def __init__(self, kind: str) -> None:
        self._process = start_serving("ctbench.speed.side", kind, keeps_freed=kind == "engine")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reading for a request.

        Raises:
            RunFailed: the side failed; the message says why.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"failed": "the process died"}
        if "failed" in reply:
            raise RunFailed(f"bench, {request['loop']}: {reply['failed']}")
        return reply

    def close(self) -> None:
        """Terminate the process, even during a request: a side has no state to save."""
        self._process.terminate()
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextlib.contextmanager
def side_processes() -> Iterator[dict[str, SideProcess]]:
    """Start a process per side, by kind; the processes stop when the block ends."""
    started: dict[str, SideProcess] = {}
    try:
        for kind in ("engine", "trainer"):
            started[kind] = SideProcess(kind)
        yield started
    finally:
        for process in started.values():
            process.close()


def main() -> None:
    """Answer requests until standard input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # keeps output of libraries out of the replies
    from ctbench.speed.loops import run_loop

    for line in sys.stdin:
        try:
            reply = run_loop(json.loads(line))
        except CTBenchError as error:
            reply = {"failed": str(error)}
        except Exception as error:  # any exception of a method or a library; the parent stops the bench
            traceback.print_exc()
            reply = {"failed": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        gc.collect()


if __name__ == "__main__":
    main()
