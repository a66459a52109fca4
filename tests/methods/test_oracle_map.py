"""The oracle of the maps: it keeps all laws, and its map of a domain is the one that the domain's cell reads."""

from __future__ import annotations

from pathlib import Path

import torch
from method_helpers import train_stream

from ctbench.plugins.find import get_method

PATH = str(Path(__file__).parent.parent / "helpers" / "oracle_map.py")


def test_each_domain_has_the_map_that_its_stage_trained(small):
    method = get_method(PATH)
    stages = train_stream(method, small.base, small.stream, small.blocks)
    first, second = small.stream.names
    up = [backbone.added["maps"].maps.up["enter"] for backbone, _, _ in stages]
    assert not up[0].any()
    assert up[1][0].abs().max() > 1e-3
    assert up[2][1].abs().max() > up[1][1].abs().max()
    adapted = method.adapt(stages[2][0], small.stream, second, 2)
    word_map = adapted.added["maps"](adapted, None)
    assert torch.equal(word_map.shares, torch.tensor([0.0, 1.0]))
    assert {"lm", "agree"} <= stages[2][2].losses.keys()
    assert method.configured_traits.needs_domain
    assert first != second
