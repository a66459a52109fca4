"""Which GPUs this process may use; torch is imported only where it could find more than NVIDIA's driver shows."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from ctbench.errors import BadConfig, did_you_mean

KINDS = ("cpu", "cuda", "mps")
"""Kinds of devices that can be chosen."""
_DRIVER = Path("/proc/driver/nvidia")
_OTHERS = tuple(Path("/dev") / name for name in ("dxg", "kfd", "dri", "accel"))
"""Where Linux shows other devices than NVIDIA's own driver does: under Windows, AMD's, Intel's, others."""


def is_hidden() -> bool:
    """Return whether this process keeps off GPUs: the environment says so, or it is a Mac and nobody asked for its GPU.

    (Macs' GPUs have no float64, which some methods add up in, and nothing was tried on one.)
    """
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    named = os.environ.get("ACCELERATE_TORCH_DEVICE", "")
    return use_cpu or named.startswith("cpu") or (sys.platform == "darwin" and not named)


def visible_gpus(driver: Path = _DRIVER) -> list[str]:
    """Return the NVIDIA GPUs that torch would see, as `CUDA_VISIBLE_DEVICES` names them.

    Args:
        driver: the folder in which the driver shows what there is.
    """
    return [] if is_hidden() else _gpus_of_driver(driver)


def _gpus_of_driver(driver: Path) -> list[str]:
    if not (driver / "version").exists() or version("torch").endswith("+cpu"):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in ("", "-1")]
    count = len(list((driver / "gpus").glob("*"))) or 1
    return [str(number) for number in range(count)]


def accelerator(driver: Path = _DRIVER, others: Sequence[Path] = _OTHERS) -> str:
    """Return the kind of device that nodes are computed on, as torch names it: "cpu", "cuda", "mps", ...

    Args:
        driver: as for `visible_gpus`.
        others: files of which at least one is there if another device is; only then torch is imported and asked.
    """
    if is_hidden():
        return "cpu"
    if named := os.environ.get("ACCELERATE_TORCH_DEVICE"):
        return named.partition(":")[0]
    if visible_gpus(driver):
        return "cuda"
    if version("torch").endswith("+cpu") or not any(path.exists() for path in others):
        return "cpu"
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else found.type


@contextlib.contextmanager
def using_device(name: str | None) -> Iterator[None]:
    """Compute on a device while the block runs, workers included.

    Args:
        name: "cpu", "cuda", "cuda:1" (the second GPU that is visible), "mps", or None for what accelerate picks.

    Raises:
        BadConfig: no such kind of device, or this machine has none.
    """
    if name is None:
        yield
        return
    changes = {"ACCELERATE_USE_CPU": None, **_environment_of(name)}
    before = {variable: os.environ.get(variable) for variable in changes}
    _set_environment(changes)
    try:
        yield
    finally:
        _set_environment(before)


def _environment_of(name: str) -> dict[str, str]:
    """Return the environment variables that choose a device."""
    kind, colon, number = name.partition(":")
    if kind not in KINDS or (colon and (kind != "cuda" or not number.isdecimal())):
        meant = "; did you mean 'cuda'?" if kind.startswith("gpu") else did_you_mean(name, KINDS)
        raise BadConfig(f"no device '{name}'{meant} known: cpu, cuda, cuda:NUMBER, mps")
    if kind == "mps" and sys.platform != "darwin":
        raise BadConfig("device mps is the GPU of a Mac, and this machine is none")
    if kind != "cuda":
        return {"ACCELERATE_TORCH_DEVICE": kind}
    gpus = _gpus_of_driver(_DRIVER)
    if not gpus:
        raise BadConfig(
            f"device {name}: torch sees no NVIDIA GPU here (no driver, CUDA_VISIBLE_DEVICES hides it, or torch is a CPU build)"
        )
    if not colon:
        return {"ACCELERATE_TORCH_DEVICE": kind}
    if int(number) >= len(gpus):
        raise BadConfig(f"device {name}: GPUs are numbered from 0, and there are {len(gpus)}")
    return {"ACCELERATE_TORCH_DEVICE": kind, "CUDA_VISIBLE_DEVICES": gpus[int(number)]}


def _set_environment(values: Mapping[str, str | None]) -> None:
    for variable, value in values.items():
        if value is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = value


def free_memory(gpus: Sequence[str]) -> list[int]:
    """Return the bytes that are free on each GPU, by the driver's own tool; 0 if the driver does not report it.

    Args:
        gpus: numbers, or UUIDs or the beginnings of UUIDs, as `visible_gpus` returns them.
    """
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        rows = [[part.strip() for part in line.split(",")] for line in told.splitlines()]
        free = [(number, uuid, int(mebibytes) * 2**20) for number, uuid, mebibytes in rows]
    except (OSError, ValueError, subprocess.SubprocessError):
        return [0 for _ in gpus]
    return [
        next((size for number, uuid, size in free if name.strip() == number or _begins(uuid, name.strip())), 0)
        for name in gpus
    ]


def _begins(uuid: str, name: str) -> bool:
    return name.startswith("GPU-") and uuid.startswith(name)
