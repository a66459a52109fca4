"""LoRA: learn low-rank updates of the frozen layers.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen, 2021, arXiv:2106.09685. Every linear layer of the LM, its head left
out, gets an update of rank r that is added to its frozen weight:

    W' = W + (alpha / r) B A,   B = 0 at the start

Differs from the paper: it adapts a model to one task, here the LM loss trains one pair (A, B) per layer through the
stream (or one per domain), never merged in between; all linear layers are updated, not the attention's alone; no
dropout on the update's input; in cells everything trains unless `cell_trains` says otherwise. The layers are peft's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ctbench import Method, Plan, Traits, hyper, one_per_domain, sequential

if TYPE_CHECKING:
    from torch import nn

    from ctbench import Backbone, Stream


class LoRA(Method):
    """Low-rank updates of all linear layers learn, the LM is frozen."""

    paper: ClassVar[str] = "arXiv:2106.09685"

    rank: int = hyper(16, low=1, tune=(4, 16, 64))
    """Rank r of the updates."""
    alpha: float = hyper(64.0, low=0.0, tune=(16.0, 64.0, 256.0, 1024.0))
    """The updates are scaled by alpha over rank; with 0 nothing is learned."""
    per_domain: bool = hyper(False)
    """One set of updates per domain, each from the untouched LM, instead of one through the stream; needs the domain."""
    cell_trains: str = hyper("all", choices=("all", "added"))
    """What a cell fine-tunes beside its head: the whole LM with its updates, or the updates alone."""

    @property
    def configured_traits(self) -> Traits:
        return Traits(needs_domain=self.per_domain, grows=self.per_domain)

    def plan(self, stream: Stream) -> Plan:
        return one_per_domain(stream.names) if self.per_domain else sequential(stream.names)

    def build(self, backbone: Backbone, stream: Stream) -> Backbone:
        from peft import LoraConfig, inject_adapter_in_model  # slow to import
        from transformers.pytorch_utils import Conv1D

        base = backbone.model.base_model
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules="all-linear",
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.modules()),
        )
        inject_adapter_in_model(config, base)
        backbone.register_state_dict_post_hook(keep_names)  # type: ignore[no-untyped-call]  # untyped upstream
        return _train_updates(backbone, whole=False)

    def adapt(self, backbone: Backbone, stream: Stream, task: str, stage: int) -> Backbone:
        return _train_updates(backbone, whole=self.cell_trains == "all")


def keep_names(_module: nn.Module, state: dict[str, Any], _prefix: str, _metadata: dict[str, Any]) -> None:
    """Give the weights that peft moved into a `base_layer` their own names back.

    The store keeps what differs from the base by name: renamed, the whole frozen LM would be stored again.
    """
    for name in list(state):
        state[name.replace(".base_layer.", ".")] = state.pop(name)


def _train_updates(backbone: Backbone, *, whole: bool) -> Backbone:
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(whole or ".lora_A." in name or ".lora_B." in name)
    return backbone
