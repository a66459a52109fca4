"""A benchmark harness for continual pre-training of language models.

Each command of the command line is a function of the same name: `ctbench.run(method="naive", stream="domain")` is
`ctbench run --method naive --stream domain`. The other names are for authors of methods. Each name is imported when it
is first used, so `import ctbench` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctbench.api.exporting import export
    from ctbench.api.finding import load_results, show
    from ctbench.api.launches import cancel, status
    from ctbench.api.measuring import bench
    from ctbench.api.plugins import check, ls, new, prepare
    from ctbench.api.reading import compare, plot, report
    from ctbench.api.running import plan, run, tune
    from ctbench.api.storing import store
    from ctbench.api.verifying import verify
    from ctbench.backbone import Backbone, Batch, Output, Prompt
    from ctbench.backbone.hooks import copy_layer
    from ctbench.backbone.keyprompt import key_width
    from ctbench.backbone.wordmap import LowRankMaps, WordMap
    from ctbench.data.stream import Stream
    from ctbench.hypernetwork import Hypernetwork
    from ctbench.kernels import drop
    from ctbench.memory import Reservoir
    from ctbench.method import Method, Traits, hyper
    from ctbench.mixer import Mixer
    from ctbench.plans import BASE, Plan, one_per_domain, sequential
    from ctbench.plugins.find import get_method, get_stream
    from ctbench.stage import Stage

__all__ = [
    "BASE",
    "Backbone",
    "Batch",
    "Hypernetwork",
    "LowRankMaps",
    "Method",
    "Mixer",
    "Output",
    "Plan",
    "Prompt",
    "Reservoir",
    "Stage",
    "Stream",
    "Traits",
    "WordMap",
    "bench",
    "cancel",
    "check",
    "compare",
    "copy_layer",
    "drop",
    "export",
    "get_method",
    "get_stream",
    "hyper",
    "key_width",
    "load_results",
    "ls",
    "new",
    "one_per_domain",
    "plan",
    "plot",
    "prepare",
    "report",
    "run",
    "sequential",
    "show",
    "status",
    "store",
    "tune",
    "verify",
]

_HOMES = {
    "ctbench.api.exporting": ("export",),
    "ctbench.api.launches": ("cancel", "status"),
    "ctbench.api.measuring": ("bench",),
    "ctbench.api.plugins": ("check", "ls", "new", "prepare"),
    "ctbench.api.finding": ("load_results", "show"),
    "ctbench.api.reading": ("compare", "plot", "report"),
    "ctbench.api.running": ("plan", "run", "tune"),
    "ctbench.api.storing": ("store",),
    "ctbench.api.verifying": ("verify",),
    "ctbench.backbone": ("Backbone", "Batch", "Output", "Prompt"),
    "ctbench.backbone.hooks": ("copy_layer",),
    "ctbench.backbone.keyprompt": ("key_width",),
    "ctbench.backbone.wordmap": ("LowRankMaps", "WordMap"),
    "ctbench.data.stream": ("Stream",),
    "ctbench.hypernetwork": ("Hypernetwork",),
    "ctbench.kernels": ("drop",),
    "ctbench.memory": ("Reservoir",),
    "ctbench.method": ("Method", "Traits", "hyper"),
    "ctbench.mixer": ("Mixer",),
    "ctbench.plans": ("BASE", "Plan", "one_per_domain", "sequential"),
    "ctbench.plugins.find": ("get_method", "get_stream"),
    "ctbench.stage": ("Stage",),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ctbench")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'ctbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
