"""Compiling layers for a GPU, where launching a thousand small kernels one by one takes longer than computing them.

torch.compile fuses what a layer does around its matrix products, and CUDA graphs launch all of it at once. Both have
silent traps. Compiled code does not notice hooks that come later: a layer with hooks falls back to eager mode. What
a graph has computed is overwritten when it is replayed: what a pass gives, and the gradients behind it, are valid until
the next update, and a method that keeps them longer must clone them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from types import MethodType
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from ctbench.errors import BadConfig, one_line

NUM_VERSIONS: Final = 64
"""Maximum number of compiled versions of one layer (shapes, training or not, with a gradient or without); torch allows 8."""
OPTIONS: Final[dict[str, Any]] = {"dynamic": False, "mode": "reduce-overhead"}
"""Batches of a stage have few shapes, and code for any shape is slower; the mode is the one with CUDA graphs."""
_in_step: ContextVar[bool] = ContextVar("_in_step", default=False)


def compile_forward(modules: Iterable[nn.Module]) -> None:
    """Let each module, and its copies, use compiled code within `compiled_step`; modules of one class share it."""
    torch._dynamo.config.recompile_limit = NUM_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = 8 * NUM_VERSIONS
    for module in modules:
        if "forward" not in module.__dict__:
            either: Callable[..., Any] = _either(type(module))  # type: ignore[arg-type]  # a class can be hashed
            module.forward = MethodType(either, module)  # of a copy, the copy's


def compile_layers(layers: Iterable[nn.Module], device: torch.device) -> bool:
    """Compile what every layer computes, for passes within `compiled_step`, on a GPU.

    Returns:
        Whether the layers are compiled; on a CPU, whose kernels are our own, they are not.
    """
    if device.type != "cuda":
        return False
    compile_forward(layers)
    return True


@contextlib.contextmanager
def compiled_step() -> Iterator[None]:
    """Run the forward and backward passes of one update with compiled layers.

    Outside of this context, layers run in eager mode: the hooks of a method may run any number of passes, and CUDA graphs
    would record each of them as a part of the update.

    Raises:
        BadConfig: no compiler is available.
    """
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # untyped upstream
    token = _in_step.set(True)
    try:
        yield
    except torch._dynamo.exc.ShortenTraceback as error:  # of the compiler; a method's own mistakes are none of them
        reason = one_line(str(getattr(error, "inner_exception", error)).strip().partition("\n")[0])
        raise BadConfig(f"the layers cannot be compiled here: {reason}; train with compiled = false") from error
    finally:
        _in_step.reset(token)


def release_compiled() -> None:
    """Release compiled code and recorded graphs with their memory; the compiler's cache on the disk stays."""
    torch.compiler.reset()
    _either.cache_clear()


@functools.cache
def _either(kind: Any) -> Callable[..., Any]:
    """Return `forward` of a class of modules in both ways."""
    plain, fast = kind.forward, torch.compile(kind.forward, **OPTIONS)

    @functools.wraps(plain)
    def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return (fast if _in_step.get() and not _has_hooks(module) else plain)(module, *args, **kwargs)

    return forward


def _has_hooks(module: nn.Module) -> bool:
    """Return whether a part of the module has hooks; those of the module itself run outside of its `forward`."""
    if torch_module._has_any_global_hook():  # type: ignore[no-untyped-call]  # untyped upstream
        return True
    return any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in module.modules()
        if part is not module
    )
