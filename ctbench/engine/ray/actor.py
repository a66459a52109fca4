"""What Ray runs on a machine: an actor that keeps a worker process, gives it nodes and passes on its replies."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any


class WorkerActor:
    """Keeps a worker process, `ctbench.engine.launchers.worker`. Its methods run in threads of the actor's process.

    Args:
        setup: from `ctbench.engine.ray.launch`, as JSON.
    """

    def __init__(self, setup: str) -> None:
        self._setup: dict[str, Any] = json.loads(setup)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> str:
        """Look whether a worker can compute here; return a reply: "ready", or "refused" with the reason."""
        os.environ.update(self._setup["environment"])
        if Path(self._setup["cwd"]).is_dir():
            os.chdir(self._setup["cwd"])  # relative paths of settings
        command = [sys.executable, "-P", "-m", "ctbench.engine.ray.check"]
        done = subprocess.run(command, input=json.dumps(self._setup), capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.splitlines()[-1]
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = f"ctbench does not start on the machine {socket.gethostname()}: {lines[-1]}"
        return json.dumps({"what": "refused", "code": 2, "reason": reason})

    def send(self, line: str) -> None:
        """Give the worker a node; it is started if there is none."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is told
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def replies(self) -> list[str]:
        """Wait for replies of the worker and return them; "ended" with its exit code is the last one of a worker."""
        found = [self._lines.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._lines.get_nowait())
        return found

    def stop(self, is_busy: bool) -> None:
        """Ask the worker to stop: a stage does at the end of an update, with a checkpoint, anything else at once."""
        if self._process is None:
            self._lines.put(json.dumps({"what": "ended", "code": 0}))
            return
        if is_busy:
            self._process.terminate()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _start(self) -> None:
        from ctbench.engine.launchers.process import start_serving

        if not self._setup["uses_gpu"]:
            os.environ["ACCELERATE_USE_CPU"] = "1"
        self._process = start_serving("ctbench.engine.launchers.worker", *self._setup["args"])
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(json.dumps({"what": "ended", "code": process.wait()}))
