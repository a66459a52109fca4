"""The command line from Python, with the same words: `ctbench.run` is `ctbench run`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from ctbench.errors import BadConfig
from ctbench.launch import MAX_WORKERS
from ctbench.runner import run as run_engine
from ctbench.schema import Result


def run(
    *,
    method: str | Path,
    stream: str | Path,
    model: str | Path | None = None,
    recipe: str | None = None,
    seed: int | Iterable[int] = 0,
    order: int | Iterable[int] = 0,
    reorder_periods: bool = False,
    set: Mapping[str, Any] | None = None,
    precision: str | None = None,
    results: str | Path = "results",
    workers: int | None = None,
    control: bool = False,
    online: bool = False,
) -> list[Result]:
    """Run a method on a stream as `ctbench run` does, write the results, and return them, orders first, then seeds.

    Args:
        method: name of a method, or path of a .py file.
        stream: name of a stream, or path of a .toml file.
        model: "tiny", a Hugging Face id with @revision, or a folder; None for the recipe's own.
        recipe: name of one of the stream's recipes; None for its default.
        seed: run seed, or several such as range(3).
        order: order of the domains, or several; 0 is the stream's own, others are permutations.
        reorder_periods: let `order` permute periods of time too.
        set: settings to change by key, such as {"pretrain.tokens": 1e6, "method.agree_weight": 3.0}.
        precision: "fp32", "bf16" or "auto" in stages and cells (not in the base of `tiny`); None for the recipe's own.
        results: folder of result files.
        workers: worker processes; 0 computes in this process, None picks what suits the machine.
        control: also score the base trained on for as long on general text.
        online: allow models and data to be fetched.

    Raises:
        CTBenchError: a mistake in the call, before anything is computed, or a node that failed.

    Example:
        >>> results = run(method="naive", stream="domain", seed=range(3))  # doctest: +SKIP
        >>> results[0].matrix.shape  # doctest: +SKIP
        (6, 5)
    """
    for name, given in (("method", method), ("stream", stream), ("results", results)):
        if not isinstance(given, str | Path):
            raise BadConfig(f"{name} is {given!r}; a name or a path is wanted")
    if workers is not None and not (_is_whole(workers) and 0 <= workers <= MAX_WORKERS):
        raise BadConfig(f"workers is {workers!r}; None or a number from 0 to {MAX_WORKERS} is wanted")
    for name, asked in (("model", model), ("recipe", recipe)):
        if not isinstance(asked, str | Path | None):
            raise BadConfig(f"{name} is {asked!r}; a name, a path or None is wanted")
    if not isinstance(set, Mapping | None):
        raise BadConfig(f"set is {set!r}; settings by key are wanted, such as {{'pretrain.tokens': 1e6}}")
    seeds, orders = _several(seed, "seed"), _several(order, "order")
    settings, method_settings = _split(set or {})
    if precision is not None:
        if precision not in ("fp32", "bf16", "auto"):
            raise BadConfig(f"precision is '{precision}'; allowed: fp32, bf16, auto")
        settings |= {f"{table}.precision": precision for table in ("pretrain", "finetune")}
    return [
        result
        for each in orders
        for result in run_engine(
            method=str(method),
            stream=str(stream),
            seeds=seeds,
            results=results,
            workers=workers,
            say=_ignore,
            model=None if model is None else str(model),
            recipe=None if recipe is None else str(recipe),
            settings=settings,
            method_settings=method_settings,
            order=each,
            allow_reorder=reorder_periods,
            online=online,
            control=control,
        )
    ]


def _split(changes: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the changes of the protocol, as the texts that `--set` takes, and those of the method."""
    prefix = "method."
    plain = {key: _plain(key, value) for key, value in changes.items()}
    protocol = {key: value for key, value in plain.items() if not key.startswith(prefix)}
    own = {key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in protocol.items()}, own


def _plain(key: str, value: Any) -> Any:
    """Return a number, a text, or a list of them, without the types of numpy."""
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(key, each) for each in value]
    if not isinstance(value, str | int | float):
        raise BadConfig(f"set: {key} is {value!r}; a number, true or false, a text or a list is wanted")
    return value


def _several(given: Any, name: str) -> list[int]:
    numbers = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not numbers or any(not _is_whole(number) or number < 0 for number in numbers):
        raise BadConfig(f"{name} is {given!r}; a number from 0 on, or several such as range(3), is wanted")
    return [int(number) for number in numbers]


def _is_whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _ignore(_line: str) -> None:
    pass
