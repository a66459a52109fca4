"""Compiling layers for a GPU, where launching a thousand small kernels one by one takes longer than computing them.

torch.compile fuses what a layer does around its matrix products, and CUDA graphs launch all of it at once. Both have
silent traps, which this module keeps away from methods: compiled code does not notice hooks that come later, and what
a graph has computed is overwritten when it is replayed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import nn

from ctbench.errors import BadConfig, one_line

NUM_VERSIONS: Final = 64
"""So many versions of one layer are kept (shapes, training or not, with a gradient or without); torch's 8 are few."""
OPTIONS: Final[dict[str, Any]] = {"dynamic": False, "mode": "reduce-overhead"}
"""Batches of a stage have few shapes, and code for any shape is slower; the mode is the one with CUDA graphs."""
_in_step: ContextVar[bool] = ContextVar("_in_step", default=False)


def compile_forward(modules: Iterable[nn.Module]) -> None:
    """Let each module use compiled code within `compiled_step`; modules of one class and shape share it.

    While a part of a module has hooks (adapters, gates of units), the module computes as it did before. Where there is
    nothing to compile with, the first pass raises BadConfig.
    """
    torch._dynamo.config.recompile_limit = NUM_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = 8 * NUM_VERSIONS
    for module in modules:
        if "forward" not in module.__dict__:
            module.forward = _either(module)


def forget_compiled(modules: Iterable[nn.Module]) -> None:
    """Take back `compile_forward`; a copied module would otherwise go on computing with the weights of the original."""
    for module in modules:
        module.__dict__.pop("forward", None)


@contextlib.contextmanager
def compiled_step() -> Iterator[None]:
    """The passes of one update; what they give is valid until the next one begins.

    Outside, modules compute as they did before: a hook of a method may run any number of passes there, and each would
    be recorded as a further part of the update.
    """
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # untyped upstream
    token = _in_step.set(True)
    try:
        yield
    finally:
        _in_step.reset(token)


def release_compiled() -> None:
    """Drop what was compiled and recorded, with its memory; the compiler's files make the next time quicker."""
    torch.compiler.reset()


def _either(module: nn.Module) -> Callable[..., Any]:
    plain, fast = module.forward, torch.compile(module.forward, **OPTIONS)

    @functools.wraps(plain)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not _in_step.get() or _has_hooks(module):
            return plain(*args, **kwargs)
        try:
            return fast(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = one_line(str(getattr(error, "inner_exception", error)).strip().partition("\n")[0])
            raise BadConfig(
                f"the layers cannot be compiled here: {reason}; train without: --set pretrain.compiled=false"
            ) from error

    return forward


def _has_hooks(module: nn.Module) -> bool:
    """Return whether a part of the module has hooks; those of the module itself run outside of its `forward`."""
    return any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in module.modules()
        if part is not module
    )
