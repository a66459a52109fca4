"""Measure what checksums, checkpoints, claims and flushes cost: `python tests/measure_overhead.py [METHOD] [STREAM]`.

One run into a fresh store, in this process. CPU time is counted inside the outermost of the calls below, and compared with
that of the whole run.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from ctbench.data import tokens
from ctbench.engine import compute, materials, prune, resume, run, store, tensors
from ctbench.engine.job import Job
from ctbench.machine import claims, files, manifest

CALLS: Final = (
    (manifest, "write_manifest", (manifest, store, tokens, resume)),
    (manifest, "read_manifest", (manifest, store, tokens, tensors)),
    (manifest, "verify_files", (manifest, store, materials)),
    (manifest, "damage_of", (manifest, tokens)),
    (manifest, "read_verified", (manifest, tensors)),
    (files, "flush_tree", (files,)),
    (files, "flush_folder", (files,)),
    (resume, "save_checkpoint", (resume, compute)),
    (resume, "load_checkpoint", (resume, compute)),
    (claims, "_create", (claims,)),
    (claims, "read_owner", (claims,)),
    (claims, "_beat", (claims,)),
    (prune, "sweep", (prune, run)),
)
"""(module, function, modules that hold it by name)."""

SECONDS: Counter[str] = Counter()
COUNTS: Counter[str] = Counter()
_INSIDE = threading.local()


def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, with the CPU time of this thread inside it counted if no other counted one called it."""

    @functools.wraps(function)
    def call(*args: Any, **more: Any) -> Any:
        started, depth = time.thread_time(), getattr(_INSIDE, "depth", 0)
        _INSIDE.depth = depth + 1
        try:
            return function(*args, **more)
        finally:
            _INSIDE.depth = depth
            COUNTS[name] += 1
            SECONDS[name] += (time.thread_time() - started) * (depth == 0)

    return call


def main() -> None:
    """Run and print the figures."""
    method, stream = (*sys.argv[1:], *("naive", "domain")[len(sys.argv) - 1 :])
    for module, name, holders in CALLS:
        replaced = counted(name, getattr(module, name))
        for holder in holders:
            setattr(holder, name, replaced)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CTBENCH_HOME"] = f"{folder}/home"
        started = time.process_time()
        run.run(Job(method=method, stream=stream, results=f"{folder}/results", workers=0, progress=False))
        total = time.process_time() - started
    for name, seconds in SECONDS.most_common():
        sys.stdout.write(f"{name:16} {COUNTS[name]:6} calls {seconds:8.3f} s\n")
    spent = sum(SECONDS.values())
    sys.stdout.write(f"{spent:.3f} s of {total:.1f} s of CPU time: {100 * spent / total:.2f} %\n")


if __name__ == "__main__":
    main()
