"""One wrapper for every Hugging Face language model, its batches, its checkpoints and the embedded `tiny` model.

`plan` and the command line read checkpoints and families without torch, so the names below are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctbench.backbone.batch import Batch, Output, Prompt
    from ctbench.backbone.wrapper import Backbone

__all__ = ["Backbone", "Batch", "Output", "Prompt"]


def __getattr__(name: str) -> Any:
    if name == "Backbone":
        from ctbench.backbone import wrapper

        return wrapper.Backbone
    if name in __all__:
        from ctbench.backbone import batch

        return getattr(batch, name)
    raise AttributeError(f"module 'ctbench.backbone' has no attribute '{name}'")
