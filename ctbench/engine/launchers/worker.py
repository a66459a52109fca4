"""A worker: reads node specs as JSON lines, computes them, answers with events as JSON lines.

    python -m ctbench.engine.launchers.worker STORE CACHE [OPTIONS]

It stops when its standard input ends or SIGTERM arrives: a stage at the end of an update, with a checkpoint, and anything
else at once; what was complete stays.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ctbench.engine.launchers.events import LaunchOptions

ORPHAN_SECONDS: Final = 60.0
"""Time that a worker whose parent is gone has to stop."""


def arguments(store: Path, cache: Path, options: LaunchOptions) -> list[str]:
    """Return the arguments of a worker."""
    told = {"save_seconds": options.checkpoint_seconds, "max_loss": options.max_loss}
    return [str(store), str(cache), json.dumps(told)]


def main() -> None:
    """Serve until standard input ends."""
    from ctbench.machine.interrupts import Interrupted, interruptible

    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a method prints must not end up among the replies
    specs: queue.SimpleQueue[str] = queue.SimpleQueue()
    try:
        with interruptible(once=True):
            threading.Thread(target=_read, args=(specs,), daemon=True).start()
            _serve(specs, replies)
    except Interrupted as stop:
        signal.signal(stop.number, signal.SIG_DFL)
        os.kill(os.getpid(), stop.number)  # whoever waits sees why; the libraries would take their time to end


def _read(specs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        specs.put(line)
    os.kill(os.getpid(), signal.SIGTERM)  # whoever gave the work is gone
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _serve(specs: queue.SimpleQueue[str], replies: IO[str]) -> None:
    from ctbench.engine.compute import Executor
    from ctbench.engine.store import Store
    from ctbench.errors import print_notices

    print_notices()
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    executor = Executor(Store(Path(sys.argv[1])), Path(sys.argv[2]), **options)
    while True:
        _compute(executor, specs.get(), replies)


def _compute(executor: Any, line: str, replies: IO[str]) -> None:
    from ctbench.engine.failures import problem_of
    from ctbench.engine.launchers.events import callbacks
    from ctbench.engine.node import Spec

    tell = functools.partial(_say, replies)
    try:
        executor.compute(Spec.from_json(line), **callbacks(tell))
    except (Exception, SystemExit) as error:  # a method may be third-party code that raises anything
        tell(what="failed", problem=dataclasses.asdict(problem_of(error)))
    else:
        tell(what="done")


def _say(replies: IO[str], **reply: Any) -> None:
    replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
