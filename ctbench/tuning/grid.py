"""The grid of a method's tuned hyper-parameters, and the seeded sample of it that is tried."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ctbench.errors import BadPlugin
from ctbench.method import Method, configure

MAX_POINTS = 20_000

Point = dict[str, Any]


def grid_of(cls: type[Method], name: str, *, fixed: Sequence[str] = ()) -> dict[str, tuple[Any, ...]]:
    """Return the values to try of every tuned field, as `hyper(..., tune=(...))` declares them.

    Args:
        cls: the method's class.
        name: the method's public name, for messages.
        fixed: fields that the caller sets, which are not tuned then.

    Raises:
        BadConfig: a value that the field itself does not allow.
        BadPlugin: more than `MAX_POINTS` combinations.

    Example:
        >>> from ctbench.plugins import find_plugin, load_class
        >>> grid_of(load_class(find_plugin("method", "averaging")), "averaging")["after_fraction"][:3]
        (0.2, 0.3, 0.4)
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every method is a dataclass
        if field.metadata.get("tune") and field.name not in fixed:
            tried = [configure(cls, name, {field.name: value}) for value in field.metadata["tune"]]
            grid[field.name] = tuple(dict.fromkeys(method.settings()[field.name] for method in tried))
    if num_points(grid) > MAX_POINTS:
        raise BadPlugin(
            f"method {name} declares {num_points(grid):,} combinations to tune ({', '.join(grid)}); at most "
            f"{MAX_POINTS:,} are allowed: shorten its `tune` tuples or fix a field with --set method.NAME=VALUE"
        )
    return grid


def num_points(grid: Mapping[str, Sequence[Any]]) -> int:
    """Return the number of combinations; 0 where nothing is tuned."""
    return math.prod(map(len, grid.values())) if grid else 0


def choose_points(
    grid: Mapping[str, Sequence[Any]], defaults: Point, count: int, generator: np.random.Generator
) -> list[Point]:
    """Return the defaults and then other points of the grid, none twice, every value about as often as the others.

    The points are shuffled; then, again and again, the first one is taken whose values have been taken least often so
    far and, among equals, whose pairs of values have. So the counts of a field's values differ by one as long as the
    grid allows it, as in a Latin hypercube, and fields do not move together.

    Args:
        grid: values by field.
        defaults: the values of these fields that stand in the method's file; they need not lie on the grid.
        count: how many points, the defaults included; the whole grid where it holds no more.
        generator: shuffles the points.

    Example:
        >>> choose_points({"a": (1, 2)}, {"a": 2}, 8, np.random.default_rng(0))
        [{'a': 2}, {'a': 1}]
    """
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    rest = [point for point in points if point != defaults]
    if len(rest) < count:
        return [defaults, *rest]
    rest = [rest[index] for index in generator.permutation(len(rest))]
    chosen = [defaults]
    values, pairs = Counter(defaults.items()), Counter(_pairs(defaults))

    def times_taken(point: Point) -> tuple[int, int]:
        return sum(values[value] for value in point.items()), sum(pairs[pair] for pair in _pairs(point))

    while len(chosen) < count:
        chosen.append(min(rest, key=times_taken))
        rest.remove(chosen[-1])
        values.update(chosen[-1].items())
        pairs.update(_pairs(chosen[-1]))
    return chosen


def _pairs(point: Point) -> Iterator[tuple[tuple[str, Any], tuple[str, Any]]]:
    return itertools.combinations(point.items(), 2)
