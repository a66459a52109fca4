"""Compiled layers, with a compiler that only counts what it is given: no GPU is needed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from checkpoints import make_batch
from torch import Tensor, nn

from ctbench.backbone import Backbone
from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig
from ctbench.kernels import compiled
from ctbench.kernels.compiled import compile_forward, compile_layers, compiled_step, release_compiled

# What torch's compiler says on the way: it uses what torch deprecates, and looks at all attributes of tensors.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


class Compiler:
    """Counts the pieces of code that it is asked to compile, and how often the result runs."""

    def __init__(self) -> None:
        self.num_compiled = 0
        self.num_runs = 0

    def __call__(self, graph: Any, _inputs: list[Any]) -> Callable[..., Any]:
        self.num_compiled += 1

        def run(*args: Any) -> Any:
            self.num_runs += 1
            return graph(*args)

        return run


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    counting = Compiler()
    release_compiled()
    monkeypatch.setattr(compiled, "OPTIONS", {"backend": counting, "dynamic": False})
    yield counting
    release_compiled()


@pytest.fixture
def backbone(checkpoint: Callable[..., Path]) -> Backbone:
    made = load_backbone(str(checkpoint("bert")))
    made.model.set_attn_implementation("sdpa")  # as on a GPU
    return made


def loss_of(backbone: Backbone) -> Tensor:
    loss = backbone(make_batch()).loss
    assert loss is not None
    return loss


def test_layers_share_what_is_compiled_and_compute_the_same(backbone: Backbone, compiler: Compiler) -> None:
    plain = loss_of(backbone)
    plain.backward()
    wanted = {name: weight.grad.clone() for name, weight in backbone.trainable() if weight.grad is not None}
    backbone.zero_grad()
    compile_forward(backbone.layers)
    with compiled_step():
        found = loss_of(backbone)
    found.backward()
    assert torch.equal(found, plain)
    assert all(torch.equal(weight.grad, wanted[name]) for name, weight in backbone.trainable() if name in wanted)
    assert (compiler.num_compiled, compiler.num_runs) == (1, backbone.num_layers)


def test_outside_of_a_step_nothing_is_compiled(backbone: Backbone, compiler: Compiler) -> None:
    compile_forward(backbone.layers)
    loss_of(backbone)
    assert compiler.num_compiled == 0
    with pytest.raises(ZeroDivisionError), compiled_step():
        raise ZeroDivisionError
    loss_of(backbone)
    assert compiler.num_compiled == 0


def test_a_hook_that_comes_later_is_heard(backbone: Backbone, compiler: Compiler) -> None:
    compile_forward(backbone.layers)
    with compiled_step():
        before = loss_of(backbone)
    _, part = backbone.parts("ffn_out")[0]
    handle = part.register_forward_hook(lambda _module, _args, output: 2.0 * output)
    with compiled_step():
        hooked = loss_of(backbone)
    assert torch.equal(hooked, loss_of(backbone))
    assert not torch.equal(hooked, before)
    runs = compiler.num_runs
    handle.remove()
    with compiled_step():
        assert torch.equal(loss_of(backbone), before)
    assert compiler.num_runs == runs + backbone.num_layers


def test_compiled_code_alone_would_not_hear_it(compiler: Compiler) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    fast = torch.compile(module.forward, backend=compiler)
    x = torch.ones(1, 2)
    before = fast(x)
    module[0].register_forward_hook(lambda _module, _args, output: 2.0 * output)
    assert torch.equal(fast(x), before), "torch hears hooks now: `_has_hooks` can go"


def test_a_copy_keeps_what_a_method_put_in_the_place_of_forward(backbone: Backbone, compiler: Compiler) -> None:
    layer = backbone.layers[0]
    layer.forward = MethodType(lambda _self, hidden, *_args, **_kwargs: 2.0 * hidden, layer)
    compile_forward(backbone.layers)
    other = copy.deepcopy(backbone)
    with compiled_step():
        assert torch.equal(loss_of(other), loss_of(backbone))
    hidden = torch.ones(1, 2, backbone.hidden_size)
    assert torch.equal(other.layers[0](hidden), 2.0 * hidden)


def test_global_hooks_are_heard(backbone: Backbone, compiler: Compiler) -> None:
    compile_forward(backbone.layers)
    with compiled_step():
        loss_of(backbone)
    seen: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, _args, _output: seen.append(module))
    with compiled_step():
        loss_of(backbone)
    handle.remove()
    assert backbone.parts("ffn_out")[0][1] in seen


def test_a_mistake_of_a_method_is_not_taken_for_a_missing_compiler(backbone: Backbone, compiler: Compiler) -> None:
    compile_forward(backbone.layers)
    name, part = backbone.parts("ffn_out")[0]
    backbone.replace(name, nn.Linear(part.in_features + 1, part.out_features))
    with pytest.raises(RuntimeError), compiled_step():
        loss_of(backbone)


def test_a_backbone_on_a_cpu_is_not_compiled(backbone: Backbone) -> None:
    assert not compile_layers(backbone.layers, backbone.device)
    assert "forward" not in backbone.layers[0].__dict__


@pytest.mark.parametrize("is_missing", [True, False])
def test_what_cannot_be_compiled_is_one_line_with_a_way_out(
    is_missing: bool, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_graph: Any, _inputs: list[Any]) -> Any:
        if is_missing:
            from torch._inductor.exc import TritonMissing

            raise TritonMissing(first_useful_frame=None)
        raise RuntimeError("no C compiler was found\nand more")

    release_compiled()
    monkeypatch.setattr(compiled, "OPTIONS", {"backend": broken})
    compile_forward(backbone.layers)
    reason = "working triton" if is_missing else "no C compiler"
    wanted = rf"^the layers cannot be compiled here: .*{reason}.*; train with compiled = false$"
    with pytest.raises(BadConfig, match=wanted) as raised, compiled_step():
        loss_of(backbone)
    assert "\n" not in str(raised.value)
