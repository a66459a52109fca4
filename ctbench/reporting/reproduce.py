"""The command that reproduces a result."""

from __future__ import annotations

import json
import shlex

from ctbench.backbone.checkpoint import MADE
from ctbench.errors import one_line
from ctbench.results.schema import Result


def command_line(result: Result) -> str:
    """Return the `ctbench run` command that reproduces `result`; it names files of methods and streams without folders.

    Examples:
        >>> from ctbench.results.files import read_results
        >>> command_line(read_results("results").results[0]).split()[:2]
        ['ctbench', 'run']
    """
    method, stream = result.method, result.stream
    words = ["ctbench", "run"]
    words += ["--method", method.name if method.registered else f"./{method.name}.py"]
    words += ["--stream", stream.name if stream.registered else f"./{stream.name}.toml"]
    words += ["--model", result.backbone.name]
    is_chosen = result.recipe.name == "default" and result.backbone.name in MADE  # a checkpoint may get another one
    words += [] if is_chosen else ["--recipe", result.recipe.name]
    words += ["--seed", str(result.seed)]
    words += ["--order", str(result.order)] if result.order else []
    words += ["--reorder-periods"] if result.order and stream.kind == "temporal" else []
    words += ["--control"] if result.control is not None else []
    for key, value in sorted(result.changed.items()):
        text = value if isinstance(value, str) else json.dumps(value)
        words += ["--set", f"{key}={text}"]
    return " ".join(shlex.quote(one_line(word)) for word in words)
