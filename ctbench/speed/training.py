"""Pre-training at one shape: the engine, with methods or without, beside the bare loop and a Hugging Face Trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

from ctbench.speed.rounds import Ask, Reading, Side, calibrate, ratio, run_rounds, speeds, spread
from ctbench.speed.shapes import Shape
from ctbench.speed.work import Work

LOOP_LABELS: Final = {"engine": "engine", "bare": "bare loop", "trainer": "Trainer"}


def plan_sides(
    shape: Shape,
    *,
    precisions: Sequence[str],
    threads: int,
    methods: Sequence[str] = (),
    loops: Sequence[str] = tuple(LOOP_LABELS),
    compiled: Sequence[str] = (),
) -> list[Side]:
    """Return the sides of a comparison.

    Args:
        shape: model and batch.
        precisions: precisions of every loop; methods run in the first one.
        threads: CPU threads of each side.
        methods: names or paths of methods whose cost to measure.
        loops: some of LOOP_LABELS.
        compiled: loops to measure a second time, compiled.
    """
    sides = []

    def add(label: str, loop: str, **fields: Any) -> None:
        work = Work(shape=shape, threads=threads, warmup=0, steps=0, **fields)
        sides.append(Side(label=label, loop=loop, work=work))

    for precision in precisions:
        for loop in loops:
            add(f"{LOOP_LABELS[loop]} {precision}", loop, precision=precision)
            if loop in compiled:
                add(f"compiled {LOOP_LABELS[loop]} {precision}", loop, precision=precision, compiled=True)
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
    """Run the rounds and summarise them.

    Args:
        sides: from `plan_sides`, all of one shape.
        ask: runs one request.
        peaks: the `matmul` rows of `machine.measure`, for the share of the peak.
        pairs: number of rounds.
        seconds: timed wall time of a side in a round.
        say: called with a line of text after every round.

    Returns:
        `shape`, `threads`, `pairs`, `sides` (a row each) and `ratios` (engine against bare loop and Trainer, method
        against engine).
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
        "ratios": [*_engine_ratios(ready, readings), *_method_ratios(ready, readings)],
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
    """Return the measured matmul peak of the GPU, or of the CPU if there is no GPU, in GFLOP/s."""
    for row in peaks:
        if row["precision"] == precision and row["device"] == "cuda":
            return float(row["gflops"])
    for row in peaks:
        if row["precision"] == precision and row["threads"] == threads:
            return float(row["gflops"])
    return None


def _engine_ratios(sides: Sequence[Side], readings: dict[str, list[Reading]]) -> list[dict[str, Any]]:
    engines = [side for side in sides if side.loop == "engine" and side.work.method is None]
    rows = []
    for engine in engines:
        for other in sides:
            same = other.work.precision == engine.work.precision
            is_bare = other.loop == "bare" and same and not engine.work.compiled
            if other.loop == "trainer" or is_bare:
                rows.append(_compared(engine.label, other.label, readings))
    return rows


def _method_ratios(sides: Sequence[Side], readings: dict[str, list[Reading]]) -> list[dict[str, Any]]:
    return [
        _compared(side.label, f"engine {side.work.precision}", readings)
        for side in sides
        if side.work.method is not None or (side.loop == "engine" and side.work.compiled)
    ]


def _compared(label: str, against: str, readings: dict[str, list[Reading]]) -> dict[str, Any]:
    return {"label": label, "against": against, **ratio(speeds(readings, label), speeds(readings, against))}
