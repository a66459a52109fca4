"""What a result says of its run in words: method, plan, overridden settings, and why it is not comparable."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from ctbench.engine.identity import StageIdentity
from ctbench.machine.files import read_path
from ctbench.plans import Plan
from ctbench.plugins.source import describe_method

if TYPE_CHECKING:
    from ctbench.engine.expand import RunGraph

ON_BOARD: Final = ("pretrain.probes", "pretrain.equal_compute")
"""Settings that leave a run on the leaderboard: they change no number, or give all methods a table of their own."""


def method_record(run: RunGraph) -> dict[str, Any]:
    """Return what a result says of the method of a run."""
    plugin, method = run.inputs.plugin, run.inputs.method
    described = describe_method(plugin)
    identities = [node.identity for node in run.stages if isinstance(node.identity, StageIdentity)]
    return {
        "name": plugin.name,
        "version": type(method).version,
        "digest": identities[0].method.digest if identities else "",
        "settings": method.settings(),
        "registered": plugin.registered,
        "traits": dataclasses.asdict(method.configured_traits),
        "summary": described.summary,
        "paper": described.paper or None,
    }


def plan_record(plan: Plan) -> dict[str, Any]:
    """Return the plan as a result holds it."""
    return {
        "stages": [list(names) for names in plan.stages],
        "parents": list(plan.parents),
        "cells": [list(row) for row in plan.cells],
    }


def changed_settings(run: RunGraph) -> dict[str, Any]:
    """Return the overridden settings of stream and method, by key."""
    job, stream = run.inputs.job, run.inputs.stream
    settings = {key: job.settings[key] for key in stream.changed if key in job.settings}
    return settings | {f"method.{key}": value for key, value in job.method_settings.items()}


def not_comparable(run: RunGraph) -> list[str]:
    """Return why a run stands off the leaderboard; an empty list means that it does not."""
    stream, plugin = run.inputs.stream, run.inputs.plugin
    reasons = [f"{key} was set" for key in stream.changed if key not in ON_BOARD]
    if not stream.registered:
        reasons.append(f"stream {stream.name} is not registered")
    if not plugin.registered:
        reasons.append(f"method {plugin.name} is not registered")
    return reasons


def shown_model(model: str) -> str:
    """Return the name under which a backbone is shown: of a folder, its last part."""
    path = read_path(model)
    return path.name if path.is_dir() else model
