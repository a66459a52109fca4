"""Passes that are computed again: the moment of the first time, to which hooks, prompts and dropout are set back."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import nn

    from ctbench.backbone import Backbone

_HOOKS: Final = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
)
"""Where torch keeps the hooks of a module."""


class Moment:
    """What a pass through a backbone depends on beside its weights and its text.

    A method may put gates or noise on modules for one pass and take them away before the gradient is due, so a pass that
    is computed again for its gradient finds the hooks that it had.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._now: list[tuple[Moment, int]] = []
        self._tap = dict(vars(backbone.tap))
        self._dropout = backbone.dropout_source.place
        self._hooks = [
            (module, {name: getattr(module, name).copy() for name in _HOOKS}) for module in _hooked(backbone)
        ]

    def __enter__(self) -> None:
        """Set everything back; torch enters once for each time that the gradient is asked for."""
        self._now.append((Moment(self._backbone), self._backbone.forward_tokens))
        self._set()

    def __exit__(self, *_error: object) -> None:
        """Put everything in its place again; nothing that is counted has changed."""
        now, self._backbone.forward_tokens = self._now.pop()
        now._set()

    def _set(self) -> None:
        self._backbone.tap.__dict__.update(self._tap)
        self._backbone.dropout_source.place = self._dropout
        for module in _hooked(self._backbone):
            for name in _HOOKS:
                getattr(module, name).clear()
        for module, hooks in self._hooks:
            for name, found in hooks.items():
                getattr(module, name).update(found)


def contexts(backbone: Backbone) -> tuple[contextlib.nullcontext[None], Moment]:
    """Return what torch enters for a pass and for its repetition: the `context_fn` of a checkpoint."""
    return contextlib.nullcontext(), Moment(backbone)


def _hooked(backbone: Backbone) -> list[nn.Module]:
    return [module for module in backbone.modules() if module._forward_hooks or module._forward_pre_hooks]


def checkpoint_layers(backbone: Backbone) -> None:
    """Keep the activations between layers only, and compute those inside a layer again when its gradient is due."""
    options = {"use_reentrant": False, "context_fn": partial(contexts, backbone)}
    backbone.model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)


def recomputes(backbone: Backbone) -> bool:
    """Return whether parts of a pass are computed again in its backward pass, so passes cannot share what they computed."""
    in_parts = backbone.sharing is not None and backbone.sharing.num_parts > 1
    return in_parts or bool(backbone.model.is_activation_checkpointing)
