"""`ctbench check`: exit codes, the table, JSON, and what a name or a path means."""

from __future__ import annotations

import json

import pytest
from small_streams import write_method, write_stream

from ctbench.api.plugins import kind_of
from ctbench.cli import main
from ctbench.errors import UnknownName
from ctbench.laws import LAWS
from ctbench.plugins.new import new_stream

PEEKS = """
def adapt(self, backbone, stream, task, stage):
    backbone.requires_grad_(task == stream.names[0])
    return backbone
"""


def test_honest_method_gives_a_table_and_exit_code_0(capsys):
    assert main(["check", "replay", "--set", "method.replay_fraction=0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for law in ("runs", *LAWS):
        (line,) = (line for line in lines if line.strip().startswith(law))
        assert line.strip().removeprefix(law).split()[0] == "holds"


def test_dishonest_file_gives_one_line_and_exit_code_1(tmp_path, capsys):
    assert main(["check", str(write_method(tmp_path, PEEKS)), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["method"] == "mine"
    assert report["holds"] is False
    broken = [law for law in report["laws"] if law["holds"] is not True]
    assert [law["law"] for law in broken] == ["honesty"]
    assert broken[0]["line"].startswith("adapt returns another LM for task 'domain-2'")


TALKS = """
print("hello from the import")
def plan(self, stream):
    print("hello from plan")
    return super().plan(stream)
def loss(self, stage, batch):
    print("hello from loss")
    return {"lm": stage.backbone(batch).loss}
"""


@pytest.mark.slow
def test_output_of_a_method_goes_to_standard_error_beside_json(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    path = str(write_method(tmp_path, TALKS))
    write_stream(tmp_path)
    calls = (
        ["check", path],
        ["plan", "-m", path, "-s", "small.toml"],
        ["run", "-m", path, "-s", "small.toml", "--workers", "0"],
    )
    places = ("the import", "plan", "loss"), ("plan",), ("plan", "loss")
    for args, expected in zip(calls, places, strict=True):
        assert main([*args, "--json"]) == 0
        captured = capsys.readouterr()
        json.loads(captured.out)
        for place in expected:
            assert f"hello from {place}" in captured.err


def test_help_is_printed_with_json(capsys):
    assert main(["ls", "--json", "--help"]) == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("output.loss", "it returned a Tensor"),
        ("{}", "it returned no term"),
        ("None", "it returned a NoneType"),
        ("{'lm': 0.5}", "'lm' is a float"),
        ("{'lm': output.loss.expand(2)}", "'lm' is a tensor of shape [2]"),
        ("{'lm': output.loss.detach()}", "no term depends on a weight that trains"),
    ],
)
def test_a_loss_of_the_wrong_type_is_explained(answer, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body = f"\ndef loss(self, stage, batch):\n    output = stage.backbone(batch)\n    return {answer}\n"
    path = str(write_method(tmp_path, body))
    write_stream(tmp_path)
    assert main(["run", "-m", path, "-s", "small.toml", "--workers", "0"]) == 1
    line = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed:")][-1]
    assert "loss must return a dict of scalar tensors" in line
    assert words in line
    assert main(["check", path]) == 1
    assert words in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["check", "repley"], "did you mean 'replay'"),
        (["check", "nowhere.py"], "no method file 'nowhere.py'"),
        (["check", "nowhere.toml"], "nowhere.toml"),
        (["check", "replay", "--set", "method.replay_fraction=2"], "from 0.0 to 1.0"),
        (["check", "replay", "--set", "pretrain.lr=1"], "only hyper-parameters (method.KEY)"),
        (["check", "domain", "--set", "method.weight=1"], "is a stream"),
        (["new", "methd", "mine"], "did you mean 'method'"),
        (["new", "stream", "mine", "--package"], "--package is for methods"),
    ],
)
def test_wrong_call_is_one_line_and_exit_code_2(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert not list(tmp_path.iterdir())


def test_stream_is_inspected_and_a_problem_gives_exit_code_1(tmp_path, capsys, monkeypatch):
    pytest.importorskip("ctbench.data.inspect")
    monkeypatch.chdir(tmp_path)
    new_stream("corpus", tmp_path)
    assert main(["check", "./corpus.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    examples = tmp_path / "corpus-data" / "first"
    examples.joinpath("train.jsonl").write_text(examples.joinpath("test.jsonl").read_text())
    assert main(["check", "./corpus.toml"]) == 1
    assert "first" in capsys.readouterr().out


def test_names_and_paths_tell_methods_from_streams():
    assert [kind_of(name) for name in ("naive", "./a.py", "temporal", "./b.toml")] == ["method"] * 2 + ["stream"] * 2
    with pytest.raises(UnknownName):
        kind_of("nothing")
