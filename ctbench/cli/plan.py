"""`ctbench plan`: what a run would compute, what the store has, and what the rest would take."""

from __future__ import annotations

import json
from typing import Any

from ctbench.cli.answer import print_answer
from ctbench.cli.options import (
    ControlOption,
    JsonOption,
    MethodOption,
    ModelOption,
    OnlineOption,
    OrderOption,
    PrecisionOption,
    RecipeOption,
    ReorderOption,
    SeedOption,
    SetOption,
    StreamOption,
    read_range,
    read_settings,
)

PLURALS = {"base": "bases", "stage": "stages", "loss": "losses", "cell": "cells"}


def command(
    method: MethodOption,
    stream: StreamOption,
    model: ModelOption = None,
    recipe: RecipeOption = None,
    seed: SeedOption = "0",
    order: OrderOption = "0",
    reorder_periods: ReorderOption = False,
    set_: SetOption = None,
    precision: PrecisionOption = None,
    control: ControlOption = False,
    online: OnlineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would compute, and compute nothing."""
    settings, method_settings = read_settings(set_, precision)
    from ctbench.expand import Expander
    from ctbench.job import Job
    from ctbench.store import Store, home

    store, nodes = Store(home() / "store", writes=False), []
    for each in read_range(order, "order"):
        job = Job(
            method=method,
            stream=stream,
            model=model,
            recipe=recipe,
            settings=settings,
            method_settings=method_settings,
            order=each,
            allow_reorder=reorder_periods,
            online=online,
            control=control,
        )
        expander = Expander(job)
        for number in read_range(seed, "seed"):
            nodes += expander.run(number).nodes
    from ctbench.estimate import estimate, read_speeds

    rows = estimate({node.key: node for node in nodes}.values(), store, speeds=read_speeds(home()))
    if as_json:
        print_answer(json.dumps(rows))
    else:
        _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        seconds = "unknown" if row["seconds"] is None else f"about {row['seconds']:.0f} s on one worker"
        if row["source"] == "bench":
            seconds += ", judged by a bench of this machine"
        nodes = "node, " if row["total"] == 1 else "nodes,"
        print(
            f"{PLURALS[row['kind']]:6} {row['total']:4} {nodes} {row['cached']:4} cached, {row['missing']:4} missing: "
            f"{row['tokens']:,} tokens, {seconds}"
        )
