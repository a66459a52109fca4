"""Attention heads and feed-forward neurons as units: gates, importance, and gradient scales of the weights they own.

Legend: L layers, H heads (query heads), E width of a head, I neurons of a layer.

A gate multiplies what a unit hands to the projection behind it, so a gate of 0 equals cutting the unit off, and the
gradient of the loss with respect to a gate says how much the loss depends on the unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ctbench.backbone import Backbone
from ctbench.backbone.families import Family, Role, require_family
from ctbench.backbone.replay import recomputes


@dataclass(frozen=True, kw_only=True)
class Units:
    """One number per unit (a gate, an importance), or their gradients.

    Attributes:
        heads: [L, H], one per query head; key and value heads that several query heads share are not units of their
            own.
        neurons: [L, I].
    """

    heads: Tensor
    neurons: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Units:
        """Return the units after `function`, applied to both tables."""
        return Units(heads=function(self.heads), neurons=function(self.neurons))

    def maximum(self, other: Units) -> Units:
        """Return the larger of the two, unit by unit."""
        return Units(heads=torch.maximum(self.heads, other.heads), neurons=torch.maximum(self.neurons, other.neurons))

    def to_dict(self) -> dict[str, Tensor]:
        """Return plain tensors for a stage's memory."""
        return {"heads": self.heads, "neurons": self.neurons}

    @staticmethod
    def from_dict(tables: Mapping[str, Tensor]) -> Units:
        """Return what `to_dict` gave."""
        return Units(heads=tables["heads"], neurons=tables["neurons"])


def unit_shape(backbone: Backbone) -> tuple[int, int, int]:
    """Return (L, H, I).

    Raises:
        BadConfig: the family's module names are not known.
    """
    _family(backbone)
    _, ffn_out = backbone.parts("ffn_out")[0]
    return backbone.num_layers, _num_heads(backbone), _width_in(backbone, ffn_out)


def full_units(backbone: Backbone, value: float) -> Units:
    """Return units that all have the same value.

    Raises:
        BadConfig: the family's module names are not known.
    """
    num_layers, num_heads, num_neurons = unit_shape(backbone)
    return Units(
        heads=torch.full((num_layers, num_heads), value, device=backbone.device),
        neurons=torch.full((num_layers, num_neurons), value, device=backbone.device),
    )


