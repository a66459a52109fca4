"""Losses of every method in a tiny world, as they were when they were last meant to change.

python tests/golden/test_losses.py    # writes losses.json anew; say in the changelog what moved and why

A digest of a method's source does not see the code of ctbench that it calls. So whoever moves the losses of a method must
raise its `version`, or NODE_SCHEMA if all of them move: else a store would give old nodes for new code. Writing anew
refuses anything else.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest

from ctbench.engine.node import NODE_SCHEMA
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
    found = {"schema": NODE_SCHEMA, "versions": versions()}
    for objective in ("mlm", "clm"):
        with tiny_world(objective) as world:
            found[objective] = {name: losses_of(name, world) for name in find_plugins("method")}
    return found


def versions():
    return {name: load_class(plugin).version for name, plugin in find_plugins("method").items()}


def is_same(stages, before):
    """Whether the losses of a method's stages are those of before, by term and update."""

    def is_near(stage, wanted):
        return stage.keys() == wanted.keys() and all(
            list(stage[term]) == pytest.approx(values, rel=ACROSS_MACHINES, abs=SMALL_TERMS)
            for term, values in wanted.items()
        )

    return len(stages) == len(before) and all(map(is_near, stages, before))


def unexplained(before, after):
    """The methods whose losses have moved under the version and the schema that they had."""
    if after["schema"] > before["schema"]:
        return []
    known = [name for name, version in after["versions"].items() if before["versions"].get(name) == version]
    return [
        name
        for name in known
        if not all(is_same(after[objective][name], before[objective][name]) for objective in ("mlm", "clm"))
    ]


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
    assert is_same(found, wanted), (found, wanted)


def test_the_losses_are_those_of_the_present_versions(golden):
    assert (golden["schema"], golden["versions"]) == (NODE_SCHEMA, versions())


def test_losses_that_move_need_another_version(golden):
    moved = copy.deepcopy(golden)
    for stages in (moved["mlm"]["ewc"], moved["clm"]["lwf"]):
        stages[-1]["lm"][-1] *= 1.001
    assert unexplained(golden, moved) == ["ewc", "lwf"]
    assert unexplained(golden, copy.deepcopy(golden)) == []
    moved["versions"]["ewc"] += 1
    assert unexplained(golden, moved) == ["lwf"]
    assert unexplained(golden, moved | {"schema": NODE_SCHEMA + 1}) == []


def test_methods_differ_by_more_than_the_tolerance(golden):
    last = {name: stages[-1]["loss"][-1] for name, stages in golden["mlm"].items() if name != "joint"}
    same = [
        other for other, loss in last.items() if other != "naive" and loss == pytest.approx(last["naive"], rel=1e-3)
    ]
    assert same == []


if __name__ == "__main__":
    before, after = json.loads(FILE.read_text(encoding="utf-8")), all_losses()
    if moved := unexplained(before, after):
        sys.exit(f"nothing written: the losses of {', '.join(moved)} have moved; raise their version, or NODE_SCHEMA")
    FILE.write_text(json.dumps(after, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
