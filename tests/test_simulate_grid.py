"""The simulated grids keep what every schedule keeps, and the simulation notices one that does not."""

from __future__ import annotations

import pytest
from simulate_grid import (
    NODE_SECONDS,
    graph,
    last_end,
    longest_chain,
    on_slurm,
    on_workers,
    seconds_of,
    store_operations,
)

from ctbench.engine.slurm.shards import Shard


@pytest.fixture(scope="module")
def grid():
    todo, _ = graph(2, 3, 2)
    return todo, {node.key: seconds_of(node) for node in todo}


def test_one_worker_takes_the_sum_of_all_nodes(grid):
    todo, seconds = grid
    work = sum(seconds.values()) + NODE_SECONDS * len(todo)
    assert on_workers(todo, seconds, 1)["makespan"] == pytest.approx(work)


def test_no_number_of_gpus_beats_the_longest_chain_or_the_work(grid):
    todo, seconds = grid
    for gpus in (1, 2, 5, 1000):
        bound = max(longest_chain(todo, seconds), sum(seconds.values()) / gpus)
        assert on_workers(todo, seconds, gpus)["makespan"] >= bound
        assert on_slurm(todo, seconds, gpus)["makespan"] >= bound
    without_order = dict.fromkeys(seconds, 0.0) | {todo[-1].key: 1.0}  # control: such a bound can be missed
    assert on_workers(todo, without_order, 1000)["makespan"] < longest_chain(todo, seconds)


def test_jobs_wait_for_what_they_need_and_start_in_the_order_of_submission():
    chain = [Shard((), frozenset()), Shard((), frozenset({0})), Shard((), frozenset())]
    times = [3.0, 2.0, 4.0]
    assert last_end(chain, [0, 1, 2], times, gpus=2) == 5.0
    assert last_end(chain, [0, 1, 2], times, gpus=1) == 9.0
    assert last_end(chain, [2, 0, 1], times, gpus=2) == 5.0


def test_every_operation_of_a_node_on_the_store_is_counted():
    found = store_operations()
    assert found["reads and writes"] >= 6  # claim, record and their folders are made, renamed and removed
    assert found["looks"] >= 2
