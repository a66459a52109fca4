"""Which GPUs this process may use, asked without importing torch: plans and launchers must stay quick."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia")


def is_hidden() -> bool:
    """Return whether the environment keeps this process off GPUs."""
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return use_cpu or os.environ.get("ACCELERATE_TORCH_DEVICE", "").startswith("cpu")


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
