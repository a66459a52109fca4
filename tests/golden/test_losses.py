"""Losses of every method in a tiny world, as they were when they were last meant to change.

python tests/golden/test_losses.py    # writes losses.json anew; say in the changelog what moved and why
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ctbench.laws.dry_run import DryRun
from ctbench.laws.world import tiny_world
from ctbench.machine.device import device
from ctbench.plugins.find import find_plugins, load_class

FILE = Path(__file__).with_name("losses.json")
SETTINGS = {
    "das": {"importance_blocks": 8},
    "ewc": {"num_examples": 4},
    "expand": {"num_blocks": 1},
    "mer": {"interval": 4, "after_fraction": 0.1},
}
ACROSS_MACHINES = 1e-4
"""Relative: other processors add up in another order."""
SMALL_TERMS = 2e-5
"""Absolute, a few millionths of the loss: small terms are differences of large ones (das's contrast moved by 7e-6)."""


def losses_of(name, world):
    dry_run = DryRun(load_class(find_plugins("method")[name]), world, name=name, settings=SETTINGS.get(name))
    return [done.losses for done in dry_run.first]


def all_losses():
    found = {}
    for objective in ("mlm", "clm"):
        with tiny_world(objective) as world:
            found[objective] = {name: losses_of(name, world) for name in find_plugins("method")}
    return found


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["mlm", "clm"])
def world(request):
    with tiny_world(request.param) as made:
        yield made


@pytest.mark.skipif(
    device().type != "cpu", reason="a GPU adds up in another order, by more than the tolerance for das and derpp"
)
@pytest.mark.parametrize("name", find_plugins("method"))
def test_losses_are_those_of_before(name, world, golden):
    found, wanted = losses_of(name, world), golden[world.objective][name]
    assert len(found) == len(wanted)
    for stage, before in zip(found, wanted, strict=True):
        assert stage.keys() == before.keys()
        for term, values in before.items():
            assert stage[term] == pytest.approx(values, rel=ACROSS_MACHINES, abs=SMALL_TERMS), term


def test_methods_differ_by_more_than_the_tolerance(golden):
    last = {name: stages[-1]["loss"][-1] for name, stages in golden["mlm"].items() if name != "joint"}
    same = [
        other for other, loss in last.items() if other != "naive" and loss == pytest.approx(last["naive"], rel=1e-3)
    ]
    assert same == []


if __name__ == "__main__":
    FILE.write_text(json.dumps(all_losses(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
