"""The process of a job: it computes the nodes of a shard with workers of this machine and tells what happens.

    python -m ctbench.engine.slurm.process FOLDER SHARD TOKEN

Every line that it appends to its file of events is a JSON object with `what`: "begin"; "refused", with the reason why no
job of the launch can work here; and the events of `ctbench.engine.launchers.events.Event` with the node's key.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ctbench.engine.launchers.events import Event, LaunchOptions
    from ctbench.engine.node import Node
    from ctbench.engine.slurm.folder import LaunchFolder

PROGRESS_SECONDS: Final = 5.0
"""Least time between two lines about the progress of a node."""
NOT_SHARED: Final = 3
"""Exit code of a job that does not find the launch where it was submitted."""
FIELDS: Final = ("step", "num_steps", "loss", "owner", "reason")


def main() -> int:
    """Compute a shard and return the exit code."""
    from ctbench.engine.slurm.folder import LaunchFolder
    from ctbench.errors import CTBenchError, RunFailed, print_notices
    from ctbench.machine.interrupts import interruptible

    folder, number, token = LaunchFolder(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
    if folder.token() != token:
        print(f"'{folder.path}' on {socket.gethostname()} is not the folder that the submitter wrote", flush=True)
        return NOT_SHARED
    print_notices()
    try:
        with interruptible(once=True), Tellings(folder) as told:
            told.write(what="begin", host=socket.gethostname(), process=os.getpid())
            try:
                _compute(folder, number, told)
            except CTBenchError as error:
                code = 1 if isinstance(error, RunFailed) else 2
                told.write(what="refused", code=code, reason=f"{error} (on {socket.gethostname()})")
                print(f"refused: {error}", flush=True)
                return code
    except RunFailed as error:  # the submitter finds no line, and looks itself
        print(f"refused: {error}", flush=True)
        return 1
    return 0


class Tellings:
    """Appends lines to the file of events of this job, and shorter ones to its log.

    Args:
        folder: of the launch.
    """

    def __init__(self, folder: LaunchFolder) -> None:
        from ctbench.engine.slurm.submit import this_job

        self._folder, self._path = folder, folder.events(this_job())
        self._file: IO[bytes] | None = None
        self._last: dict[str, float] = {}

    def __enter__(self) -> Tellings:
        with self._folder.writing():
            self._file = self._path.open("ab", buffering=0)  # nothing is left to be written when it is closed
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    def write(self, **line: Any) -> None:
        """Append a line.

        Raises:
            RunFailed: it cannot be written.
        """
        assert self._file is not None
        with self._folder.writing():
            self._file.write((json.dumps({**line, "time": time.time()}) + "\n").encode())

    def hear(self, event: Event) -> None:
        """Append an event."""
        node = event.node
        if event.what == "progress":
            if time.monotonic() - self._last.get(node.key, -PROGRESS_SECONDS) < PROGRESS_SECONDS:
                return
            self._last[node.key] = time.monotonic()
        more = {name: value for name in FIELDS if (value := getattr(event, name))}
        self.write(what=event.what, key=node.key, **more)
        shown = ", ".join(f"{name} {value}" for name, value in more.items())
        print(f"{time.strftime('%F %T')} {event.what}: {node.title}{shown and f' ({shown})'}", flush=True)


def _compute(folder: LaunchFolder, number: int, told: Tellings) -> None:
    from ctbench.engine.launchers.agreement import check_nodes, check_versions
    from ctbench.engine.launchers.launch import launch
    from ctbench.engine.store import Store

    plan, nodes = folder.plan(), folder.nodes()
    home = Path(plan["home"])
    store = Store(home / "store")
    keys = folder.shard(number)
    mine = [nodes[key] for key in keys]
    check_versions(plan["versions"])
    store.require_room()
    check_nodes([nodes[key] for key in plan["keys"]], plan["keys"])
    todo = computable(mine, store.has)
    options = _options(plan["options"], todo)
    for failure in launch(todo, store, home / "corpora", options=options, listen=told.hear):
        print(failure.trace or failure, flush=True)


def computable(nodes: Sequence[Node], has: Callable[[str], bool]) -> list[Node]:
    """Return the nodes to compute: those that are not done, with parents that are done or come before them.

    What waits for a node of a job that was killed is left for a job that comes later.
    """
    from ctbench.engine.slurm.shards import read_by

    found: dict[str, Node] = {}
    for node in nodes:
        if not has(node.key) and all(key in found or has(key) for key in read_by([node]) - {node.key}):
            found[node.key] = node
    return list(found.values())


def _options(told: dict[str, Any], todo: list[Node]) -> LaunchOptions:
    """Return how the shard is computed: by one worker for each core or GPU that the job has, if no number was asked for."""
    from ctbench.engine.launchers.capacity import auto_workers
    from ctbench.engine.launchers.events import LaunchOptions

    workers = told["workers"]
    if workers is None:
        cores = int(os.environ.get("SLURM_CPUS_PER_TASK") or 1)
        workers = auto_workers(todo) if os.environ.get("CUDA_VISIBLE_DEVICES") else min(cores, auto_workers(todo))
    return LaunchOptions(
        workers=workers, checkpoint_seconds=told["checkpoint_seconds"], max_loss=told["max_loss"], fail_fast=False
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
