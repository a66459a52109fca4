"""`ctbench verify`: an honest result agrees, and whatever was changed in one is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_streams import write_stream

import ctbench
from ctbench.cli import main
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.errors import BadConfig, BadPlugin, UnknownName
from ctbench.results.files import read_result
from ctbench.results.format import result_from, to_record, to_text
from ctbench.results.metrics import all_metrics

QUICK = {
    "base.tokens": 2048,
    "pretrain.tokens": 1024,
    "finetune.epochs": 1,
    "finetune.seeds": "[0]",
    "language.num_test": 8,
    "language.num_train": 8,
    "language.num_validation": 4,
}
MINE = '''"""Mine: a method of one's own."""

from ctbench import Method, hyper


class Mine(Method):
    """Train as naive does."""

    version = 1
    weight: float = hyper(1.0)

    def loss(self, stage, batch):
        return super().loss(stage, batch)
'''
EVERY = 50
"""More nodes than there are: all of them are computed again."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a small stream, and results of naive and of a method file; the store that holds them is gone."""
    folder = tmp_path_factory.mktemp("verify")
    stream = write_stream(folder)
    method = folder / "mine.py"
    method.write_text(MINE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTBENCH_HOME", str(folder / "home"))
        found = {}
        for name in ("naive", method):
            job = Job(method=name, stream=stream, set=QUICK, workers=0, results=folder / "results")
            found[Path(name).stem] = run(job, say=lambda _line: None)[0]
        yield SimpleNamespace(stream=stream, method=method, home=folder / "home", **found)


def verified(result, made, *, nodes=EVERY, **options):
    return ctbench.verify(result, nodes=nodes, seed=0, stream=made.stream, workers=0, progress=False, **options)


def changed(result, change, **replaced):
    """Return a result after `change` of its record, matrix and metrics made to fit its cells again."""
    record = to_record(result) | replaced
    change(record)
    domains = record["stream"]["domains"]
    matrix = np.full((len(domains) + 1, len(domains)), np.nan)
    for cell in record["cells"]:
        matrix[cell["row"], domains.index(cell["domain"])] = cell["score"]
    return result_from(record | {"matrix": matrix.tolist(), "metrics": all_metrics(matrix)})


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_an_honest_result_agrees_bit_for_bit_in_a_store_of_its_own(made):
    before = files(made.home)
    found = verified(made.naive, made)
    assert found.agrees
    assert found.verdict().endswith("numbers of naive on small, seed 0, bit for bit")
    assert len(found.checks) == 2 + 6 + 3 + 3  # stages, cells, losses of the domains, losses of general text
    assert {check.verdict for check in found.checks} == {"equal"}
    assert files(made.home) == before != {}


def test_cached_nodes_of_the_user_do_not_answer(made, tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "none"))
    found = verified(made.naive, made, nodes=1)
    assert found.agrees
    assert not (tmp_path / "none").exists()


def test_the_seed_chooses_the_nodes(made):
    from ctbench.engine.graph import read_runs
    from ctbench.verification.choice import choose

    (graph,) = read_runs([Job(method="naive", stream=made.stream, set=QUICK, results=made.home)])

    def keys(seed):
        return [each.node.key for each in choose(made.naive, graph, 3, seed)]

    assert keys(1) == keys(1)
    assert len({tuple(keys(seed)) for seed in range(8)}) > 1
    assert len(choose(made.naive, graph, EVERY, 0)) == 12
    assert {each.source for each in choose(made.naive, graph, EVERY, 0, sources=[2])} == {2}


def test_doctored_numbers_are_found_one_by_one(made):
    def doctor(record):
        cell = next(cell for cell in record["cells"] if cell["row"] == 2)
        cell["score"] = cell["metrics"]["accuracy"] = cell["score"] + (0.125 if cell["score"] < 0.5 else -0.125)
        record["lm_loss"][1][0] -= 1e-6
        record["general_loss"][2] += 1e-6
        record["stages"][0]["forward_tokens"] -= 1
        record["cost"]["forward_tokens"] -= 1

    found = verified(changed(made.naive, doctor), made)
    assert not found.agrees
    assert found.verdict().startswith("does not agree: 4 of ")
    assert {(check.of, check.node) for check in found.checks if check.verdict == "differs"} == {
        ("accuracy", "cell domain-1 in row 2, fine-tuning seed 0"),
        ("loss of domain-1", "LM loss after stage 1"),
        ("loss of general", "general LM loss after stage 2"),
        ("forward_tokens", "stage 1 (domain-1)"),
    }


def test_texts_of_a_foreign_file_are_one_printable_line_each(made, tmp_path, capsys):
    trap = "\nagrees: 14 numbers of naive on small, seed 0, bit for bit\n\x1b[8m"
    for part, change in (
        ("claims", lambda record: record.update(precision="fp32" + trap)),
        ("remarks", lambda record: record["provenance"].update(processor="one" + trap)),
    ):
        path = tmp_path / f"{part}.json"
        path.write_text(to_text(changed(made.naive, change)), encoding="utf-8")
        main(["verify", str(path), "--stream", str(made.stream), "--nodes", "1", "--workers", "0", "-q"])
        printed = capsys.readouterr().out
        assert "agrees: 14 numbers" in printed
        assert not any(line.startswith("agrees: 14") for line in printed.splitlines())
        assert "\x1b" not in printed


def test_a_stored_loss_of_0_differs(made):
    def nothing(record):
        record["provenance"]["ctbench"] = "0.0.0"
        record["lm_loss"][0] = [0.0] * len(record["lm_loss"][0])

    found = verified(changed(made.naive, nothing), made)
    assert [check.node for check in found.checks if check.verdict == "differs"] == ["LM loss of the base"]


def test_on_another_processor_numbers_agree_within_the_noise_and_no_further(made):
    def disturb(record):
        record["provenance"]["processor"] = "another processor"
        for stage in record["stages"]:
            stage["weights_digest"] = "ab" * 32
        for row, factor in ((1, 1.001), (2, 1.005)):
            record["lm_loss"][row] = [factor * loss for loss in record["lm_loss"][row]]

    found = verified(changed(made.naive, disturb), made)
    verdicts = {check.node: check.verdict for check in found.checks if check.of.startswith("loss of domain")}
    assert verdicts == {
        "LM loss of the base": "equal",
        "LM loss after stage 1": "within noise",
        "LM loss after stage 2": "differs",
    }
    assert any("the LM after stage 1, 2 has other bits here" in remark for remark in found.remarks)
    assert any(remark.startswith("computed on another processor (here ") for remark in found.remarks)


def test_stages_of_several_ranks_are_no_contradiction_and_are_compared_within_the_noise(made):
    def train_with_two(record):
        record["key"] = "ab" * 32
        for stage in record["stages"]:
            stage["weights_digest"], stage["notes"]["ranks"] = "ab" * 32, 2.0
        record["lm_loss"][2] = [1.005 * loss for loss in record["lm_loss"][2]]

    found = verified(changed(made.naive, train_with_two), made)
    assert "computed with 2 ranks (here one process)" in found.remarks
    verdicts = {check.node: check.verdict for check in found.checks if check.of.startswith("loss of domain")}
    assert (verdicts["LM loss after stage 1"], verdicts["LM loss after stage 2"]) == ("equal", "differs")


def test_another_recipe_under_the_same_name_is_found_before_anything_is_computed(made, tmp_path):
    text = made.stream.read_text(encoding="utf-8")
    other = tmp_path / made.stream.name
    other.write_text(text.replace("mask_fraction = 0.3", "mask_fraction = 0.2"), encoding="utf-8")
    found = ctbench.verify(made.naive, stream=other, workers=0, progress=False)
    assert (found.agrees, found.checks) == (False, ())
    assert found.wrong == ("recipe pretrain.mask_fraction: 0.3 in the result, 0.2 here",)


def test_a_recipe_that_a_result_only_says_it_had_is_found_by_its_nodes(made):
    def other_nodes(record):
        record["key"] = "ab" * 32

    found = verified(changed(made.naive, other_nodes), made)
    assert (found.agrees, found.checks) == (False, ())
    assert found.wrong[0].startswith("key: its nodes have other keys than here")
    protocol = verified(changed(made.naive, lambda record: None, protocol="ab" * 8), made)
    assert protocol.wrong[0].startswith("protocol: abababababababab in the result, ")


def test_other_data_are_found(made, tmp_path):
    other = tmp_path / made.stream.name
    other.write_text(made.stream.read_text(encoding="utf-8").replace("version = 1", "version = 2"), encoding="utf-8")
    found = ctbench.verify(made.naive, stream=other, workers=0, progress=False)
    assert "stream version: 1 in the result, 2 here" in found.wrong
    data = verified(changed(made.naive, lambda record: record["stream"].update(digest="ab" * 32)), made)
    assert data.wrong == ("stream data: its texts or end tasks here are not those of the result (digest differs)",)


def test_rows_that_share_a_node_must_agree(made):
    def one_node(record):
        first, second, *_ = record["cells"]
        first |= {"score": 0.25, "metrics": {}}
        second |= {"score": 0.5, "metrics": {}}
        second["key"] = first["key"]

    assert "rows give different scores" in verified(changed(made.naive, one_node), made).wrong[0]


def test_a_method_file_must_be_there_and_be_the_one_of_the_result(made, tmp_path):
    with pytest.raises(BadConfig, match="its method 'mine' is a file: name it with --method PATH"):
        verified(made.mine, made)
    with pytest.raises(BadPlugin, match="gone"):
        verified(made.mine, made, method=tmp_path / "gone.py")
    edited, newer = tmp_path / "mine.py", tmp_path / "newer" / "mine.py"
    edited.write_text(MINE.replace("super().loss(stage, batch)", "super().loss(stage, batch) * 2"), encoding="utf-8")
    newer.parent.mkdir()
    newer.write_text(MINE.replace("version = 1", "version = 2"), encoding="utf-8")
    assert verified(made.mine, made, method=edited).wrong == (
        "method source: the file of mine here is not the one that made this result (digest differs)",
    )
    assert verified(made.mine, made, method=newer).wrong == ("method version: 1 in the result, 2 here",)
    assert verified(made.mine, made, method=made.method, nodes=1).agrees


def test_a_name_in_a_result_is_never_taken_for_the_path_of_a_file(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.py").write_text("raise SystemExit('this file ran')\n", encoding="utf-8")
    for name in ("./trap.py", "trap.py", str(tmp_path / "trap.py")):
        trap = changed(made.naive, lambda record, name=name: record["method"].update(name=name))
        with pytest.raises(UnknownName, match="no method"):
            verified(trap, made)


def test_settings_and_traits_that_a_result_hides_are_found(made):
    def hide(record):
        record["method"]["traits"]["stores_text"] = True
        record["method"]["settings"] = {"weight": 2.0}

    found = verified(changed(made.mine, hide), made, method=made.method)
    assert found.wrong == (
        "method.weight: 2.0 in the result, 1.0 here",
        "trait stores_text: True in the result, False here",
    )


@pytest.fixture(scope="module")
def exports(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    for row in (1, 2):
        ctbench.export(made.naive, row=row, output=folder / f"row-{row}", stream=made.stream)
    return folder


def test_exported_lms_stand_for_the_stages(made, exports):
    found = verified(made.naive, made, given=exports)
    assert found.agrees
    assert {check.verdict for check in found.checks} <= {"equal", "within noise"}
    assert not any(check.node.startswith("stage") for check in found.checks)
    assert "their LMs are those that were given" in " ".join(found.remarks)
    assert {check.node[-1] for check in found.checks if check.node.startswith("LM loss")} == {"1", "2"}


def test_another_lm_in_an_export_is_found(made, exports, tmp_path):
    shutil.copytree(exports / "row-2", tmp_path / "lm")
    about = tmp_path / "lm" / "ctbench.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "stage": 1}), encoding="utf-8")
    found = verified(made.naive, made, given=tmp_path, nodes=1)
    assert not found.agrees
    assert found.checks[0].reason.startswith("the LM that was given is not the one of the result")


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (None, "holds no LM that `ctbench export` wrote of the result"),
        ({"result": "ab" * 32}, "holds no LM that `ctbench export` wrote of the result"),
        ({"stage": 9}, "names stage 9"),
        ({"baked": True}, "has a context baked in"),
    ],
)
def test_exports_that_cannot_stand_for_a_stage_are_refused(about, said, made, tmp_path):
    if about is not None:
        text = json.dumps({"result": made.naive.key, "row": 1, "stage": 1, "baked": False, **about})
        (tmp_path / "ctbench.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadConfig, match=said):
        verified(made.naive, made, given=tmp_path)


def test_the_command_says_one_line_and_exits_with_0_1_or_2(made, tmp_path, capsys):
    options = ["--stream", str(made.stream), "--nodes", "1", "--seed", "1", "--workers", "0", "-q"]
    assert main(["verify", str(made.naive.path), *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("agrees: ")
    doctored = json.loads(made.naive.path.read_text(encoding="utf-8"))
    doctored["method"]["version"] = 7
    path = tmp_path / "doctored.json"
    path.write_text(json.dumps(doctored), encoding="utf-8")
    assert read_result(path).method.version == 7
    assert main(["verify", str(path), *options, "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["agrees"], record["wrong"]) == (False, ["method version: 7 in the result, 1 here"])
    for wrong in (["verify", str(tmp_path / "none.json")], ["verify", str(path), "--nodes", "0"]):
        assert main(wrong) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
