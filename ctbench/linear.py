"""Linear maps of an LM's layers: where they are, and how their weights lie.

Legend: O outputs, I inputs of a map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ctbench.backbone import Backbone
from ctbench.errors import BadConfig


@dataclass(frozen=True, kw_only=True)
class LinearMap:
    """A linear map inside a layer.

    Attributes:
        name: of its module, below the backbone.
        module: with `weight` and `bias`.
        is_transposed: whether the weight is [I, O] (GPT-2's Conv1D) and not [O, I].
    """

    name: str
    module: Any
    is_transposed: bool

    @property
    def weight_name(self) -> str:
        """Name of its weight among the parameters of the backbone."""
        return f"{self.name}.weight"

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I)."""
        num_out, num_in = self.oriented(self.module.weight).shape
        return num_out, num_in

    def oriented(self, weight: Tensor) -> Tensor:
        """Return a tensor that lies as the weight does as a view [O, I], or the other way round."""
        return weight.T if self.is_transposed else weight


def linear_maps(backbone: Backbone) -> list[LinearMap]:
    """Return the linear maps inside the layers, in their order; the LM head and the embeddings are none of them.

    Raises:
        BadConfig: the layers cannot be found, or hold no linear map.
    """
    from transformers.pytorch_utils import Conv1D  # slow to import

    names = {id(module): name for name, module in backbone.named_modules()}
    found = [
        LinearMap(name=names[id(module)], module=module, is_transposed=isinstance(module, Conv1D))
        for layer in backbone.layers
        for module in layer.modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    if not found:
        raise BadConfig(
            f"the layers of '{backbone.name}' ({backbone.model.config.model_type}) hold no linear map that ctbench knows; "
            "choose another model or a method without them"
        )
    return found
