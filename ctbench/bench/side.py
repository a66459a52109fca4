"""One side of a comparison in a process of its own: reads requests as JSON lines, answers with readings.

    python -m ctbench.bench.side engine|trainer

The sides do not share a process, because the engine sets the allocator of the whole process and a rival would gain
from it; both stay warm from round to round.
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

from ctbench.errors import CTBenchError, RunFailed
from ctbench.launch import start_serving


class SideProcess:
    """The parent's end of a side.

    Args:
        kind: "engine" or "trainer".
    """

    def __init__(self, kind: str) -> None:
        self._process = start_serving("ctbench.bench.side", kind)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reading for a request.

        Raises:
            RunFailed: the side broke, with what it said.
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
        """End the side's process, also in the middle of a request: it keeps nothing."""
        self._process.terminate()
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextlib.contextmanager
def side_processes() -> Iterator[dict[str, SideProcess]]:
    """Give both sides' processes by kind; they end with the block."""
    started: dict[str, SideProcess] = {}
    try:
        for kind in ("engine", "trainer"):
            started[kind] = SideProcess(kind)
        yield started
    finally:
        for process in started.values():
            process.close()


def main() -> None:
    """Serve until standard input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints must not end up among the replies
    from ctbench.bench.loops import run_loop
    from ctbench.kernels import keep_freed_memory

    if sys.argv[1] == "engine":
        keep_freed_memory()
    for line in sys.stdin:
        try:
            reply = run_loop(json.loads(line))
        except CTBenchError as error:
            reply = {"failed": str(error)}
        except Exception as error:  # methods and libraries raise what they like: the parent ends the bench with it
            traceback.print_exc()
            reply = {"failed": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        gc.collect()


if __name__ == "__main__":
    main()
