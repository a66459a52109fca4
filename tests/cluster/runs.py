"""What the tests of clusters look at: numbers of runs, updates that were made, refusals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ctbench.results.files import read_results


def numbers(home: Path) -> dict[Any, Any]:
    """Everything that a run computes, by method and seed, without times."""
    return {
        (result.method.name, result.seed): (
            result.matrix.tolist(),
            [(stage.key, stage.weights_digest, stage.losses) for stage in result.stages],
            [(cell.key, cell.metrics) for cell in result.cells],
        )
        for result in read_results(home.with_suffix(".results")).results
    }


def computed(home: Path) -> set[str]:
    """The keys of the nodes that a home holds."""
    return {path.parent.name for path in home.glob("store/??/*/record.json")}


def num_steps(home: Path) -> Counter[str]:
    return Counter(home.with_suffix(".steps").read_text().splitlines())


def refused(command: Any, *texts: str) -> None:
    """Assert that a command was refused in one line that says something."""
    code, _ = command.end()
    lines = [line for line in command.errors.splitlines() if line.startswith("ctbench: ")]
    assert code == 2, command.errors
    assert "Traceback" not in command.errors
    assert len(lines) == 1
    for text in texts:
        assert text in lines[0]


def needs_hiding(place: Any) -> None:
    if not place.cluster.hides:
        pytest.skip("this machine gives no mount namespaces, so nothing can be hidden from jobs")
