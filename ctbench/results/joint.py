"""The joint run that a run is held against: one stage on all domains, under the same protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ctbench.results.matrix import Array
from ctbench.results.schema import Result


def is_joint_run(result: Result) -> bool:
    """Return whether a run is one stage on the union of several domains: complete, and of a registered method."""
    stages = result.plan.stages
    is_joint = result.num_tasks > 1 and len(stages) == 1 and set(stages[0]) == set(result.stream.domains)
    return is_joint and result.is_complete and result.method.registered


def joints_of(results: Iterable[Result], joints: Iterable[Result]) -> list[Result]:
    """Return the joint runs under the protocols and bases of some results, newest first."""
    wanted = {_protocol(result) for result in results}
    found = [joint for joint in joints if _protocol(joint) in wanted]
    return sorted(found, key=lambda joint: joint.provenance.date, reverse=True)


def joint_of(result: Result, joints: Sequence[Result]) -> Result | None:
    """Return the joint run of a result's seed: that of its order if there is one, for joint training has none."""
    mine = [joint for joint in joints if _protocol(joint) == _protocol(result) and joint.seed == result.seed]
    return next((joint for joint in mine if joint.order == result.order), mine[0] if mine else None)


def last_row(joint: Result, domains: Sequence[str]) -> Array:
    """Return the last row of a matrix, its columns in the order of `domains`."""
    columns = [joint.stream.domains.index(name) for name in domains]
    row: Array = joint.matrix[-1][columns]
    return row


def _protocol(result: Result) -> tuple[str, str, str]:
    return result.protocol, result.backbone.digest, result.backbone.weights_digest
