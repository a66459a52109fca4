"""Runs that differ in one key of the protocol, side by side: `ctbench compare --across KEY`.

Everything else must be equal: stream, metrics, the other keys of the recipe, precision, and data and base unless the key
decides them. Rows are paired by seed and order, as those of any table are; the key `order` pairs them by seed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ctbench.data.knobs import Language
from ctbench.data.settings import OFF_PROTOCOL, BaseRecipe, FinetuneRecipe, PretrainRecipe
from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.reporting.apart import protocol_reasons
from ctbench.results.schema import Result

TABLES: Final = {"pretrain": PretrainRecipe, "finetune": FinetuneRecipe, "base": BaseRecipe, "language": Language}
ORDER: Final = "order"
"""The order of the domains, a key like those of the tables."""
LENGTH: Final = "language.num_domains"
"""The number of domains, a key under whose values runs have other domains."""
OWN: Final = "the stream's own"
"""Shown for a key of the language that a run did not set: results hold only those that were set."""


def check_key(key: str) -> None:
    """Refuse what is no key of a recipe or of the language.

    Raises:
        BadConfig: not TABLE.KEY.
        UnknownName: the table has no such key.
    """
    table, _, name = key.partition(".")
    if key == ORDER:
        return
    if table not in TABLES:
        raise BadConfig(f"--across {key}: expected a key of {', '.join(TABLES)}, such as pretrain.schedule, or {ORDER}")
    known = [field.name for field in dataclasses.fields(TABLES[table])]
    if name not in known:
        raise UnknownName(f"key of {table}", name, known)


def value_of(result: Result, key: str) -> str:
    """Return a run's value of a key, as text."""
    table, _, name = key.partition(".")
    if key == ORDER:
        return str(result.order)
    if table == "language":
        return str(result.changed.get(key, OWN))
    found = getattr(result.recipe, table) or {}
    defaults = {field.name: field.default for field in dataclasses.fields(TABLES[table])}
    value = found.get(name, defaults[name])
    return value if isinstance(value, str) else json.dumps(value)


def sort_key(value: str) -> tuple[int, float, str]:
    """Order values: the stream's own first, then numbers by size, then words."""
    try:
        return (1, float(value), "")
    except ValueError:
        return (0 if value == OWN else 2, 0.0, value)


def is_reason_of(reason: str, key: str) -> bool:
    """Return whether a run stands off the leaderboard for the key alone."""
    return bool(key) and reason == f"{key} was set"


def without_key(result: Result, key: str) -> str:
    """Return what two runs must share to stand side by side across a key."""
    table = key.partition(".")[0]
    free = {key, *(f"pretrain.{name}" for name in OFF_PROTOCOL)}
    recipe = {
        each: {
            name: value for name, value in (getattr(result.recipe, each) or {}).items() if f"{each}.{name}" not in free
        }
        for each in ("base", "pretrain", "finetune")
    }
    stream, makes_base = result.stream, table in ("language", "base")
    metrics = stream.metric.items() if key != LENGTH else {(metric,) for metric in stream.metric.values()}
    shared: list[Any] = [stream.name, stream.version, stream.registered, sorted(metrics)]
    shared += [recipe, result.precision, result.backbone.name]
    shared += ["" if table == "language" else stream.digest]
    shared += ["" if makes_base else [result.backbone.digest, result.backbone.weights_digest]]
    shared += [sorted(reason for reason in protocol_reasons(result) if not is_reason_of(reason, key))]
    shared += [sorted((k, v) for k, v in result.changed.items() if k not in free and not k.startswith("method."))]
    return json.dumps(shared, sort_keys=True, default=str)


def families(results: Sequence[Result], key: str) -> Iterator[dict[str, list[Result]]]:
    """Yield, for each set of runs that differ in the key alone, the runs of every value.

    Raises:
        MissingResult: no two runs do.
    """
    found: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        found.setdefault(without_key(result, key), {}).setdefault(value_of(result, key), []).append(result)
    several = [each for each in found.values() if len(each) > 1]
    if not several:
        values = sorted({value_of(result, key) for result in results}, key=sort_key)
        option = "--order N" if key == ORDER else f"--set {key}=VALUE"
        raise MissingResult(
            f"no two runs differ in {key} alone (values found: {', '.join(values) or 'none'}); run one with "
            f"{option} and everything else equal"
        )
    for each in several:
        yield {value: each[value] for value in sorted(each, key=sort_key)}
