"""Which GPUs this process may use; torch is imported only where it could find more than NVIDIA's driver shows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

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
    if is_hidden() or not (driver / "version").exists() or version("torch").endswith("+cpu"):
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


def free_memory(gpus: Sequence[str]) -> list[int]:
    """Return the bytes that are free on each GPU, by the driver's own tool; 0 where it does not tell.

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
