"""The grid of tuned fields and the sample of it: defaults first, nothing twice, every value about as often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ctbench.errors import BadConfig, BadPlugin
from ctbench.method import Method, hyper
from ctbench.plugins.find import find_plugins, load_class
from ctbench.tuning.grid import MAX_POINTS, NUM_TRIALS, choose_points, grid_of, num_points

GRID = {"a": (1, 2, 3, 4), "b": (0.1, 0.2), "c": (True, False)}
DEFAULTS = {"a": 2, "b": 0.2, "c": True}


class Sample(Method):
    share: float = hyper(0.5, low=0.0, high=1.0, tune=(0, 0.5, 1))
    """A share."""
    count: int = hyper(3, low=1, tune=(1, 3, 3))
    """A count."""
    word: str = hyper("a", choices=("a", "b"))
    """A word, not tuned."""


def choose(count, seed=0, grid=GRID, defaults=DEFAULTS):
    return choose_points(grid, defaults, count, np.random.default_rng(seed))


def test_grid_holds_the_tuned_fields_in_their_own_type_without_repetition():
    grid = grid_of(Sample, "sample")
    assert grid == {"share": (0.0, 0.5, 1.0), "count": (1, 3)}
    assert {type(value) for value in grid["share"]} == {float}
    assert num_points(grid) == 6


def test_fixed_field_is_not_tuned():
    assert grid_of(Sample, "sample", fixed=["share"]) == {"count": (1, 3)}


def test_method_without_tuned_fields_has_an_empty_grid():
    assert grid_of(Sample, "sample", fixed=["share", "count"]) == {}
    assert num_points({}) == 0
    assert choose(8, grid={}, defaults={}) == [{}]


def test_declared_value_out_of_range_is_rejected_by_name():
    class Wrong(Method):
        share: float = hyper(0.5, low=0.0, high=1.0, tune=(0.5, 1.5))
        """A share."""

    with pytest.raises(BadConfig, match=r"method\.share of wrong: must be .* from 0\.0 to 1\.0, found 1\.5"):
        grid_of(Wrong, "wrong")


def test_too_large_grid_is_rejected_with_its_size():
    class Wide(Method):
        one: int = hyper(0, tune=range(MAX_POINTS // 100))
        """One."""
        two: int = hyper(0, tune=range(101))
        """Two."""

    with pytest.raises(BadPlugin, match="wide declares 20,200 combinations"):
        grid_of(Wide, "wide")
    assert num_points(grid_of(Wide, "wide", fixed=["one"])) == 101


@pytest.mark.parametrize("seed", range(5))
def test_sample_begins_with_the_defaults_and_repeats_nothing(seed):
    points = choose(8, seed)
    assert points[0] == DEFAULTS
    assert len({tuple(point.items()) for point in points}) == 8
    assert all(point[name] in values for point in points for name, values in GRID.items())


@pytest.mark.parametrize("seed", range(5))
def test_sample_takes_every_value_equally_often(seed):
    for name, values in GRID.items():
        counts = Counter(point[name] for point in choose(8, seed))
        assert {counts[value] for value in values} == {8 // len(values)}


def test_sample_of_a_single_field_misses_no_value_more_than_once():
    assert {point["a"] for point in choose(4, grid={"a": (1, 2, 3, 4)}, defaults={"a": 9})} < {1, 2, 3, 4, 9}


def test_sample_takes_every_pair_of_values_equally_often():
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        counts = Counter((point[one], point[other]) for point in choose(8))
        assert max(counts.values()) - min(counts.values()) == 0
        assert len(counts) == len(GRID[one]) * len(GRID[other])


def test_sample_depends_on_the_seed_alone():
    assert choose(6, 1) == choose(6, 1)
    assert any(choose(6, 1) != choose(6, seed) for seed in range(2, 6))


def test_small_grid_is_taken_whole():
    points = choose(99)
    assert len(points) == num_points(GRID) == 16
    assert points[0] == DEFAULTS
    assert len({tuple(point.items()) for point in points}) == 16


def test_defaults_outside_the_grid_are_tried_too():
    assert choose(99, grid={"a": (1, 2)}, defaults={"a": 3}) == [{"a": 3}, {"a": 1}, {"a": 2}]


@pytest.mark.parametrize("name", find_plugins("method"))
def test_sample_covers_every_declared_value_of_every_method(name):
    cls = load_class(find_plugins("method")[name])
    grid = grid_of(cls, name)
    points = choose(NUM_TRIALS, grid=grid, defaults={field: cls().settings()[field] for field in grid})
    assert len(points) == min(NUM_TRIALS, max(num_points(grid), 1))
    for field, values in grid.items():
        assert {point[field] for point in points} == set(values)


@pytest.mark.parametrize("seed", range(5))
def test_values_are_covered_as_soon_as_there_are_points_enough_and_not_before(seed):
    grid = {"a": (1, 2, 3, 4, 5), "b": (1, 2, 3)}
    for count, missing in ((5, 0), (4, 1)):
        points = choose(count, seed, grid=grid, defaults={"a": 1, "b": 1})
        assert len({1, 2, 3, 4, 5} - {point["a"] for point in points}) == missing


def test_weight_one_is_in_the_grid_of_lwf():
    assert 1.0 in grid_of(load_class(find_plugins("method")["lwf"]), "lwf")["weight"]


@pytest.mark.parametrize("name", find_plugins("method"))
def test_defaults_of_every_method_lie_inside_its_ranges(name):
    cls = load_class(find_plugins("method")[name])
    defaults = cls().settings()
    for field, values in grid_of(cls, name).items():
        assert len(values) >= 2, f"{field} has nothing to choose from"
        assert defaults[field] in values
