"""The keys of `--ray`: what every worker asks of the Ray cluster, and where the cluster is."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ctbench.engine.slurm.options import read_pairs
from ctbench.errors import BadConfig, did_you_mean

LOCAL: Final = "local"
AUTO: Final = "auto"
MAX_AMOUNT: Final = 4096.0
_UNITS: Final = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MEMORY: Final = re.compile(r"(\d{1,9})([KMGT]?)")
_HOST: Final = re.compile(r"[^\s/:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """What is asked of Ray.

    Args:
        address: "auto" (the cluster of this machine), HOST:PORT of the head, or "local" (started here for the call).
        gpus: GPUs of a worker; a fraction lets workers share one, 0 computes on CPUs.
        cpus: cores of a worker, or a fraction of one.
        mem: memory of a worker in bytes; None asks for none.
    """

    address: str = AUTO
    gpus: float = 0.0
    cpus: float = 1.0
    mem: int | None = None

    @property
    def device(self) -> str:
        """The kind of device that nodes are computed on, as torch names it."""
        return "cuda" if self.gpus else "cpu"

    def resources(self) -> dict[str, Any]:
        """Return the options of an actor."""
        more = {} if self.mem is None else {"memory": self.mem}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, **more}

    def slots(self, machine: Mapping[str, float]) -> int:
        """Return how many workers have room on a machine with these resources, by Ray's names for them.

        Examples:
            >>> RayOptions(gpus=0.25, cpus=2).slots({"CPU": 16, "GPU": 1})
            4
        """
        cores = machine.get("CPU", 0.0)
        found = int(cores / self.cpus) if self.cpus else int(MAX_AMOUNT)
        if self.gpus:
            gpus = int(machine.get("GPU", 0.0))
            found = min(found, gpus * int(1 / self.gpus + 1e-9) if self.gpus <= 1 else int(gpus / self.gpus))
        return found if self.mem is None else min(found, int(machine.get("memory", 0.0) / self.mem))


def read_ray(given: Mapping[str, Any] | Sequence[str] | str, address: object) -> RayOptions:
    """Read the keys of `--ray`, as a mapping or as texts KEY=VALUE,KEY=VALUE, and the address of the cluster.

    Raises:
        BadConfig: an unknown key, a key twice, or a value that Ray would not take.

    Examples:
        >>> read_ray("gpus=0.5,cpus=4", None).gpus
        0.5
    """
    known = [field.name for field in dataclasses.fields(RayOptions) if field.name != "address"]
    found: dict[str, Any] = {}
    for key, value in given.items() if isinstance(given, Mapping) else read_pairs(given, "--ray"):
        if key not in known:
            raise BadConfig(f"--ray has no key '{key}'{did_you_mean(str(key), known)} known: {', '.join(known)}")
        if key in found:
            raise BadConfig(f"--ray names {key} twice; once is enough")
        found[key] = _bytes(str(value).strip()) if key == "mem" else _amount(key, str(value).strip())
    return RayOptions(address=_address(address), **found)


def _address(given: object) -> str:
    text = str(given or os.environ.get("RAY_ADDRESS") or AUTO)
    if text.startswith("ray://"):
        raise BadConfig(
            f"address is '{text}'; the command reads the store, so it must run on a machine of the cluster, with "
            "--address auto or HOST:PORT"
        )
    if text not in (AUTO, LOCAL) and not _HOST.fullmatch(text):
        raise BadConfig(f"address is '{text}'; expected auto, local or HOST:PORT, such as 10.0.0.1:6379")
    return text


def _amount(key: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= MAX_AMOUNT:
        raise BadConfig(f"--ray {key} is '{text}'; expected a number from 0 to {MAX_AMOUNT:.0f}")
    if key == "gpus" and found > 1 and found != int(found):
        raise BadConfig(f"--ray gpus is '{text}'; expected a fraction of one GPU or a whole number")
    return found


def _bytes(text: str) -> int:
    parts = _MEMORY.fullmatch(text)
    if not parts or not int(parts[1]):
        raise BadConfig(f"--ray mem is '{text}'; expected a size such as 16G or 4000M")
    return int(parts[1]) * _UNITS[parts[2]]
