"""Weights in shards: each rank holds a part of every tensor of an LM, and all of it while a layer needs it (FSDP2)."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ctbench.machine.ranks import Ranks

if TYPE_CHECKING:
    from ctbench.backbone import Backbone


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor as it is; of one in shards, all of it, for which all ranks must call.

    A gradient of the result, the same on every rank, reaches the shards.
    """
    if type(tensor) in (Tensor, nn.Parameter):
        return tensor
    from torch.distributed.tensor import DTensor  # half a second, which only stages with shards pay

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor that is whole on every rank in shards like those of another one, on its device.

    Args:
        tensor: as on every other rank; one of another shape, such as a count, stays whole.
        like: in shards or not.
    """
    moved = tensor.to(like.device, copy=True)
    if type(like) in (Tensor, nn.Parameter) or moved.shape != like.shape:
        return moved
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    shared: Tensor = distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)
    return shared.clone()  # a shard that is a view would keep all of the tensor


def split(backbone: Backbone, ranks: Ranks) -> Backbone:
    """Move the weights of an LM into shards, and return the LM that computes with them.

    Every layer is a unit that is put together for its own passes; everything else is one more unit. Gradients arrive in
    shards, averaged over the ranks. The given LM is left without weights until `put_together`.

    Args:
        backbone: on its device, with the same weights on every rank.
        ranks: those that hold the shards.
    """
    from torch.distributed.fsdp import fully_shard

    parameters = list(backbone.parameters())
    memo: dict[int, Any] = {id(each): nn.Parameter(each.data, requires_grad=each.requires_grad) for each in parameters}
    memo |= {id(each): each for each in (*backbone.buffers(), backbone.dropout_source, backbone.sharing)}
    found = copy.deepcopy(backbone, memo)
    mesh = _mesh(backbone.device.type, ranks.size)
    for layer in found.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(found.model, mesh=mesh)
    for each in parameters:
        each.data = each.data.new_empty(0)
    found.shards = dict(found.named_parameters())
    return found


def unite_outer(found: Backbone) -> None:
    """Put the weights outside of layers together for a second backward pass through one forward pass.

    Args:
        found: from `split`.
    """
    found.model.unshard()


def put_together(found: Backbone, backbone: Backbone) -> None:
    """Give an LM that `split` took the weights from their values of now, whole on every rank, and its modes.

    Args:
        found: from `split`; of no use afterwards.
        backbone: what `split` was given.
    """
    pairs = zip(found.shards.items(), backbone.named_parameters(), strict=True)
    for (name, shard), (same, parameter) in pairs:
        assert name == same
        parameter.data = whole(shard.detach())
    for module, original in zip(found.modules(), backbone.modules(), strict=True):
        original.training = module.training
    for after, before in zip(nested(found), nested(backbone), strict=True):
        before.forward_tokens = after.forward_tokens
    found.shards = {}


def nested(backbone: Backbone) -> list[Backbone]:
    """Return an LM and any other that a method put into it; the passes of all count as cost."""
    return [part for part in backbone.modules() if isinstance(part, type(backbone))]


@cache
def _mesh(device: str, size: int) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (size,))
