"""A real Ray cluster of one machine, in a folder of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from controller import free_port

CPUS = 3
SECONDS = 300


class RayCluster:
    """Starts and stops a head, which takes workers itself.

    Args:
        folder: for sockets and logs; short.
        environment: added to that of its workers.
    """

    words = ("--launcher", "ray", "--workers", "2")
    """Options of a run that computes here."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self.port = free_port()
        self.host = socket.gethostname()
        secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = {"RAY_ADDRESS": f"127.0.0.1:{self.port}", **secret}
        self.private = folder / "private"
        """What workers do not see, and have an empty folder for."""
        self.hides = False
        """Whether this machine can hide a folder from workers, which takes a mount namespace."""
        settings = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }  # a busy machine would starve nice workers
        self._environment = {**os.environ, **settings, **secret, **environment}

    def __enter__(self) -> RayCluster:
        self.private.mkdir()
        hide = ("unshare", "--mount", "sh", "-c", f"mount -t tmpfs none '{self.private}' && exec \"$@\"", "sh")
        self.hides = subprocess.run([*hide, "true"], capture_output=True).returncode == 0
        options = {
            "port": self.port,
            "node-ip-address": "127.0.0.1",
            "num-cpus": CPUS,
            "num-gpus": 0,
            "include-dashboard": "false",
            "object-store-memory": 100_000_000,
            "temp-dir": self.folder / "ray",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        with (self.folder / "head.log").open("w") as log:
            self._head = subprocess.Popen(
                [
                    *(hide if self.hides else ()),
                    sys.executable,
                    "-m",
                    "ray.scripts.scripts",
                    "start",
                    "--head",
                    "--block",
                    *words,
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + SECONDS
        while "Ray runtime started" not in (self.folder / "head.log").read_text():
            if self._head.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Ray does not start: {(self.folder / 'head.log').read_text()}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._head.send_signal(signal.SIGTERM)
        try:
            self._head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._head.pid, signal.SIGKILL)
            self._head.wait()
