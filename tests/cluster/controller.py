"""A real SLURM on this machine: one controller and one node, started as root without systemd, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
SECONDS = 300
"""Longest time that a daemon takes to answer."""
CPUS = 8
"""More than the machine may have, so that several jobs run at the same time."""

CONFIG = """
ClusterName=ctbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdTimeout=300
BatchStartTimeout=300
UnkillableStepTimeout=300
KillWait=120
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes={host} MaxTime=1 State=UP
"""


class Controller:
    """Starts and stops the daemons.

    Args:
        folder: for configuration, state and logs; short, because it holds a socket.
    """

    words = ("--launcher", "slurm", "--slurm", "time=10")
    """Options of a run that computes here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.private = folder / "private"
        """What jobs do not see, and have an empty folder for."""
        self.hides = False
        """Whether this machine can hide a folder from jobs, which takes a mount namespace."""
        self.small = folder / "small"
        """A folder on a file system of a few megabytes, which jobs see too."""
        self.has_small = False
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything and wait until the node takes jobs."""
        for name in ("state", "spool", "private", "small"):
            (self.folder / name).mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(self.small)]
        self.has_small = subprocess.run(mount, capture_output=True).returncode == 0
        text = CONFIG.format(
            host=self.host, folder=self.folder, cpus=CPUS, controller_port=free_port(), node_port=free_port()
        )
        (self.folder / "slurm.conf").write_text(text)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        places = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
        options = [f"--{name}={self.folder / file}" for name, file in places.items()]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *options)
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self.start_controller()
        hide = ("unshare", "--mount", "sh", "-c", f"mount -t tmpfs none '{self.private}' && exec \"$@\"", "sh")
        self.hides = subprocess.run([*hide, "true"], capture_output=True).returncode == 0
        self._daemon(*(hide if self.hides else ()), "slurmd", "-D", "-N", self.host)
        self._until(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"), "slurmd")

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers."""
        self._daemon("slurmctld", "-D")
        self._until(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld")

    def stop_controller(self) -> None:
        """Stop slurmctld, which saves its state."""
        self._stop("slurmctld")

    def stop(self) -> None:
        """Cancel all jobs and stop everything."""
        self.ask("scancel", "--user=root")
        deadline = time.monotonic() + 30
        while self.ask("squeue", "--noheader").strip() and time.monotonic() < deadline:
            time.sleep(0.2)
        for name in ("unshare", "slurmd", "slurmctld", "munged"):
            self._stop(name)
        if self.has_small:
            subprocess.run(["umount", "--lazy", str(self.small)], check=True)

    def ask(self, *command: str) -> str:
        """Return what a command of SLURM prints; "" if it fails."""
        done = subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    def logs(self) -> str:
        """Return the last lines of the daemons' logs."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))

    def _daemon(self, *command: str) -> None:
        name = command[0]
        with (self.folder / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                [shutil.which(name, path=PATH) or name, *command[1:]],
                env={**os.environ, **self.environment, "PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _stop(self, name: str) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(timeout=20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _until(self, is_ready: object, what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not is_ready():  # type: ignore[operator]
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} does not come up:\n{self.logs()}")
            time.sleep(0.2)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
