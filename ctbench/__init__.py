"""A benchmark harness for continual pre-training of language models.

The names below are what authors of methods and readers of results need; each is imported on first use, so that
`import ctbench` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctbench.api import run
    from ctbench.backbone import Backbone, Batch, Prompt
    from ctbench.memory import Reservoir
    from ctbench.method import Method, Traits, hyper
    from ctbench.plan import BASE, Plan
    from ctbench.plugins import get_method, get_stream
    from ctbench.report.compare import compare
    from ctbench.results import load_results
    from ctbench.stage import Stage

__all__ = [
    "BASE",
    "Backbone",
    "Batch",
    "Method",
    "Plan",
    "Prompt",
    "Reservoir",
    "Stage",
    "Traits",
    "compare",
    "get_method",
    "get_stream",
    "hyper",
    "load_results",
    "run",
]

_HOMES = {
    "ctbench.api": ("run",),
    "ctbench.backbone": ("Backbone", "Batch", "Prompt"),
    "ctbench.memory": ("Reservoir",),
    "ctbench.method": ("Method", "Traits", "hyper"),
    "ctbench.plan": ("BASE", "Plan"),
    "ctbench.plugins": ("get_method", "get_stream"),
    "ctbench.report.compare": ("compare",),
    "ctbench.results": ("load_results",),
    "ctbench.stage": ("Stage",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'ctbench' has no attribute '{name}'")
