"""What kills a victim at a call to the file system: installed in a process of a test before it computes.

The shipped code does not know of it. Python's audit events tell of every call that opens, renames, links or removes a file
or makes a folder; `os.fsync` is wrapped. A victim that is killed may also lose whatever it had not flushed to the disk, as
if the power had failed.

Run as a program, this stands in for the interpreter that starts a worker process: `faults.py -P -m MODULE ARGUMENTS`.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

CHANGES: Final = ("open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir")
"""Audit events of calls that may change a folder."""
KEY_DIGITS: Final = 64
VARIABLE: Final = "CTBENCH_TEST_FAULTS"
"""Environment variable that carries a `Plan` to worker processes."""
SILENT_SECONDS, HEARTBEAT_SECONDS = 3.0, 0.5
"""Instead of those of `ctbench.machine.claims`, so that a test does not wait 90 s for a claim without an owner."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens to a process.

    Args:
        root: folder below which calls are counted.
        journal: file to which every process appends what happens.
        call: number of the call at which the process is killed; 0 for never.
        within: what the paths of the calls that are counted contain; "" for any.
        is_power_cut: whether data that are not flushed by then are lost.
        fuses: folder of files named by numbers of calls; every worker process takes one and is killed at that call.
    """

    root: str
    journal: str
    call: int = 0
    within: str = ""
    is_power_cut: bool = False
    fuses: str = ""


class Faults:
    """Counts the calls of this process and kills it at the planned one.

    Args:
        plan: what is to happen.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.calls: list[str] = []
        self._root = plan.root.rstrip("/") + "/"
        self._unflushed: set[str] = set()
        self._journal = os.open(plan.journal, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._fsync, self._rename = os.fsync, os.rename

    def install(self) -> None:
        """Watch this process from now on."""
        os.fsync, os.rename = self.fsync, self.rename
        sys.addaudithook(self.hear)

    def note(self, *words: object) -> None:
        """Append a line to the journal, in one write."""
        os.write(self._journal, (" ".join(map(str, words)) + "\n").encode())

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Listen to an audit event."""
        if event not in CHANGES:
            return
        path = args[1] if event == "os.link" else args[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.fsdecode(path)
        is_below = path.startswith(self._root) or (event in ("os.remove", "os.rmdir") and args[-1] >= 0)
        if not is_below or (event == "open" and not self._is_writing(args)):
            return
        self.step(event, path)
        if event == "open":
            self._unflushed.add(path)

    def fsync(self, handle: Any) -> None:
        """Flush, and count it."""
        path = str(Path(f"/proc/self/fd/{handle if isinstance(handle, int) else handle.fileno()}").readlink())
        if path.startswith(self._root):
            self.step("fsync", path)
            self._unflushed.discard(path)
        self._fsync(handle)

    def rename(self, source: Any, target: Any, **options: Any) -> None:
        """Rename, and note which nodes became complete and which were taken away."""
        self._rename(source, target, **options)
        source, target = Path(source), Path(target)
        if target.parent.parent.name == "store":
            if len(target.name) == KEY_DIGITS:
                self.note("complete", target.name)
            if len(source.name) == KEY_DIGITS:
                self.note("removed", source.name)

    def step(self, event: str, path: str) -> None:
        """Count a call, and kill this process if it is the planned one."""
        if self.plan.within not in path:
            return
        self.calls.append(path)
        if len(self.calls) != self.plan.call:
            return
        if self.plan.is_power_cut:
            for path in self._unflushed:
                with contextlib.suppress(OSError):
                    os.truncate(path, Path(path).stat().st_size // 2)
        self.note("killed", event)
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def _is_writing(args: tuple[Any, ...]) -> bool:
        _, mode, flags = args
        return bool(set(mode) & set("wxa+")) if isinstance(mode, str) else bool(flags & (os.O_WRONLY | os.O_RDWR))


def install(plan: Plan) -> Faults:
    """Watch this process, and hand the plan on to the workers that it starts."""
    from ctbench.machine import claims

    claims.SILENT_SECONDS, claims.HEARTBEAT_SECONDS = SILENT_SECONDS, HEARTBEAT_SECONDS
    os.environ[VARIABLE] = json.dumps(asdict(plan))
    faults = Faults(plan)
    faults.install()
    return faults


def take_fuse(folder: str) -> int:
    """Return the number of the call at which this worker is killed; 0 if no fuse is left."""
    for fuse in sorted(Path(folder).iterdir()) if folder else ():
        with contextlib.suppress(OSError):  # another worker was faster
            fuse.unlink()
            return int(fuse.name.partition("-")[0])
    return 0


def main() -> None:
    """Run a module as the interpreter would, watched."""
    plan = Plan(**json.loads(os.environ[VARIABLE]))
    module, *arguments = sys.argv[sys.argv.index("-m") + 1 :]
    sys.argv = [module, *arguments]
    install(Plan(**{**asdict(plan), "call": take_fuse(plan.fuses)}))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
