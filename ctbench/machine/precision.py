"""Which precision numbers are multiplied in; torch is asked only where the answer depends on the machine."""

from __future__ import annotations

from pathlib import Path

from ctbench.errors import BadConfig
from ctbench.machine.gpus import accelerator, is_hidden


def resolve_precision(precision: str, device: str | None = None) -> str:
    """Turn "auto" into what this machine multiplies fast: "bf16" where the hardware has it, else "fp32".

    Args:
        precision: "fp32", "bf16" or "auto".
        device: kind of device that computes, as torch names it; by default the one of this machine.

    Raises:
        BadConfig: an unknown precision, or "auto" for a GPU of another machine.
    """
    if precision in ("fp32", "bf16"):
        return precision
    if precision != "auto":
        raise BadConfig(f"precision is '{precision}'; allowed: fp32, bf16, auto")
    here = accelerator()
    if device == "cuda" and here != device:
        raise BadConfig("precision is auto and this machine has no GPU to judge by; give --precision bf16 or fp32")
    return "bf16" if (_cpu_has_bf16() if device == "cpu" != here else has_fast_bf16()) else "fp32"


def has_fast_bf16() -> bool:
    """Return whether bf16 is faster here than fp32: without units for it, it is many times slower."""
    import torch

    if torch.cuda.is_available() and not is_hidden():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
