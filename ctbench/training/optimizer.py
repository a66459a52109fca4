"""The optimiser, the same for pre-training and fine-tuning, and its state as plain tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ctbench.backbone.shards import share_like, whole


def make_optimizer(parameters: Iterable[Tensor], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW over `parameters`; vectors (biases, norms) are spared the weight decay."""
    every = list(parameters)
    groups = [
        {"params": [parameter for parameter in every if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in every if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=True)


def optimizer_state(optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of the moments and step counts, whole, by "KEY/NAME OF THE PARAMETER", on the CPU."""
    return {
        f"{key}/{name}": whole(value.detach()).to("cpu", copy=True).contiguous()
        for name, parameter in trained.items()
        for key, value in optimizer.state[parameter].items()
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> None:
    """Set what `optimizer_state` returned; a parameter without a state, or of another shape, begins anew."""
    for entry, value in state.items():
        key, _, name = entry.partition("/")
        parameter = trained.get(name)
        if parameter is not None and (value.ndim == 0 or value.shape == parameter.shape):
            # Fused AdamW wants even the step on the parameter's device.
            optimizer.state[parameter][key] = share_like(value, parameter)