@contextmanager
def gates(backbone: Backbone, values: Units | None = None) -> Iterator[Units]:
    """Multiply every unit by its gate while the context lasts.

    Modules are looked up on entry, so what a method wrapped before (adapters, LoRA) is gated as a whole.

    Args:
        backbone: whose units.
        values: the gates; None makes gates of 1 that ask for gradients, to be read from `.grad`.

    Raises:
        BadConfig: the family's module names are not known.
    """
    if values is None:
        values = full_units(backbone, 1.0).map(lambda table: table.requires_grad_())
    num_heads = _num_heads(backbone)
    handles = []
    try:
        for layer, (_, module) in enumerate(backbone.parts("attention_out")):
            handles.append(module.register_forward_pre_hook(_gate(values.heads, layer, num_heads)))
        for layer, (_, module) in enumerate(backbone.parts("ffn_out")):
            handles.append(module.register_forward_pre_hook(_gate(values.neurons, layer, 0)))
        yield values
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def sharing_first_reads(backbone: Backbone) -> Iterator[None]:
    """Let passes over one batch share the query, key and value projections of the first layer while the context lasts.

    A projection that is called again with the input of its first call returns the output of that call, through which the
    gradients of all passes go. Where an LM has dropout before its first layer, or noise, inputs differ and nothing is shared;
    nor is it where backward passes compute activations again.
    """
    parts = [] if recomputes(backbone) else backbone.parts("attention_in")
    first = [module for _, module in parts[: len(parts) // backbone.num_layers]]
    try:
        for module in first:
            module.forward = _sharing(module.forward)
        yield
    finally:
        for module in first:
            vars(module).pop("forward", None)


def _sharing(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    kept: list[tuple[Tensor, Tensor]] = []

    def shared(x: Tensor) -> Tensor:
        if kept and torch.equal(kept[0][0], x):
            return kept[0][1]
        output = forward(x)
        if not kept and output.requires_grad:  # one without a gradient has no graph to lend
            kept.append((x, output))
        return output

    return shared


def take_importance(total: Units | None, gate_values: Units) -> Units:
    """Add the size of the gates' gradients to `total` and clear them.

    Called once per batch: |gradient| is taken per batch and summed over batches.

    Args:
        total: the sum so far, None at the start.
        gate_values: gates after a backward pass.
    """
    taken = gate_values.map(lambda table: torch.zeros_like(table) if table.grad is None else table.grad.abs())
    gate_values.heads.grad = gate_values.neurons.grad = None
    if total is None:
        return taken
    return Units(heads=total.heads + taken.heads, neurons=total.neurons + taken.neurons)


def normalise(importance: Units) -> Units:
    """Return importance in [0, 1]: |tanh(z)| of the z-score within each layer (DAS, equation 5).

    Units without any gradient (cut off) stay at exactly 0, which the formula alone would not give.
    """

    def squash(table: Tensor) -> Tensor:
        spread = table.std(dim=1, keepdim=True, unbiased=False).clamp_min(torch.finfo(table.dtype).tiny)
        scaled = ((table - table.mean(dim=1, keepdim=True)) / spread).tanh().abs()
        return torch.where(table == 0, torch.zeros_like(table), scaled)

    return importance.map(squash)


def gradient_scales(backbone: Backbone, importance: Units) -> dict[str, Tensor]:
    """Return factors 1 - importance for every weight that belongs to a unit, by parameter name.

    A head owns its rows of the query, key and value projections (with biases) and its columns of the output
    projection; a neuron its rows of ffn_in (both halves of a gated network) and its column of ffn_out. Biases of the
    output projections belong to no unit. A key-value head shared by several query heads is as important as the most
    important of them.

    Args:
        backbone: whose weights.
        importance: in [0, 1]; 1 keeps a unit's weights, 0 leaves their gradients alone.

    Returns:
        Factors that broadcast to the parameters' shapes.

    Raises:
        BadConfig: the family's module names are not known.
    """
    family = _family(backbone)
    scales: dict[str, Tensor] = {}
    roles: tuple[Role, ...] = ("attention_in", "attention_out", "ffn_in", "ffn_out")
    for role in roles:
        parts = backbone.parts(role)
        per_layer = len(parts) // backbone.num_layers
        table = importance.heads if role.startswith("attention") else importance.neurons
        for number, (name, module) in enumerate(parts):
            layer, index = divmod(number, per_layer)
            keep = 1.0 - table[layer]
            path, linear = _unwrap(name, module)
            if role.endswith("_out"):
                width = _width_in(backbone, linear) // len(keep)
                along = keep.repeat_interleave(width)
                scales[f"{path}.weight"] = along[:, None] if family.is_transposed else along[None, :]
                continue
            rows = _rows(backbone, family, role, keep, index)
            scales[f"{path}.weight"] = rows[None, :] if family.is_transposed else rows[:, None]
            if linear.bias is not None:
                scales[f"{path}.bias"] = rows
    return scales


def scale_gradients(backbone: Backbone, scales: Mapping[str, Tensor]) -> None:
    """Multiply the gradients in place by the factors of `gradient_scales`."""
    parameters = dict(backbone.named_parameters())
    for name, factor in scales.items():
        gradient = parameters[name].grad
        if gradient is not None:
            gradient.mul_(factor)


def restore_weights(backbone: Backbone, scales: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    """Put back the weights whose factor is 0, which weight decay or momentum may have moved.

    Args:
        backbone: after an optimiser's step.
        scales: from `gradient_scales`.
        before: at least the parameters named in `scales`, as they must be, by name.
    """
    parameters = dict(backbone.named_parameters()) if scales else {}
    with torch.no_grad():
        for name, factor in scales.items():
            parameter = parameters[name]
            parameter.copy_(torch.where(factor == 0, before[name].to(parameter.device), parameter))


def _family(backbone: Backbone) -> Family:
    return require_family(backbone.model.config.model_type, purpose="a method that uses units (heads, neurons)")


def _num_heads(backbone: Backbone) -> int:
    return int(backbone.model.config.num_attention_heads)


def _unwrap(name: str, module: nn.Module) -> tuple[str, Any]:
    """Return the first module inside that owns a matrix: the projection itself, below whatever wraps it."""
    for path, inside in module.named_modules():
        weight = dict(inside.named_parameters(recurse=False)).get("weight")
        if weight is not None and weight.dim() == 2:
            return (f"{name}.{path}" if path else name), inside
    raise ValueError(f"nothing in '{name}' has a weight matrix")


def _width_in(backbone: Backbone, module: nn.Module) -> int:
    weight: Tensor = _unwrap("", module)[1].weight
    return weight.shape[0 if _family(backbone).is_transposed else 1]


def _rows(backbone: Backbone, family: Family, role: Role, keep: Tensor, index: int) -> Tensor:
    """Return one factor per output of an input projection; `index` counts the projections of a layer."""
    if role == "ffn_in":
        return torch.cat([keep, keep]) if family.is_gated_in_one else keep
    num_heads = len(keep)
    width = _width_in(backbone, backbone.parts("attention_out")[0][1]) // num_heads
    if family.fused == "heads":
        return keep.repeat_interleave(3 * width)
    if family.fused == "blocks":
        return keep.repeat_interleave(width).repeat(3)
    num_shared = getattr(backbone.model.config, "num_key_value_heads", None) or num_heads
    if index > 0 and num_shared != num_heads:
        keep = keep.view(num_shared, -1).amin(dim=1)
    return keep.repeat_interleave(width)


def _gate(table: Tensor, layer: int, num_heads: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x, values = args[0], table[layer]
        if num_heads:
            values = values.repeat_interleave(x.shape[-1] // num_heads)
        # Gates that are measured stay in float32: their gradients are sums over the whole batch.
        return (x * (values if values.requires_grad else values.to(x.dtype)), *args[1:])

    return hook
