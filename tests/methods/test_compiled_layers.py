"""Every method with compiled layers, with a compiler that changes nothing: hooks, teachers and memories must survive it."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from method_helpers import QUICK, RECIPE, train_stream

from ctbench import compiled
from ctbench.backbone import Backbone
from ctbench.compiled import compile_forward, release_compiled
from ctbench.dropout import CheapDropout
from ctbench.plugins import find_plugins, get_method

HOOKED = ("adapters",)
"""Methods whose layers have hooks throughout, so that nothing of theirs is compiled."""
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


@pytest.fixture
def base(small, monkeypatch):
    """The tiny LM as it is on a GPU: torch's attention, and no masks from numpy."""
    monkeypatch.setattr("ctbench.backbone.ATTENTION", "sdpa")
    made = copy.deepcopy(small.base).to("cpu")  # moving it chooses the attention
    for module in made.modules():
        if isinstance(module, CheapDropout):
            module.p = 0.0
    return made


@pytest.fixture
def runs(monkeypatch):
    """The sizes of the graphs that ran compiled."""
    found = []

    def backend(graph, _inputs):
        def run(*args):
            found.append(len(graph.graph.nodes))
            return graph(*args)

        return run

    def compile_layers(backbone):
        compile_forward(backbone.layers)
        return True

    monkeypatch.setattr(compiled, "OPTIONS", {"backend": backend, "dynamic": False})
    monkeypatch.setattr(Backbone, "compile_layers", compile_layers)
    release_compiled()
    yield found
    release_compiled()


@pytest.mark.parametrize("name", find_plugins("method"))
def test_losses_and_weights_are_those_of_plain_layers(name, small, base, runs):
    method = get_method(name, **QUICK.get(name, {}))
    plain = train_stream(method, base, small.stream, small.blocks)
    assert runs == []
    fast = train_stream(method, base, small.stream, small.blocks, recipe=dataclasses.replace(RECIPE, compiled=True))
    assert bool(runs) == (name not in HOOKED)
    for (one, _, wanted), (other, _, found) in zip(plain[1:], fast[1:], strict=True):
        assert found["losses"] == wanted["losses"]
        assert all(map(torch.equal, one.state().values(), other.state().values()))
