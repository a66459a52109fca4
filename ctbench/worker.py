"""A worker: reads node specs as JSON lines, computes them, answers with events as JSON lines.

    python -m ctbench.worker STORE CACHE

It ends when its standard input does, also in the middle of a node: what was complete stays.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import IO, Any


def main() -> None:
    """Serve until standard input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a method prints must not end up among the replies
    specs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(specs,), daemon=True).start()

    from ctbench.compute import Workshop
    from ctbench.store import Store

    workshop = Workshop(Store(Path(sys.argv[1])), Path(sys.argv[2]))
    while True:
        _serve(workshop, specs.get(), replies)


def _read(specs: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        specs.put(json.loads(line))
    os._exit(0)  # whoever gave the work is gone


def _serve(workshop: Any, spec: dict[str, Any], replies: IO[str]) -> None:
    from ctbench.errors import CTBenchError

    def report(step: int, num_steps: int, loss: float) -> None:
        _say(replies, what="progress", step=step, num_steps=num_steps, loss=loss)

    try:
        workshop.compute(spec, report)
    except CTBenchError as error:
        _say(replies, what="failed", kind=type(error).__name__, message=str(error), trace="")
    except (Exception, SystemExit) as error:  # the code of a method is a stranger's: whatever it raises ends the run
        message = f"{type(error).__name__}: {error}"
        _say(replies, what="failed", kind="RunFailed", message=message, trace=traceback.format_exc())
    else:
        _say(replies, what="done")


def _say(replies: IO[str], **reply: Any) -> None:
    replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
