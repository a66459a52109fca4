from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from ctbench.errors import BadPlugin
from ctbench.memory import Reservoir, flatten, num_bytes, unflatten
from ctbench.randomness import make_generator


def test_tree_survives_json_and_tensors():
    tree = {"a": torch.arange(3), "b": {"c": [1, 2.5, "x", None, True], "d": [torch.ones(2, 2)]}}
    plain, tensors = flatten(tree)
    back = unflatten(json.loads(json.dumps(plain)), tensors)
    assert torch.equal(back["a"], tree["a"])
    assert torch.equal(back["b"]["d"][0], torch.ones(2, 2))
    assert back["b"]["c"] == [1, 2.5, "x", None, True]


@pytest.mark.parametrize("tree", [{"f": len}, {"a": {1: 2}}, {"s": {1, 2}}])
def test_what_is_not_plain_is_refused_with_its_path(tree):
    with pytest.raises(BadPlugin, match="memory"):
        flatten(tree)


def test_size_is_that_of_the_tensors():
    assert num_bytes({}) == 0
    assert num_bytes({"a": torch.zeros(10, dtype=torch.float16)}) >= 20


def test_reservoir_is_uniform_over_everything_offered():
    counts = np.zeros(60)
    for trial in range(800):
        tree: dict = {}
        for part in range(3):
            rows = torch.arange(20 * part, 20 * part + 20).unsqueeze(1)
            Reservoir(tree, capacity=10).offer(make_generator(trial, ["a"], f"part {part}"), blocks=rows)
        counts[tree["columns"]["blocks"].flatten().long()] += 1
    assert counts.sum() == 8000
    assert chisquare(counts).pvalue > 0.001
    assert chisquare(np.r_[counts[:30] * 1.2, counts[30:] * 0.8]).pvalue < 0.001  # a tilted one would be seen


def test_reservoir_keeps_columns_together_and_draws_only_what_it_holds():
    tree: dict = {}
    memory = Reservoir(tree, capacity=8)
    with pytest.raises(ValueError, match="empty"):
        memory.draw(1, make_generator(0, [], "x"))
    rows = torch.arange(30).unsqueeze(1)
    memory.offer(make_generator(0, [], "x"), blocks=rows, doubled=2 * rows)
    drawn = memory.draw(50, make_generator(0, [], "y"))
    assert torch.equal(drawn["doubled"], 2 * drawn["blocks"])
    assert len(memory) == 8
