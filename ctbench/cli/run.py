"""`ctbench run`."""

from __future__ import annotations

import json
from pathlib import Path

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
    ResultsOption,
    SeedOption,
    SetOption,
    StreamOption,
    WorkersOption,
    read_range,
    read_settings,
    read_workers,
)


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
    results: ResultsOption = Path("results"),
    workers: WorkersOption = "auto",
    control: ControlOption = False,
    online: OnlineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a method on a stream and write the result; what was computed before is taken from the store."""
    settings, method_settings = read_settings(set_, precision)
    seeds, orders, count = read_range(seed, "seed"), read_range(order, "order"), read_workers(workers)
    from ctbench.cli.progress import Progress
    from ctbench.runner import run

    found = []
    for each in orders:
        with Progress() as progress:
            found += run(
                method=method,
                stream=stream,
                seeds=seeds,
                results=results,
                workers=count,
                listen=progress.follow,
                say=progress.say,
                model=model,
                recipe=recipe,
                settings=settings,
                method_settings=method_settings,
                order=each,
                allow_reorder=reorder_periods,
                online=online,
                control=control,
            )
    if as_json:
        from ctbench.result_format import to_record

        records = [to_record(result) for result in found]
        print_answer(json.dumps(records[0] if len(records) == 1 else records, allow_nan=False))
        return
    from ctbench.cli.show import show

    for result in found:
        show(result)
