"""Wrong calls of every command: one line, exit code 2, and the nearest right word where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_results import write_fakes
from small_streams import write_stream

from ctbench.cli import COMMANDS, main

RUN = "run -m naive -s domain"
PLAN = "plan -m naive -s domain"
ODD = [
    ("compar", "did you mean 'compare'"),
    ("--versions", "--version"),
    ("run -m text.txt -s domain", "no method 'text.txt'"),
    ("run --methods naive -s domain", "--method"),
    (f"{RUN} --track tensorbord", "did you mean 'tensorboard'"),
    (f"{RUN} --results small.toml", "'small.toml' is not a folder"),
    (f"{RUN} --log empty", "the log 'empty' cannot be written: Is a directory"),
    (f"{RUN} --device gpu", "did you mean 'cuda'"),
    (f"{RUN} --device cudo", "did you mean 'cuda'"),
    ("plan", "no method is named"),
    ("plan domain", "did you mean --stream domain"),
    ("plan smal.toml", "did you mean 'small.toml'"),
    ("plan -m naive -s small.tom", "did you mean 'small.toml'"),
    ("plan -m naive -s ./smal.toml", "did you mean 'small.toml'"),
    ("plan -m ./min.py -s domain", "did you mean 'mine.py'"),
    (f"{PLAN} --seed -1", "a range such as 0..2"),
    (f"{PLAN} --order x", "a range such as 0..2"),
    (f"{PLAN} --workers 0.5", "from 0 to 256"),
    (f"{PLAN} --launcher slrum", "did you mean 'slurm'"),
    (f"{PLAN} --launcher slurm --slurm partitoin=x", "did you mean 'partition'"),
    (f"{PLAN} --gpus x", "'--gpus': expected a whole number (ctbench plan --help)"),
    (f"{PLAN} --model tinny", "no model 'tinny'"),
    (f"{PLAN} --set", "'--set' requires an argument"),
    (f"{PLAN} --set foo=1", "such as pretrain.lr"),
    (f"{PLAN} --set pretain.lr=1", "did you mean 'pretrain.KEY'"),
    (f"{PLAN} --set pretrain.lr=-1", "must be greater than 0"),
    ("compare --metric F_acc", "did you mean 'F_Acc'"),
    ("compare --stream domian", "did you mean 'domain'"),
    ("compare --method naiv", "did you mean 'naive'"),
    ("compare --against repaly", "did you mean 'replay'"),
    ("compare --planned naive:replai", "did you mean 'replay'"),
    ("compare --planned naive", "--planned A:B"),
    ("compare --view leaderbord", "did you mean 'leaderboard'"),
    ("compare --on los", "did you mean 'loss'"),
    ("compare --columns costs", "did you mean 'cost'"),
    ("compare --sort anytme", "did you mean 'anytime'"),
    ("compare --across pretrain.schedules", "did you mean 'schedule'"),
    ("compare --confidence 2", "from 0.5 to below 1"),
    ("compare --confidence high", "'--confidence': expected a number"),
    ("compare --format latx", "did you mean 'latex'"),
    ("compare -o table.doc", "the name must end in .txt, .md, .tex"),
    ("compare -o pipe.csv", "table 'pipe.csv' cannot be written (it is a device or a pipe)"),
    ("report -o pipe.html", "cannot be written (it is a device or a pipe)"),
    ("compare --resize --format csv", "--resize is for LaTeX"),
    ("compare --json --format latex", "--json prints JSON on standard output; leave it out"),
    ("compare --json -o table.csv", "--json prints JSON on standard output; leave it out"),
    ("compare --across order", "run one with --order N and everything else equal"),
    ("compare --across language.seed", "run one with --set language.seed=VALUE and everything else equal"),
    ("compare --resize -o x.md", "--resize is for LaTeX"),
    ("compare --results nowhere", "no results in nowhere"),
    ("compare --results small.toml", "(1 file could not be read: small.toml: "),
    ("compare extra", "(extra) (ctbench compare --help)"),
    ("show", "Missing argument 'run' (ctbench show --help)"),
    ("show zzzz", "no result 'zzzz'"),
    ("show empty", "no results in the folder 'empty'"),
    ("show small.toml", "no JSON"),
    ("show x --explai", "--explain"),
    ("plot --kind matrx", "did you mean 'matrix'"),
    ("plot --kind cost --cost flps", "did you mean 'flops'"),
    ("plot --kind cost --metric F_ac", "did you mean 'F_Acc'"),
    ("plot --stream domian", "did you mean 'domain'"),
    ("plot -o x.gif", ".png, .svg, .pdf"),
    ("plot --kind difference --method naive", "choose two with --method"),
    ("plot --results nowhere", "no results in nowhere"),
    ("plot --all abc", "give one or the other"),
    ("report --metric F_ac", "did you mean 'F_Acc'"),
    ("report --stream domian", "did you mean 'domain'"),
    ("report -o report.pdf", "the name must end in .html or .htm"),
    ("report -o empty", "is a folder"),
    ("report --results nowhere", "no results in nowhere"),
    ("check", "Missing argument 'name'"),
    ("check naiv", "did you mean 'naive'"),
    ("check ./min.py", "did you mean 'mine.py'"),
    ("check small.toml --recipe smal", "no recipe 'smal'"),
    ("check naive --recipe small", "it takes no --model, --recipe"),
    ("ls", "Missing argument 'what'"),
    ("ls runs nowhere", "no run whose key begins with 'nowhere'"),
    ("ls runs --results nowhere", "no folder 'nowhere'"),
    ("ls methods naiv", "did you mean 'naive'"),
    ("ls streams domian", "did you mean 'domain'"),
    ("ls models tinny", "did you mean 'tiny'"),
    ("new metod x", "did you mean 'method'"),
    ("new method", "Missing argument 'name'"),
    ("new method 1x", "'1x' cannot be a name"),
    ("new method naive", "there is a method 'naive' already"),
    ("new stream small", "'small.toml' is there already"),
    ("tune -m ewc", "Missing option '--stream'"),
    ("tune -m ecw -s domain", "did you mean 'ewc'"),
    ("tune -m ewc -s domain --trials 0", "at least 1 is needed"),
    ("tune -m ewc -s domain --trials many", "'--trials': expected a whole number"),
    ("bench --shape tinyy", "did you mean 'tiny'"),
    ("bench --seconds 0", "seconds is 0"),
    ("bench --precision fp8", "known: bf16, fp32"),
    ("store lst", "did you mean 'list'"),
    ("store verify extra", "(ctbench store --help)"),
    ("prepare dapset-mni", "did you mean 'dapset-mini'"),
    ("prepare dapset-mini nowhere", "no folder 'nowhere'"),
    ("export zzzz -o out", "no result 'zzzz'"),
    ("export zzzz", "Missing option '--output'"),
    ("verify zzzz", "no result 'zzzz'"),
    ("verify", "Missing argument 'run'"),
    ("status zzzz", "no launch 'zzzz'"),
    ("cancel zzzz", "no launch 'zzzz'"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the current folder, with results, a stream, the file of a method and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CTBENCH_CALIBRATION", "off")
    monkeypatch.setenv("CTBENCH_DATA", str(tmp_path / "home" / "data"))
    write_stream(tmp_path)
    write_fakes(tmp_path / "results", methods=("naive", "replay"), seeds=2)
    (tmp_path / "mine.py").write_text("from ctbench import Method\nclass Mine(Method):\n    '''Nothing.'''\n")
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for name in ("pipe.csv", "pipe.html"):
        os.mkfifo(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("line", "words"), ODD, ids=[line for line, _ in ODD])
def test_an_odd_call_of_any_command_is_one_line_and_writes_nothing(line, words, place, capsys):
    before = sorted(place.iterdir())
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ctbench: ")
    assert err.count("\n") == 1, err
    assert words in err
    assert [path for path in sorted(place.iterdir()) if path.name != "home"] == before


def test_every_command_is_among_the_odd_calls():
    assert {line.split()[0] for line, _ in ODD} >= set(COMMANDS)


def test_a_call_that_is_right_is_not_refused(place, capsys):
    for line in (
        "compare --resize -o x.tex",
        "compare --json --format json",
        "report -o x.html",
        "ls runs --results results",
        "plot -o x.png --all",
    ):
        assert main(line.split()) == 0, capsys.readouterr().err
    assert {path.name for path in place.iterdir()} >= {"x.tex", "x.html", "x.png"}


def test_a_plot_of_runs_with_other_budgets_wants_all(place, capsys):
    for path in (place / "results").rglob("*.json"):
        path.unlink()
    write_fakes(place / "results", methods=("naive", "replay"), seeds=1, changed={"pretrain.tokens": 1})
    assert main(["plot", "-o", "x.png"]) == 2
    assert "there is no comparable result to draw; --all draws others" in capsys.readouterr().err
    assert not Path("x.png").exists()
    assert main(["plot", "-o", "x.png", "--all"]) == 0
    assert capsys.readouterr().err == ""
    assert Path("x.png").exists()
    write_fakes(place / "results", methods=("naive",), seeds=1, changed={"pretrain.tokens": 2}, protocol="2" * 16)
    capsys.readouterr()
    assert main(["plot", "-o", "y.png", "--all"]) == 2
    assert "a plot shows one protocol; name the runs of one of 2: domain" in capsys.readouterr().err
