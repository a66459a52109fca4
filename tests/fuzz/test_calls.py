"""Any call answers, or is refused in one line with exit code 2: mostly valid options, some with odd values."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pytest
from fake_results import fake_record
from hypothesis import given
from hypothesis import strategies as st
from mutations import outcome
from small_streams import write_stream

from ctbench.cli import main
from ctbench.results.format import result_from
from ctbench.results.writing import write_result

ODD = st.one_of(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
    st.sampled_from(
        [
            *("", " ", ",", ",,", "-1", "0", "1", "3", "0..2", "2..0", "nan", "inf", "1e999", "9" * 5000, "x" * 5000),
            *(
                "=",
                "x=",
                "=x",
                "x=1",
                "a,b",
                "..",
                ".",
                "~",
                "~no-such-user/x",
                "/dev/null",
                "/dev/full",
                "/no/such/place",
                "\u202e",
            ),
            *("pipe", "pipe.toml", "pipe.py", "pipe.json", "locked", "a.json", "s.toml", "mine.py", "results", "home"),
            *("--", "-h", "é", "[1]", "{}", "auto", "all", "domain", "naive", "tiny", "true", "key"),
        ]
    ),
)
PLACES = ("results", "empty", "locked", "a.json", "pipe.json", "no/such", "")
OUTPUTS = ("out", "out.html", "out.png", "out.md", "out.tex", "a.json", "locked/x", "no/such/x", "results", "/dev/full")
RUN = {
    "--method": ("naive", "naive,replay", "./mine.py", "naiv"),
    "--stream": ("./s.toml", "./s.toml,./no.toml", "domain"),
    "--model": ("tiny", "tiny-causal", "./no", "a/b@c"),
    "--recipe": ("small", "no"),
    "--seed": ("0", "0..2", "0,1"),
    "--order": ("0", "0,1"),
    "--set": ("pretrain.tokens=1000", "pretrain.tokens=[1000,2000]", "replay.replay_fraction=0.2", "method.no=1"),
    "--precision": ("fp32", "bf16,fp32"),
    "--equal-compute": None,
    "--control": None,
    "--reorder-periods": None,
    "--results": PLACES,
    "--device": ("cpu", "cuda", "cuda:9", "mps"),
    "--workers": ("0", "1", "auto"),
    "--launcher": ("local", "slurm", "other"),
    "--slurm": ("partition=a,time=1:00", "gpus=1", "mem=4G,tries=2", "no=1", "time=x"),
    "--track": ("tensorboard", "wandb", "tensorboard,mlflow", "no"),
    "--gpus": ("1", "0"),
    "--max-loss": ("5", "0"),
    "--checkpoint-seconds": ("0", "60"),
    "--log": ("out", "locked/x", "results"),
    "--json": None,
    "--quiet": None,
    "--verbose": None,
}
ONE = {"": ("{key}", "results/domain", "a.json", "results"), "--results": PLACES, "--json": None}
ELSE = {"--method": ("naive", "./mine.py"), "--stream": ("domain", "./s.toml"), "--model": ("tiny", "./no")}
CALLS = {
    "plan": RUN,
    "export": ONE | ELSE | {"--output": OUTPUTS, "--row": ("0", "1", "9"), "--context": ("domain-1", "s.toml", "no")},
    "verify": ONE
    | ELSE
    | {"--nodes": ("1", "0"), "--seed": ("1", "-1"), "--given": ("results", "no"), "--workers": ("0",)},
    "status": {"": ("", "launch", "launch-1", "no"), "--json": None, "--verbose": None},
    "cancel": {"": ("", "launch", "launch-1", "no"), "--json": None},
    "show": {"": ("{key}", "results"), "--results": PLACES, "--json": None, "--verbose": None},
    "compare": {
        "--results": PLACES,
        "--against": ("naive", "no"),
        "--metric": ("anytime", "F_Acc,O_Acc", "no"),
        "--stream": ("domain", "no"),
        "--format": ("md", "csv", "latex", "no"),
        "--across": ("pretrain.schedule", "no"),
        "--columns": ("flops", "no"),
        "--all": None,
        "--partial": None,
        "--json": None,
    },
    "report": {"--results": PLACES, "--output": OUTPUTS, "--json": None},
    "store": {
        "--verify": None,
        "--prune": None,
        "--stream": ("domain", "no"),
        "--kind": ("stage", "no"),
        "--older-than": ("30d", "x"),
        "--json": None,
    },
    "ls": {"": ("methods", "streams", "models", "runs", "no"), "--results": PLACES, "--json": None},
    "check": {
        "": ("./s.toml", "s.toml", "no"),
        "--model": ("tiny", "./no"),
        "--set": ("pretrain.tokens=5", "x"),
        "--json": None,
    },
    "new": {"": ("method", "stream", "study", "method mine", "stream x/y", "study ../x", "study s")},
    "prepare": {"": ("domain", "topics", "tweet", "topics results", "tweet locked")},
}
"""By command: its options, and values that are mostly right; "" is what stands without an option, None a flag."""


@st.composite
def calls(draw):
    """Write a call with some of the options of a command, one of which may have any value."""
    command = draw(st.sampled_from(sorted(CALLS)))
    options = CALLS[command]
    args = [command]
    if command == "plan" and draw(st.integers(0, 3)):
        args += ["--method", "naive", "--stream", "./s.toml"]
    if "" in options:
        args += draw(st.sampled_from(options[""])).split()
    names = draw(st.lists(st.sampled_from([name for name in options if name] or ["-h"]), max_size=3, unique=True))
    for name in names:
        values = options.get(name)
        args += [name] if values is None else [name, draw(st.sampled_from(values))]
    if draw(st.booleans()):
        args[draw(st.integers(0, len(args) - 1)) :][:1] = []
        args.insert(draw(st.integers(1, len(args))), draw(ODD))
    return args


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """Go to a folder with a stream, a method, results and odd files, and return the key of a result."""
    folder, before = tmp_path_factory.mktemp("calls"), Path.cwd()
    write_stream(folder, "s")
    result = result_from(fake_record("naive", num_tasks=2))
    write_result(result, folder / "results")
    for name in ("home", "empty", "locked"):
        (folder / name).mkdir()
    for name in ("pipe", "pipe.toml", "pipe.py", "pipe.json"):
        os.mkfifo(folder / name)
    (folder / "a.json").write_text("{")
    (folder / "mine.py").write_text("import nothing_of_the_kind\n")
    (folder / "locked").chmod(0o500)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CTBENCH_HOME", str(folder / "home"))
        patch.setenv("HOME", str(folder))
        patch.setenv("PATH", str(folder / "empty"))  # no SLURM
        patch.setenv("NO_COLOR", "1")
        yield result.key
    assert Path.cwd() == before


def call(args):
    """Call ctbench in this process; return its exit code and what it wrote."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(args)
        out.seek(0), err.seek(0)
        return code, out.read(), err.read()


@given(calls())
def test_any_call(key, args):
    args = [key[:12] if word == "{key}" else word for word in args]

    def check():
        code, out, err = call(args)
        assert code in (0, 1, 2)
        assert "Traceback" not in err
        assert "File name too long" not in err or code == 2
        if code == 2:
            assert out == ""
            first, *more = err.splitlines()
            assert first.startswith("ctbench: ")
            assert len(first) > len("ctbench: ")
            assert all(line.startswith("  ") for line in more)

    outcome(check, folder=Path.cwd())


def test_the_calls_that_are_changed_are_good_before(key):
    for args in (
        ["plan", "--method", "naive", "--stream", "./s.toml"],
        ["show", key[:12], "--results", "results"],
        ["status"],
    ):
        code, _, err = call(args)
        assert code == 0, (args, err)
