"""A bench document as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctbench.reporting.numbers import DASH
from ctbench.reporting.tables import Table, text_rows


def tables(document: dict[str, Any]) -> list[Table]:
    """Return the tables of a document: machine, each shape with its ratios, cells, whole run."""
    found = [machine_table(document)]
    for training in document["training"]:
        found += [training_table(training), ratio_table(f"{training['shape']}: ratios of tokens/s", training["ratios"])]
    if document["cells"] is not None:
        cells = document["cells"]
        found += [cells_table(cells), ratio_table("cells: how many times faster", cells["ratios"])]
    if document["protocol"] is not None:
        found.append(protocol_table(document["protocol"]))
    return found


def machine_table(document: dict[str, Any]) -> Table:
    """Return the peaks of the machine, with hardware and versions as notes."""
    machine = document["machine"]
    rows = [
        (f"matmul {row['precision']}", row["device"], _count(row["threads"]), f"{row['gflops']:,.0f} GFLOP/s")
        for row in machine["matmul"]
    ]
    rows += [
        ("copy", row["device"], _count(row["threads"]), f"{row['gigabytes_per_second']:.1f} GB/s")
        for row in machine["bandwidth"]
    ]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    notes = [hardware + (f", {machine['gpu']}" if machine["gpu"] else ""), f"Python {machine['python']}, {versions}"]
    notes += [f"skipped {skipped['what']}: {skipped['why']}" for skipped in document["skipped"]]
    return _table("machine", ("peak", "device", "threads", "speed"), rows, notes, num_keys=2)


def training_table(training: dict[str, Any]) -> Table:
    """Return the tokens per second of every side."""
    rows = [
        (
            side["label"],
            *_three(side["tokens_per_second"], "{:,.0f}"),
            DASH if side["peak_fraction"] is None else f"{side['peak_fraction']:.0%}",
            f"{side['peak_memory_bytes'] / 2**20:,.0f}",
        )
        for side in training["sides"]
    ]
    columns = ("side", "tokens/s", "min", "max", "of peak", "peak MiB")
    notes = [
        f"rounds: {training['pairs']}; threads: {training['threads']}",
        "of peak: useful matrix products, LM head on predicted tokens only",
    ]
    return _table(f"{training['shape']}: pre-training", columns, rows, notes)


def cells_table(cells: dict[str, Any]) -> Table:
    """Return the cells per minute of every side."""
    rows = [
        (side["label"], *_three(side["cells_per_minute"], "{:.1f}"), f"{side['seconds_per_cell']['median']:.2f}")
        for side in cells["sides"]
    ]
    notes = [
        f"{cells['examples']} examples, {cells['epochs']} epochs; rounds: {cells['pairs']}",
        "the Trainer's side starts a process per cell",
    ]
    return _table(f"{cells['shape']}: cells", ("side", "cells/min", "min", "max", "s/cell"), rows, notes)


def protocol_table(protocol: dict[str, Any]) -> Table:
    """Return the engine's runs from an empty store and the parts of the same protocol with a Trainer."""
    rows = [(side["label"], "the whole run", f"{side['seconds']:.1f}") for side in protocol["engines"]]
    for side in protocol["trainers"]:
        rows += [
            (side["label"], "base", f"{side['base_seconds']:.1f}"),
            (side["label"], f"stage, of {protocol['stages']}", f"{side['stage_seconds']:.1f}"),
            (side["label"], f"cell, of {protocol['cells']}", f"{side['cell_seconds']['median']:.1f}"),
            (side["label"], "total, projected", f"{side['seconds']:.0f}"),
        ]
    timed = len(protocol["trainers"][0]["cell_seconds"]["values"])
    notes = [
        f"timed with a Trainer: base, one stage and {timed} cells, each in a process with {protocol['threads']} threads"
    ]
    if protocol.get("has_own_base"):  # records of before do not say it
        notes.append("both sides train the base, for one update more than the base that comes with the stream")
    notes += [f"{row['label']} against {row['against']}: {row['ratio']:.1f} times faster" for row in protocol["ratios"]]
    return _table(f"{protocol['stream']}: a run from an empty store", ("side", "part", "s"), rows, notes, num_keys=2)


def ratio_table(title: str, ratios: Sequence[dict[str, Any]]) -> Table:
    """Return a table of ratios within rounds."""
    rows = [(row["label"], row["against"], *_three(row, "{:.2f}")) for row in ratios]
    return _table(title, ("side", "against", "median", "min", "max"), rows, (), num_keys=2)


def _three(spread: dict[str, Any], form: str) -> tuple[str, str, str]:
    return form.format(spread["median"]), form.format(spread["min"]), form.format(spread["max"])


def _count(threads: int | None) -> str:
    return DASH if threads is None else str(threads)


def _table(
    title: str, columns: tuple[str, ...], rows: Sequence[Sequence[str]], notes: Sequence[str], *, num_keys: int = 1
) -> Table:
    return Table(
        title=title,
        columns=columns,
        rows=text_rows(rows),
        num_keys=num_keys,
        notes=tuple(notes),
    )
