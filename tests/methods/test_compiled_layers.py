"""Every method with compiled layers whose results are overwritten as CUDA graphs overwrite them; no GPU is needed."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext

import pytest
import torch
from method_helpers import QUICK, RECIPE, core_first, train_stream
from torch._dynamo.backends.common import aot_autograd

from ctbench.backbone import Backbone
from ctbench.errors import RunFailed
from ctbench.kernels import compiled
from ctbench.kernels.compiled import compile_forward, release_compiled
from ctbench.kernels.dropout import CheapDropout
from ctbench.method import Method, hyper
from ctbench.plugins.find import find_plugins, get_method
from ctbench.speed.shapes import Shape, make_model

HOOKED = ("adapters", "hat", "olora")
"""Methods whose layers have hooks throughout, so that nothing of theirs is compiled."""
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


class Overwriting:
    """A compiler that changes nothing, but what its code gave is not a number any more when the next update begins."""

    def __init__(self):
        self.given, self.num_runs = [], 0

    def __call__(self, graph, inputs):
        return aot_autograd(fw_compiler=self.keep, bw_compiler=self.keep)(graph, inputs)

    def keep(self, graph, _inputs):
        def run(inputs):
            self.num_runs += 1
            taken = {x.untyped_storage().data_ptr() for x in inputs if isinstance(x, torch.Tensor)}
            found = graph(*inputs)
            inputs.clear()
            # Storages, not tensors: nobody else may hold a gradient that the optimiser is to take as it is.
            kinds = {
                x.untyped_storage(): x.dtype for x in found if isinstance(x, torch.Tensor) and x.is_floating_point()
            }
            self.given += [pair for pair in kinds.items() if pair[0].data_ptr() not in taken]
            return found

        run._boxed_call = True
        return run

    def begin(self):
        for storage, dtype in self.given:
            torch.empty(0, dtype=dtype).set_(storage).fill_(torch.nan)
        self.given = []


@pytest.fixture
def compiler(monkeypatch):
    made = Overwriting()

    def compile_layers(layers, device):
        compile_forward(layers)
        return True

    release_compiled()
    monkeypatch.setattr(compiled, "OPTIONS", {"backend": made, "dynamic": False})
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", made.begin)
    for module in ("ctbench.stage", "ctbench.training.pretrain"):
        monkeypatch.setattr(f"{module}.compile_layers", compile_layers)
    yield made
    release_compiled()


@pytest.fixture
def base(small, monkeypatch):
    """A LM whose last hidden states come out of a layer, as it is on a GPU: torch's attention, no masks from numpy."""
    monkeypatch.setattr("ctbench.kernels.attention.ATTENTION", "sdpa")
    monkeypatch.setattr("ctbench.kernels.attention.register_attention", lambda: None)  # or it would replace torch's
    words = small.base
    shape = Shape(
        name="bert", family="bert", layers=2, width=32, heads=2, vocabulary=words.vocab_size, length=64, batch=4
    )
    made = Backbone(make_model(shape), tokenizer=words.tokenizer, objective="mlm", name="bert")
    for module in made.modules():
        if isinstance(module, CheapDropout):
            module.p = 0.0
    return made


def both(method, base, small):
    """Return the stages with plain and with compiled layers."""
    quick = dataclasses.replace(RECIPE, compiled=True)
    return (train_stream(method, base, small.stream, small.blocks, recipe=recipe) for recipe in (RECIPE, quick))


@pytest.mark.parametrize("name", core_first(find_plugins("method"), ("naive", "das", "hyperprompt")))
def test_losses_and_weights_are_those_of_plain_layers(name, small, base, compiler):
    plain, fast = both(get_method(name, **QUICK.get(name, {})), base, small)
    assert bool(compiler.num_runs) == (name not in HOOKED)
    for (one, _, wanted), (other, _, found) in zip(plain[1:], fast[1:], strict=True):
        for term, values in wanted.losses.items():
            assert found.losses[term] == pytest.approx(values, rel=1e-5, abs=1e-6), term
        torch.testing.assert_close(other.state(), one.state(), rtol=1e-3, atol=1e-5)


class KeepsHidden(Method):
    """Compares with the hidden states of the update before, which it should have cloned."""

    clones: bool = hyper(False)

    def loss(self, stage, batch):
        output = stage.backbone(batch)
        before = stage.memory.get("before", output.hidden.detach())
        stage.memory["before"] = output.hidden.detach().clone() if self.clones else output.hidden.detach()
        return {"lm": output.loss, "distance": (output.hidden - before).square().mean()}

    def end(self, stage):
        stage.memory.clear()


class KeepsGradient(Method):
    """Adds the gradient of the update before, which it should have cloned."""

    def after_backward(self, stage):
        for name, parameter in stage.backbone.trainable():
            if parameter.grad is not None:
                before = stage.memory.get(name)
                stage.memory[name] = parameter.grad.detach()
                if before is not None:
                    parameter.grad = parameter.grad + before

    def end(self, stage):
        stage.memory.clear()


@pytest.mark.parametrize(
    ("method", "is_wrong"),
    [(KeepsHidden(), True), (KeepsHidden(clones=True), False), (KeepsGradient(), True)],
    ids=["keeps hidden states", "clones them", "keeps gradients"],
)
def test_what_is_kept_without_a_clone_would_be_noticed(method, is_wrong, small, base, compiler):
    with pytest.raises(RunFailed, match="loss is nan") if is_wrong else nullcontext():
        list(both(method, base, small))


def test_a_copy_of_a_part_computes_with_its_own_weights(base, compiler):
    compile_forward(base.layers)
    layer, other = base.layers[0], copy.deepcopy(base.layers[0])
    x = torch.randn(1, 3, base.hidden_size)
    before = layer(x)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.zero_()
    for context in (compiled.compiled_step, torch.no_grad):
        with context():
            assert torch.equal(other(x), before)
            assert not torch.equal(layer(x), before)
