"""The state of a module as named tensors, tied ones once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ctbench.errors import BadData


def unique_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and saved buffers of `module` themselves, each under the first of its names."""
    tensors = module.state_dict(keep_vars=True)
    names: dict[int, str] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), name)
    return {name: tensors[name] for name in names.values()}


def copy_into(own: Mapping[str, Tensor], state: Mapping[str, Tensor], owner: str) -> None:
    """Set `own` tensors to `state`, bit for bit.

    Args:
        own: from `unique_tensors`.
        state: values under exactly the same names.
        owner: whose they are, for messages.

    Raises:
        BadData: a tensor is missing, unexpected or has another shape.
    """
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unexpected:
        raise BadData(
            f"the weights do not fit '{owner}': missing {missing[:3]}, unexpected {unexpected[:3]}; "
            "they must come from the same model with the same added modules"
        )
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise BadData(f"weight '{name}': wanted {tuple(tensor.shape)}, found {tuple(state[name].shape)}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])
