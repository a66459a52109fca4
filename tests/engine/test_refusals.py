"""Everything that is wrong with a call of several runs is said at once, before anything is computed."""

from __future__ import annotations

import threading

import pytest
from small_streams import write_method, write_stream

from ctbench.engine import preflight as preflights
from ctbench.engine.graph import preflight, read_runs
from ctbench.engine.refusals import Refusals
from ctbench.engine.store import Store
from ctbench.engine.study import Study
from ctbench.errors import BadConfig, Refused, RunFailed, UnknownName
from ctbench.plugins.new import new_stream


def test_a_single_mistake_of_the_whole_call_stays_what_it_is():
    with pytest.raises(BadConfig, match="no key 'tokns'"):
        _refuse(2, 2)
    with pytest.raises(Refused, match="1 of 2 jobs are refused"):
        _refuse(2, 1)


def _refuse(count: int, wrong: int) -> None:
    refusals = Refusals(count)
    for number in range(wrong):
        with refusals.collecting([f"job {number}"]):
            raise BadConfig("no key 'tokns'")
    refusals.end()


def test_nothing_wrong_raises_nothing_and_a_failure_is_not_kept():
    _refuse(2, 0)
    with pytest.raises(RunFailed, match="broken"), Refusals(2).collecting(["a"]):
        raise RunFailed("broken")


def test_every_wrong_part_is_a_line_with_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path)
    study = Study(method="naive,ewc", stream="small.toml,nothing", set={"method.weight": -1})
    with pytest.raises(Refused) as caught:
        read_runs(study.jobs)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 4 jobs are refused, nothing was computed:"
    assert lines[1].startswith("  ewc, weight=-1 on small.toml: method.weight of ewc: must be")
    assert lines[2].startswith("  naive on nothing, ewc, weight=-1 on nothing: no stream 'nothing'")
    assert len(lines) == 3


def test_a_name_that_no_method_has_is_said_alone():
    with pytest.raises(UnknownName, match="no method 'naiv'; did you mean 'naive'"):
        Study(method="naiv,ewc", stream="nothing")


def test_methods_that_do_not_fit_a_checkpoint_are_all_named_before_computing(tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    write_stream(tmp_path)
    for name in ("one", "two"):
        write_method(tmp_path, f"def build(self, backbone, stream):\n    raise ValueError('{name} does not fit')", name)
    study = Study(
        method="naive,one.py,two.py", stream="small.toml", model=str(checkpoint("bert")), set={"pretrain.length": 16}
    )
    runs = read_runs(study.jobs)
    monkeypatch.setattr(preflights, "SAID_BYTES", 0)
    said: list[str] = []
    with pytest.raises(Refused) as caught:
        preflight([run.inputs for run in runs], Store(tmp_path / "store"), packs=False, say=said.append)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("2 of 3 jobs are refused")
    assert ["one.py" in lines[1], "one does not fit" in lines[1], "two does not fit" in lines[2]] == [True] * 3
    assert len([line for line in said if line.startswith("loading")]) == 1
    preflight([runs[0].inputs], Store(tmp_path / "store"), packs=False)


def test_packing_is_said_only_if_it_takes_long(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    (run,) = read_runs(Study(method="naive", stream=str(new_stream("mine", tmp_path)[0])).jobs)
    said: list[str] = []
    spoken = threading.Semaphore(0)

    def say(line: str) -> None:
        said.append(line)
        spoken.release()

    preflight([run.inputs], Store(tmp_path / "store"), say=say)
    assert said == []
    monkeypatch.setattr(preflights, "SAID_SECONDS", 0.0)
    monkeypatch.setattr(preflights, "corpus", lambda *args, **more: spoken.acquire(timeout=60))
    preflight([run.inputs], Store(tmp_path / "store"), say=say)
    assert said == ["packing the general text", "packing the text of domain first", "packing the text of domain second"]
