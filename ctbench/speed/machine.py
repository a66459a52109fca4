"""Describe this machine and measure its peaks: matrix products by precision and threads, and memory bandwidth."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import torch

from ctbench.engine.launchers.capacity import num_cores
from ctbench.machine.device import device, device_name
from ctbench.machine.precision import has_fast_bf16
from ctbench.machine.provenance import processor

SIZES: Final = (1024, 2048)
GPU_SIZES: Final = (4096, 8192)
BANDWIDTH_MEGABYTES: Final = 256
LIBRARIES: Final = ("torch", "transformers", "accelerate", "numpy")


def describe() -> dict[str, Any]:
    """Return hardware and versions, without names of host or user."""
    gpu = device_name() if device().type == "cuda" else None
    return {
        "processor": processor(),
        "cores": num_cores(),
        "memory_gib": _memory_gib(),
        "fast_bf16": has_fast_bf16(),
        "gpu": gpu,
        "device": device().type,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def measure(precisions: list[str], threads: list[int], *, seconds: float = 0.5) -> dict[str, Any]:
    """Measure the peaks.

    Args:
        precisions: "fp32", "bf16".
        threads: CPU thread counts.
        seconds: time to spend on each size of matrix; the fastest repetition counts.

    Returns:
        `matmul`, rows with device, precision, threads and gflops; `bandwidth`, rows with gigabytes_per_second.
    """
    before = torch.get_num_threads()
    try:
        matmul, bandwidth = [], []
        for count in threads:
            torch.set_num_threads(count)
            for precision in precisions:
                gflops = matmul_gflops(precision, "cpu", SIZES, seconds=seconds)
                matmul.append({"device": "cpu", "precision": precision, "threads": count, "gflops": gflops})
            bandwidth.append({"device": "cpu", "threads": count, "gigabytes_per_second": copy_speed("cpu", seconds)})
    finally:
        torch.set_num_threads(before)
    if device().type == "cuda":
        for precision in precisions:
            gflops = matmul_gflops(precision, "cuda", GPU_SIZES, seconds=seconds)
            matmul.append({"device": "cuda", "precision": precision, "threads": None, "gflops": gflops})
        bandwidth.append({"device": "cuda", "threads": None, "gigabytes_per_second": copy_speed("cuda", seconds)})
    return {"matmul": matmul, "bandwidth": bandwidth}


def matmul_gflops(precision: str, device: str, sizes: tuple[int, ...], *, seconds: float) -> float:
    """Return the best speed of square matrix products, in GFLOP/s."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for size in sizes:
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        out = torch.empty_like(a)
        taken = best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device, seconds)  # type: ignore[misc]  # bound early
        best = max(best, 2.0 * size**3 / taken / 1e9)
    return best


def copy_speed(device: str, seconds: float) -> float:
    """Return the best speed of copying a large tensor, bytes read plus bytes written, in GB/s."""
    source = torch.ones(BANDWIDTH_MEGABYTES * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    taken = best_seconds(lambda: target.copy_(source), device, seconds)
    return 2.0 * source.numel() * 4 / taken / 1e9


def best_seconds(work: Callable[[], object], device: str, seconds: float) -> float:
    """Return the shortest time of `work`, repeated for `seconds` after one repetition to warm up."""
    best, end = float("inf"), time.perf_counter() + seconds
    work()
    while True:
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        now = time.perf_counter()
        best = min(best, now - started)
        if now >= end:
            return best


def synchronize(device: str) -> None:
    """Wait until a GPU has finished; return at once on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
