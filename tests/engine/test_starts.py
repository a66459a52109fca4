"""Methods whose first stage is trained as another one's: it is computed once, and no number differs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from method_helpers import slow
from small_streams import spec_of, write_method, write_stream

from ctbench.engine.failures import NodesFailed
from ctbench.engine.graph import read_runs
from ctbench.engine.job import Job
from ctbench.engine.node import in_order
from ctbench.engine.run import run
from ctbench.engine.slurm.shards import make_shards
from ctbench.engine.store import Store, home
from ctbench.errors import BadPlugin
from ctbench.exporting.source import Request, read_row
from ctbench.plugins.find import find_plugin
from ctbench.tuning.trials import _seconds
from ctbench.verification.verify import Request as VerifyRequest
from ctbench.verification.verify import verify

DECLARING = ("replay", "derpp", "ewc")
SETTINGS = {"ewc": {"num_examples": 4}}
TIMES = ("key", "seconds", "cpu_seconds", "peak_memory_bytes", "cell_seconds")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starts")
    write_stream(folder, seeds="[0]", epochs="1", num_test="16")
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))


def job(place, method, **settings):
    options = {f"method.{key}": value for key, value in SETTINGS.get(Path(method).stem, {}).items()} | settings
    return Job(method=method, stream=place / "small.toml", results=place / "results", workers=0, set=options)


def without_declaration(folder, name):
    """Return a copy of a method that trains its first stage itself."""
    text = find_plugin("method", name).path.read_text(encoding="utf-8")
    changed = re.sub(r"    @property\n    def starts_as.*?\n\n", "", text, flags=re.DOTALL)
    assert changed != text
    path = folder / f"{name}.py"
    path.write_text(changed, encoding="utf-8")
    return str(path)


def untimed(record):
    return {key: value for key, value in dataclasses.asdict(record).items() if key not in TIMES}


def numbers(result):
    stages = [untimed(stage) for stage in result.stages]
    tables = result.matrix.tolist(), result.lm_loss.tolist(), list(result.general_loss)
    return tables, stages, untimed(result.cost)


@pytest.mark.parametrize("name", DECLARING)
def test_methods_that_start_as_naive_share_its_first_stage_and_row(name, place):
    naive, own = spec_of(place / "small.toml"), spec_of(place / "small.toml", name)
    assert own.lms[0].key == naive.stages[0].key == naive.lms[0].key
    assert own.stages[0].key != naive.stages[0].key
    assert own.stages[1].parents == (own.stages[0],)
    for source in (0, 1):
        assert own.losses[source].key == naive.losses[source].key
        assert own.general[source].key == naive.general[source].key
    for place_of, cell in own.cells.items():
        assert (cell.key == naive.cells[place_of].key) == (place_of[0] < 2)
    assert own.lms[0].key in {node.key for node in own.nodes}


def test_settings_share_the_first_stage_unless_they_change_it(place):
    def first(name="replay", **settings):
        return spec_of(place / "small.toml", name, settings=settings).lms[0].key

    naive = first("naive")
    assert first(**{"method.replay_fraction": 0.5}) == naive
    assert first("ewc", **{"method.weight": 3.0}) == naive
    assert first(**{"method.source": "general"}) != naive
    infinite = {"pretrain.schedule": "infinite", "pretrain.anneal_fraction": 0.4}
    assert first(**infinite) != first("naive", **infinite)  # each trains its own trunk


@pytest.mark.parametrize("name", [DECLARING[0], *slow(*DECLARING[1:])])
def test_numbers_are_those_of_a_method_that_trains_its_first_stage_itself(name, place, tmp_path):
    settings = {"pretrain.carry_optimizer": True, "pretrain.probes": 2}
    (shared,) = run(job(place, name, **settings))
    (own,) = run(job(place, without_declaration(tmp_path, name), **settings))
    assert numbers(shared) == numbers(own)
    assert shared.stages[0].stored_bytes > 0
    assert shared.stages[0].tokens == 7_680


@pytest.fixture(scope="module")
def both(place):
    """One call with naive and replay: what was computed, and the results."""
    titles = []

    def listen(todo):
        titles.extend(node.title for node in todo)
        return lambda event: None

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTBENCH_HOME", str(place / "home-of-both"))
        results = run([job(place, "naive"), job(place, "replay")], listen=listen)
        yield titles, results


def test_one_call_computes_the_shared_stage_and_row_once(both, place, monkeypatch):
    titles, (naive, replay) = both
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home-of-both"))
    first = [title for title in titles if "stage 1" in title or "row 1" in title]
    assert "naive: stage 1 (domain-1)" in first
    assert "replay: memory after stage 1 (domain-1)" in first
    assert len([title for title in first if "cell domain-1 in row 1" in title]) == 1
    assert [title for title in first if title.startswith("replay: ")] == ["replay: memory after stage 1 (domain-1)"]
    assert naive.stages[0].weights_digest == replay.stages[0].weights_digest
    assert naive.stages[0].losses == replay.stages[0].losses
    assert replay.stages[0].seconds >= naive.stages[0].seconds
    assert replay.cost.tokens == naive.cost.tokens
    assert {cell.source for cell in replay.cells if cell.row == 1} == {naive.stages[0].key}


def test_a_trial_counts_the_shared_stage_once(both, place, monkeypatch):
    _, (_, replay) = both
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home-of-both"))
    graph = spec_of(place / "small.toml", "replay")
    cells = {cell.key: cell.seconds for cell in replay.cells if cell.row > 0}
    wanted = replay.cost.seconds + sum(cells.values())
    assert _seconds([graph], Store(home() / "store")) == pytest.approx(wanted)


@pytest.mark.slow
def test_the_row_is_exported_and_verified(both, place, monkeypatch):
    _, (_, replay) = both
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home-of-both"))
    row = read_row(Request(result=replay, row=1, stream=place / "small.toml"))
    assert row.stage == 1
    found = verify(VerifyRequest(result=replay, nodes=100, seed=0, stream=place / "small.toml", workers=0), say=str)
    assert not found.wrong
    assert {check.verdict for check in found.checks} == {"equal"}
    assert any(check.node.startswith("memory after stage 1") for check in found.checks)


def test_several_methods_go_on_from_a_shared_stage_in_jobs_of_their_own(place):
    runs = read_runs([job(place, name) for name in ("naive", "replay", "ewc")])
    todo = in_order([node for each in runs for node in each.nodes])
    shards = make_shards(todo, {node.key: 1.0 for node in todo}, minutes=10)
    chains = [[node.title for node in shard.nodes] for shard in shards if shard.nodes[0].kind == "stage"]
    assert chains == [
        ["naive: stage 1 (domain-1)"],
        ["naive: stage 2 (domain-2)"],
        ["replay: memory after stage 1 (domain-1)", "replay: stage 2 (domain-2)"],
        ["ewc, num_examples=4: memory after stage 1 (domain-1)", "ewc, num_examples=4: stage 2 (domain-2)"],
    ]
    alone = in_order(read_runs([job(place, "replay")])[0].nodes)
    shards = make_shards(alone, {node.key: 1.0 for node in alone}, minutes=10)
    assert len([shard for shard in shards if shard.nodes[0].kind in ("base", "stage")]) == 2


def test_an_end_that_changes_weights_fails_its_node(place, tmp_path):
    body = "starts_as = 'naive'\ndef end(self, stage):\n    stage.backbone.trainable()[0][1].data.mul_(0.5)"
    with pytest.raises(NodesFailed, match=r"end of method 'mine' changes weights .* leave starts_as out"):
        run(job(place, str(write_method(tmp_path, body))))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("starts_as = 'naiv'", "starts_as of method 'mine': .*naive"),
        ("starts_as = 3", "starts_as of method 'mine' is 3; expected the name of a method"),
        (
            "starts_as = 'naive'\ndef adapt(self, backbone, *_):\n    return backbone",
            "method 'mine' cannot start as 'naive': adapt is not the same in both",
        ),
        ("starts_as = 'lora'", "method 'mine' cannot start as 'lora': build is not the same in both"),
    ],
)
def test_a_false_declaration_is_refused_before_anything_is_computed(body, said, place, tmp_path):
    with pytest.raises(BadPlugin, match=said):
        spec_of(place / "small.toml", str(write_method(tmp_path, body)))
