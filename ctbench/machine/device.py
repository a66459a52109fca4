"""Where tensors live and in which precision they are multiplied: the only module that asks the machine."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from ctbench.errors import BadConfig, OutOfMemory, one_line
from ctbench.machine.gpus import is_hidden
from ctbench.machine.launched import local_rank

_ADVICE = "without ACCELERATE_TORCH_DEVICE and with ACCELERATE_USE_CPU=1 all is done on the CPU"


def device() -> torch.device:
    """Return the device of this process: the one that accelerate picks, so its environment variables work here.

    Raises:
        BadConfig: they name a device that torch cannot use.
    """
    if is_hidden():
        return torch.device("cpu")
    from accelerate import PartialState

    named = os.environ.get("ACCELERATE_TORCH_DEVICE")  # accelerate reads it once per process
    try:
        where = torch.device(named) if named else torch.device(PartialState().device)
        if where.type == "cuda":  # generators and memory are those of the current device
            where = torch.device("cuda", local_rank() if where.index is None else where.index)
            torch.cuda.set_device(where)
        torch.empty(0, device=where)
    except Exception as error:  # of many kinds, by device
        reason = one_line(str(error).strip().partition("\n")[0])
        raise BadConfig(f"torch cannot use the device that accelerate picks ({reason}); {_ADVICE}") from error
    return where


def check_device(planned: str) -> None:
    """Refuse to compute on another kind of device than was planned: the keys of nodes name it.

    Raises:
        BadConfig: torch computes elsewhere.
    """
    found = device().type
    if planned != found:
        raise BadConfig(
            f"the run was planned for the device '{planned}', and torch computes on '{found}' here; {_ADVICE}"
        )


def device_name() -> str:
    """Return "cpu", or what the device of this process calls itself."""
    where = device()
    return torch.cuda.get_device_name(where) if where.type == "cuda" else where.type


def autocast(precision: str, where: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which forward passes run: autocast for "bf16", nothing for "fp32"."""
    if precision == "bf16":
        return torch.autocast(where.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def isolated(*, threads: int) -> Iterator[None]:
    """Run a node with a fixed number of CPU threads and leave torch's global generator as it was.

    The number of threads changes the last bits of a sum, so it belongs to the recipe and not to the machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if _uses_cuda() else []):
            yield
    finally:
        torch.set_num_threads(before)


def seed_torch(seed: int, where: torch.device) -> None:
    """Seed torch's global generators of the CPU and of `where`.

    The same numbers as after `torch.manual_seed`, which also remembers the call, with a trace, for every kind of device
    that this process has not used: too much for each of many short updates.
    """
    torch.default_generator.manual_seed(seed)
    if where.type != "cpu":
        torch.get_device_module(where).manual_seed(seed)


@contextlib.contextmanager
def sharing_gpu(*, thoroughly: bool) -> Iterator[None]:
    """Release GPU memory when the block ends, so that other processes can use it.

    Args:
        thoroughly: also release objects that refer to each other, as compiled layers do; takes a tenth of a second.

    Raises:
        OutOfMemory: the GPU, or the machine, ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory("the GPU has no memory left; fewer --workers or smaller batches need less") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemory("the machine has no memory left; fewer --workers or smaller batches need less") from error
    finally:
        if _uses_cuda():
            if thoroughly:
                gc.collect()
            torch.cuda.empty_cache()


def reset_peak_memory() -> None:
    """Start a new measurement of `peak_memory_bytes`, where the system allows it."""
    if _uses_cuda():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process (Linux: since the last reset), plus the GPU's if there is one."""
    on_device = torch.cuda.max_memory_allocated() if _uses_cuda() else 0
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 + on_device
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) + on_device


def _uses_cuda() -> bool:
    """Return whether this process has used a GPU; to ask one for its state would take memory on one that is hidden."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # untyped upstream


class Stopwatch:
    """Wall time, and the time that the cores of this process worked, since it was made.

    Args:
        seconds: wall time that counts as passed already.
        cpu_seconds: time of the cores that counts as passed already.
    """

    def __init__(self, *, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        self._wall = time.perf_counter() - seconds
        self._cpu = time.process_time() - cpu_seconds

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._wall

    @property
    def cpu_seconds(self) -> float:
        """Time of the cores so far; other processes on the machine hardly change it."""
        return time.process_time() - self._cpu
