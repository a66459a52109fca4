"""Which precision numbers are multiplied in; torch is asked only where the answer depends on the machine."""

from __future__ import annotations

from pathlib import Path

from ctbench.errors import BadConfig
from ctbench.gpu import is_hidden


def resolve_precision(precision: str) -> str:
    """Turn "auto" into what this machine multiplies fast: "bf16" where the hardware has it, else "fp32".

    Raises:
        BadConfig: an unknown precision.
    """
    if precision in ("fp32", "bf16"):
        return precision
    if precision != "auto":
        raise BadConfig(f"precision is '{precision}'; allowed: fp32, bf16, auto")
    return "bf16" if has_fast_bf16() else "fp32"


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
