"""A signal stops a run at the end of an update, with a checkpoint; the resumed run ends bit for bit as an uninterrupted one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from small_streams import write_method, write_stream

from ctbench.cli import main
from ctbench.engine.job import Job
from ctbench.engine.resume import load_checkpoint
from ctbench.engine.run import run
from ctbench.results.files import read_results

pytestmark = pytest.mark.usefixtures("no_signal_ignored")

STOPS_ITSELF = """
def after_step(self, stage):
    import os, signal
    if stage.domains == ("domain-2",) and stage.step == 15:
        for name in os.environ.get("STOP", "").split():
            signal.raise_signal(getattr(signal, name))
"""
SLOW = """
def after_step(self, stage):
    import os, time
    time.sleep(float(os.environ.get("SLOW", "0")))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A stream and a method, and what an uninterrupted run gives."""
    folder = tmp_path_factory.mktemp("signals")
    stream = write_stream(folder, seeds="[0]", epochs="1", num_test="16")
    method = write_method(folder, STOPS_ITSELF.strip())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTBENCH_HOME", str(folder / "home"))
        (whole,) = run(Job(method=method, stream=stream, results=folder / "whole", workers=0), say=lambda _: None)
    return folder, whole


def copy_of_base(folder, home):
    """Give a home the base and row 0 of another one: what stages make is computed anew."""
    shutil.copytree(folder / "home", home)
    for path in (home / "store").glob("??/*/record.json"):
        if '"kind": "base"' not in path.read_text():
            shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")],
)
def test_a_signal_writes_a_checkpoint_and_the_resumed_run_is_the_same_to_the_bit(
    place, tmp_path, monkeypatch, capsys, number, code, word
):
    folder, whole = place
    copy_of_base(folder, tmp_path / "home")
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STOP", number)
    args = ["run", "-m", str(folder / "mine.py"), "-s", str(folder / "small.toml"), "--workers", "0"]
    args += ["--results", str(tmp_path / "results")]
    assert main(args) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"ctbench: {word}; run the same command to resume"
    assert "stage 2 (domain-2): checkpoint saved at step 16 of 30" in lines
    (slots,) = (tmp_path / "home").rglob("*.checkpoints")
    checkpoint = load_checkpoint(slots)
    assert checkpoint.step == 16
    assert list(checkpoint.window) == [str(step) for step in range(10, 16)]
    assert not list((tmp_path / "home").rglob("*.claim"))

    monkeypatch.setenv("STOP", "")
    assert main(args) == 0
    assert "stage 2 (domain-2): resuming from step 16 of 30" in capsys.readouterr().err.splitlines()
    (resumed,) = read_results(tmp_path / "results").results
    assert [stage.weights_digest for stage in resumed.stages] == [stage.weights_digest for stage in whole.stages]
    assert [stage.losses for stage in resumed.stages] == [stage.losses for stage in whole.stages]
    assert resumed.matrix.tolist() == whole.matrix.tolist()


def test_a_second_signal_stops_at_once_and_without_a_checkpoint(place, tmp_path, monkeypatch, capsys):
    folder, _ = place
    copy_of_base(folder, tmp_path / "home")
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STOP", "SIGTERM SIGINT")
    args = ["run", "-m", str(folder / "mine.py"), "-s", str(folder / "small.toml"), "--workers", "0"]
    assert main([*args, "--results", str(tmp_path / "results")]) == 143
    assert "checkpoint saved" not in capsys.readouterr().err
    assert not list((tmp_path / "home").rglob("*.checkpoints"))
    assert not list((tmp_path / "home").rglob("*.claim"))


def test_a_keyboard_interrupt_from_python_reaches_the_caller(place, tmp_path, monkeypatch):
    folder, _ = place
    copy_of_base(folder, tmp_path / "home")
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STOP", "SIGINT")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(Job(method=folder / "mine.py", stream=folder / "small.toml", results=tmp_path / "results", workers=0))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def start(folder, tmp_path, *, slow):
    command = [sys.executable, "-m", "ctbench", "run", "-m", "slow.py", "-s", "small.toml", "--workers", "2", "--json"]
    environment = {**os.environ, "CTBENCH_HOME": str(tmp_path / "home"), "NO_COLOR": "1", "SLOW": str(slow)}
    command += ["--checkpoint-seconds", "0", "--results", str(tmp_path / "results")]
    # whatever starts the tests in the background may ignore interrupts, which is inherited
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_checkpoint(process, home):
    while not list(home.rglob("*.checkpoints/step-*")):
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.slow
def test_workers_write_a_checkpoint_when_their_parent_is_stopped(place, tmp_path):
    folder, _ = place
    write_method(folder, SLOW.strip(), "slow")
    copy_of_base(folder, tmp_path / "home")
    with start(folder, tmp_path, slow=0.3) as process:
        wait_for_checkpoint(process, tmp_path / "home")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    lines = errors.splitlines()
    assert lines[-1] == "ctbench: terminated; run the same command to resume"
    (slots,) = (tmp_path / "home").rglob("*.checkpoints")
    step = load_checkpoint(slots).step
    assert f"stage 1 (domain-1): checkpoint saved at step {step} of 30" in lines
    assert not list((tmp_path / "home").rglob("*.claim"))
    assert not list((tmp_path / "home").rglob(".*.partial"))

    with start(folder, tmp_path, slow=0) as process:
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert f"stage 1 (domain-1): resuming from step {step} of 30" in errors.splitlines()
    assert json.loads(output)["failures"] == []
