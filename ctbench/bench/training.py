"""Pre-training at one shape: the engine, with methods or without, beside the bare loop and a Hugging Face Trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from ctbench.bench.loops import Work
from ctbench.bench.rounds import Ask, Reading, Side, calibrate, ratio, run_rounds, speeds, spread
from ctbench.bench.shapes import Shape


def plan_sides(
    shape: Shape,
    *,
    precisions: Sequence[str],
    threads: int,
    methods: Sequence[str] = (),
    with_bare: bool = True,
    with_trainer: bool = True,
    compiled: bool = False,
    has_gpu: bool = False,
) -> list[Side]:
    """Return the sides of a comparison.

    Args:
        shape: model and batch.
        precisions: of the engine, the bare loop and the Trainer; methods run in the first one.
        threads: CPU threads of each side.
        methods: names or paths of methods, to see what they cost.
        with_bare: measure the engine's overhead.
        with_trainer: measure the rival.
        compiled: measure a Trainer with a compiled model too, and on a GPU the engine with compiled layers.
        has_gpu: whether the sides run on a GPU; on a CPU the engine compiles nothing.
    """
    sides = []

    def add(label: str, loop: str, **fields: Any) -> None:
        work = Work(shape=shape, threads=threads, warmup=0, steps=0, **fields)
        sides.append(Side(label=label, loop=loop, work=work))

    for precision in precisions:
        add(f"engine {precision}", "engine", precision=precision)
        if compiled and has_gpu:
            add(f"compiled engine {precision}", "engine", precision=precision, compiled=True)
        if with_bare:
            add(f"bare loop {precision}", "bare", precision=precision)
        if with_trainer:
            add(f"Trainer {precision}", "trainer", precision=precision)
        if with_trainer and compiled:
            add(f"compiled Trainer {precision}", "trainer", precision=precision, compiled=True)
    for method in methods:
        add(f"{method} {precisions[0]}", "engine", precision=precisions[0], method=method)
    return sides


def measure_training(
    sides: Sequence[Side],
    ask: Ask,
    *,
    peaks: Sequence[dict[str, Any]],
    pairs: int,
    seconds: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run the rounds and return what they say.

    Args:
        sides: from `plan_sides`, all of one shape.
        ask: runs one request.
        peaks: the `matmul` rows of `machine.measure`, for the share of the peak.
        pairs: rounds.
        seconds: timed wall time of a side in a round.
        say: told about every round.

    Returns:
        `shape`, `threads`, `pairs`, `sides` (a row each) and `ratios` (engine against rival, method against engine).
    """
    ready = calibrate(sides, ask, seconds=seconds)
    readings = run_rounds(ready, ask, pairs=pairs, say=say)
    shape = sides[0].work.shape
    return {
        "shape": shape.name,
        "tokens_per_step": shape.tokens_per_step,
        "flops_per_token": shape.flops_per_token(),
        "layer_parameters": shape.layer_parameters,
        "threads": sides[0].work.threads,
        "pairs": pairs,
        "sides": [_row(side, readings[side.label], peaks) for side in ready],
        "ratios": [*_against_rivals(ready, readings), *_against_engine(ready, readings)],
    }


def _row(side: Side, readings: Sequence[Reading], peaks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found = [float(reading["tokens_per_second"]) for reading in readings]
    peak = find_peak(peaks, side.work.precision, side.work.threads)
    share = None if peak is None else median(found) * side.work.shape.flops_per_token() / 1e9 / peak
    return {
        "label": side.label,
        "loop": side.loop,
        "method": side.work.method,
        "compiled": side.work.compiled,
        "precision": side.work.precision,
        "steps": side.work.steps,
        "tokens": readings[0]["tokens"],
        "predicted_fraction": readings[0]["predicted_fraction"],
        "tokens_per_second": spread(found),
        "peak_fraction": share,
        "peak_memory_bytes": max(int(reading["peak_memory_bytes"]) for reading in readings),
    }


def find_peak(peaks: Sequence[dict[str, Any]], precision: str, threads: int) -> float | None:
    """Return the measured matmul peak that a side is held against, in GFLOP/s: the GPU's where there is one."""
    for row in peaks:
        if row["precision"] == precision and row["device"] == "cuda":
            return float(row["gflops"])
    for row in peaks:
        if row["precision"] == precision and row["threads"] == threads:
            return float(row["gflops"])
    return None


def _against_rivals(sides: Sequence[Side], readings: dict[str, list[Reading]]) -> list[dict[str, Any]]:
    engines = [side for side in sides if side.loop == "engine" and side.work.method is None]
    rows = []
    for engine in engines:
        for rival in sides:
            same = rival.work.precision == engine.work.precision
            is_bare = rival.loop == "bare" and same and not engine.work.compiled
            if rival.loop == "trainer" or is_bare:
                rows.append(_compared(engine.label, rival.label, readings))
    return rows


def _against_engine(sides: Sequence[Side], readings: dict[str, list[Reading]]) -> list[dict[str, Any]]:
    return [
        _compared(side.label, f"engine {side.work.precision}", readings)
        for side in sides
        if side.work.method is not None or (side.loop == "engine" and side.work.compiled)
    ]


def _compared(label: str, against: str, readings: dict[str, list[Reading]]) -> dict[str, Any]:
    return {"label": label, "against": against, **ratio(speeds(readings, label), speeds(readings, against))}
