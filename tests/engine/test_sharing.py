"""Methods on one stream share every equal node: counted in the store."""

from __future__ import annotations

from collections import Counter

import pytest
from small_streams import write_stream

from ctbench.engine.job import Job
from ctbench.engine.run import run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharing")
    write_stream(folder, num_documents="60", num_general_documents="60", seeds="[0]", tokens="256", num_test="8")
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))


def computed(place):
    """Return the keys of all nodes in the store."""
    return {path.parent.name for path in (place / "home" / "store").rglob("record.json")}


def go(place, method, method_settings=None):
    """Run a method and return its result and what it added to the store, counted by kind."""
    before, kinds = computed(place), {}

    def listen(nodes):
        kinds.update({node.key: node.kind for node in nodes})
        return lambda event: None

    settings = {f"method.{name}": value for name, value in (method_settings or {}).items()}
    job = Job(method=method, stream=place / "small.toml", results=place / "results", workers=0, set=settings)
    (result,) = run(job, say=lambda line: None, listen=listen)
    added = computed(place) - before
    assert added == kinds.keys()
    return result, Counter(kinds.values())


def test_the_first_run_computes_everything_and_the_second_nothing(place):
    _, added = go(place, "naive")
    assert added == {"base": 1, "stage": 2, "loss": 6, "cell": 6}
    assert go(place, "naive")[1] == {}


@pytest.mark.parametrize(
    ("method", "settings", "wanted"),
    [  # every LM has two losses: of all domains, and of general text
        ("lwf", {}, {"stage": 2, "loss": 4, "cell": 4}),
        ("joint", {}, {"stage": 1, "loss": 2, "cell": 2}),
        # A domain's cell before its stage is that of row 0, and after it that of its own stage for good.
        ("separate", {}, {"stage": 2, "loss": 4, "cell": 2}),
        ("prompts", {}, {"stage": 2, "loss": 4, "cell": 2}),
        ("lora", {"per_domain": True}, {"stage": 2, "loss": 4, "cell": 2}),
    ],
)
def test_another_method_recomputes_neither_base_nor_row_0_nor_any_equal_cell(place, method, settings, wanted):
    first, _ = go(place, "naive")
    second, added = go(place, method, method_settings=settings)
    assert added == wanted
    assert (second.matrix[0] == first.matrix[0]).all()
    assert go(place, method, method_settings=settings)[1] == {}


def test_separates_cells_are_those_of_naives_first_stage(place):
    first, second = go(place, "naive")[0], go(place, "separate")[0]
    assert second.matrix[1, 0] == second.matrix[2, 0] == first.matrix[1, 0]
    assert second.matrix[1, 1] == first.matrix[0, 1]
    assert second.stages[0].weights_digest == first.stages[0].weights_digest


def test_a_record_says_what_one_set_per_domain_needs_and_weighs(place):
    one, per_domain = (go(place, "lora", method_settings={"per_domain": value})[0] for value in (False, True))
    assert not (one.method.traits.needs_domain or one.method.traits.grows)
    assert per_domain.method.traits.needs_domain
    assert per_domain.method.traits.grows
    assert per_domain.cost.added_parameters == 2 * one.cost.added_parameters > 0
    separate = go(place, "separate")[0]
    assert separate.cost.added_parameters == separate.backbone.parameters
