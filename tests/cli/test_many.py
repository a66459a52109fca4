"""Many runs in one call on the command line, and calls that are wrong: one line each, exit code 2, the nearest right word."""

from __future__ import annotations

import json

import pytest
from small_streams import write_stream

import ctbench
from ctbench.cli import COMMANDS, _LazyGroup, main

QUICK = {"tokens": "512", "epochs": "1", "num_test": "8", "seeds": "[0]"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CTBENCH_CALIBRATION", "off")
    write_stream(tmp_path, **QUICK)
    return tmp_path


def test_a_call_of_which_every_node_fails_names_them_and_shows_no_trace(place, capsys, monkeypatch):
    from ctbench.engine import compute

    def fail(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(compute, "_COMPUTE", dict.fromkeys(compute._COMPUTE, fail))
    assert main(["run", "-m", "naive", "-s", "small.toml", "--workers", "0", "-q"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "failed: base of small: RuntimeError: no luck" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_several_methods_and_a_study_are_one_call_and_nothing_is_computed_twice(place, capsys):
    args = ["-m", "naive", "-m", "replay", "-s", "small.toml", "--workers", "0", "-q", "--json"]
    assert main(["run", *args, "--seed", "0", "--seed", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = [(record["method"]["name"], record["seed"]) for record in json.loads(out)]
    assert found == [("naive", 0), ("naive", 1), ("replay", 0), ("replay", 1)]
    assert main(["new", "study", "mine"]) == 0
    text = (place / "mine.toml").read_text()
    text = text.replace('"domain"', '"small.toml"').replace("replay_fraction = [0.1, 0.5]", "replay_fraction = 0.25")
    (place / "mine.toml").write_text(text.replace('"0..2"', "0"))
    capsys.readouterr()
    assert main(["run", "mine.toml", "--workers", "0", "--log", "run.log", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "in the store already: " in err
    assert "new: results/small/tiny/replay" in err
    assert "new: results/small/tiny/replay" in (place / "run.log").read_text()
    naive, replay = json.loads(out)
    assert naive["provenance"]["study"]["name"] == replay["provenance"]["study"]["name"] == "mine"
    assert replay["changed"] == {"method.replay_fraction": 0.25}
    assert main(["run", "mine.toml", "--workers", "0", "--dry-run", "-q"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "total: 2 runs, nothing to compute"


def test_a_dry_run_prints_what_plan_prints(place, capsys):
    args = ["-m", "naive,replay", "-s", "small.toml", "--workers", "2"]
    assert main(["run", *args, "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert main(["plan", *args]) == 0
    assert capsys.readouterr().out == dry
    assert dry.splitlines()[-1].startswith("total: 2 runs, ")
    assert "time unknown" in dry
    assert not (place / "results").exists()
    assert main(["run", *args, "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in rows] == ["base", "stage", "loss", "cell", "total"]
    assert rows[-1]["missing"] == sum(row["missing"] for row in rows[:-1])
    assert (rows[-1]["runs"], rows[-1]["workers"], rows[-1]["wall_seconds"]) == (2, 2, None)
    assert ctbench.plan(method="naive,replay", stream="small.toml", workers=2).total["runs"] == 2


ODD = [
    (["run"], "no method is named"),
    (["run", "-m", "naive"], "no stream is named"),
    (["run", "naive", "-s", "domain"], "did you mean --method naive"),
    (["run", "domain"], "did you mean --stream domain"),
    (["run", "nothing.toml"], "nothing.toml: cannot be read"),
    (["run", "small.toml"], "so it is a stream and no study"),
    (["run", "a.toml", "b.toml"], "unexpected extra argument"),
    (["run", "-m", "naiv,replay", "-s", "domain"], "did you mean 'naive'"),
    (["run", "-m", "naive,replay", "-s", "domian"], "did you mean 'domain'"),
    (["run", "-m", "naive", "-m", "naive", "-s", "domain"], "--method names naive twice"),
    (["run", "-m", "naive,,naive", "-s", "domain"], "--method names naive twice"),
    (["run", "-m", ",", "-s", "domain"], "no method is named"),
    (["run", "-m", "naive", "-s", "domain", "-s", "domain"], "--stream names domain twice"),
    (["run", "-m", "naive", "-s", "domain", "--seed", "0,0"], "each number may be given once"),
    (["run", "-m", "naive", "-s", "domain", "--seed", "0", "--seed", "0"], "each number may be given once"),
    (["run", "-m", "naive", "-s", "domain", "--seed", "1-3"], "a range such as 0..2"),
    (["run", "-m", "naive", "-s", "domain", "--results", "a", "--results", "b"], "--results was given 2 times"),
    (["run", "-m", "naive", "-s", "domain", "--workers", "1", "--workers", "2"], "--workers was given 2 times"),
    (["run", "-m", "naive", "-s", "domain", "--set", "pretrain.lr=1", "--set", "pretrain.lr=2"], "was given 2 times"),
    (["run", "-m", "naive,ewc", "-s", "domain", "--set", "method.wieght=1"], "did you mean 'weight'"),
    (["run", "-m", "naive,ewc", "-s", "domain", "--set", "ewc.wieght=1"], "did you mean 'weight'"),
    (["run", "-m", "naive,ewc", "-s", "domain", "--set", "ecw.weight=1"], "did you mean 'ewc.KEY'"),
    (["run", "-m", "naive,ewc", "-s", "domain", "--set", "method.weight"], "expected KEY=VALUE"),
    (["run", "-m", "naive,ewc", "-s", "domain", "--set", "ewc.weight=[]"], "is an empty list"),
    (["run", "-m", "ewc", "-s", "domain", "--set", "ewc.weight=[1, 1]"], "each value may be given once"),
    (["run", "-m", "naive", "-s", "domain", "--set", "pretrain.tokns=[1, 2]"], "did you mean 'tokens'"),
    (["run", "-m", "naive", "-s", "domain", "--precision", "fp23"], "allowed: fp32, bf16, auto"),
    (["run", "-m", "naive", "-s", "domain", "--recipe", "smal"], "no recipe 'smal'"),
    (["run", "-m", "naive", "-s", "domain", "-q", "-v"], "give one of them"),
    (["run", "-m", "naive", "-s", "domain", "--log", "small.toml/log"], "the log 'small.toml/log' cannot be written"),
    (["run", "-m", "naive", "-s", "domain", "--dryrun"], "--dry-run"),
    (["plan", "-m", "naive", "-s", "domain", "--set", "pretrain.tokens=" + str(list(range(1, 1100)))], "at most 1,000"),
    (["plan", "-m", "naive", "-s", "domain", "--seed", "0..5000"], "at most 1000 numbers"),
    (["plan", "naive.py"], "'naive.py' is no study"),
    (["tune", "-m", "naive", "-s", "domain", "-s", "temporal"], "--stream was given 2 times"),
    (["tune", "-m", "naive", "-s", "domain", "--trials", "1", "--trials", "2"], "--trials was given 2 times"),
    (["tune", "-m", "naive,ewc", "-s", "small.toml", "--set", "method.wieght=1"], "did you mean 'weight'"),
    (["tune", "-m", "naive,ewc", "-s", "small.toml", "--set", "method.weight=[1, 2]"], "tune fixes one value"),
    (["check", "naive", "--recipe", "a", "--recipe", "b"], "--recipe was given 2 times"),
    (["compare", "--format", "csv", "--format", "json"], "--format was given 2 times"),
    (["plot", "-o", "a.png", "-o", "b.png"], "--output was given 2 times"),
    (["new", "stduy", "x"], "did you mean 'study'"),
    (["new", "study", "a/b"], "cannot be the name of a study"),
    (["new", "study", "small"], "'small.toml' is there already"),
    (["new", "study", "x", "--package"], "--package is for methods"),
]


@pytest.mark.parametrize(("args", "words"), ODD, ids=[" ".join(args)[:70] for args, _ in ODD])
def test_a_wrong_call_is_one_line_with_the_nearest_right_word(args, words, place, capsys):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ctbench: ")
    assert err.count("\n") == 1, err
    assert words in err
    assert not (place / "results").exists()


def test_every_refused_run_is_a_line(place, capsys):
    assert main(["run", "-m", "naive,ewc", "-s", "small.toml", "--set", "method.weight=-1", "-q"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "ctbench: 1 of 2 jobs are refused, nothing was computed:"
    assert lines[1].startswith("  ewc, weight=-1 on small.toml: method.weight of ewc: must be")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_with_one_value_can_be_given_twice(command, place, capsys):
    context = None
    for option in _LazyGroup().get_command(context, command).params:
        if option.opts[0].startswith("-") and not option.multiple and not option.is_flag:
            name = max(option.opts, key=len)
            assert main([command, name, "1", name, "1"]) == 2
            assert f"{name} was given 2 times" in capsys.readouterr().err
    assert main([command, "--nonsense"]) == 2
    assert "was given" not in capsys.readouterr().err


def test_a_call_that_ended_without_a_result_prints_none(capsys):
    from ctbench.cli.run import _show

    _show((), as_json=False, verbose=False)
    assert capsys.readouterr().out == ""
