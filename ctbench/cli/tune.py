"""`ctbench tune`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.answer import print_answer
from ctbench.cli.options import (
    JsonOption,
    ModelOption,
    OnlineOption,
    RecipeOption,
    ResultsOption,
    SetOption,
    StreamOption,
    WorkersOption,
    read_range,
    read_settings,
    read_workers,
)
from ctbench.errors import BadConfig
from ctbench.plugins import find_plugins


def command(
    stream: StreamOption,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Name of a method, or path of a .py file; repeatable.")
    ] = None,
    all_methods: Annotated[
        bool, typer.Option("--all", help="Tune every registered method, in the listed order.")
    ] = False,
    trials: Annotated[int, typer.Option(min=1, help="Trials per method, its defaults included.")] = 8,
    seed: Annotated[
        str, typer.Option(help="Run seed of every trial, and of the sample; 0..2 takes the mean over three.")
    ] = "0",
    language_seed: Annotated[
        int | None, typer.Option(min=0, help="Language of a synthetic stream to tune on. Default: 7.")
    ] = None,
    allow_reported: Annotated[
        bool, typer.Option("--allow-reported", help="Let a synthetic stream be tuned on its own language.")
    ] = False,
    model: ModelOption = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    results: ResultsOption = Path("results"),
    workers: WorkersOption = "auto",
    online: OnlineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try the declared ranges of methods' hyper-parameters and say which defaults their files should have."""
    if bool(method) == all_methods:
        raise BadConfig("give either --method NAME (once or more) or --all")
    settings, method_settings = read_settings(set_)
    seeds, count = read_range(seed, "seed"), read_workers(workers)
    from ctbench.cli.progress import Progress
    from ctbench.tuning.search import tune

    with Progress() as progress:
        found = tune(
            methods=list(find_plugins("method")) if all_methods else list(dict.fromkeys(method or [])),
            stream=stream,
            trials=trials,
            seeds=seeds,
            settings=settings,
            method_settings=method_settings,
            language_seed=language_seed,
            allow_reported=allow_reported,
            results=results,
            workers=count,
            listen=progress.follow,
            say=progress.say,
            model=model,
            recipe=recipe,
            online=online,
        )
    if as_json:
        records = [tuning.record() for tuning in found]
        print_answer(json.dumps(records[0] if len(records) == 1 else records, allow_nan=False))
        return
    from ctbench.report.console import print_tables
    from ctbench.tuning.table import trial_table

    print_tables([trial_table(tuning) for tuning in found])
