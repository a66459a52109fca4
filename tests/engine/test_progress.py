"""What is shown of a launch: lines in a pipe, bars in a terminal, everything in a log."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from fake_records import LOOKUP, cell_record, fake_node
from rich.console import Console

from ctbench.engine import progress as shown
from ctbench.engine.identity import CellIdentity
from ctbench.engine.launchers.events import Event
from ctbench.engine.logfile import LogFile
from ctbench.engine.progress import Progress, following
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig, RunFailed

RECIPE = {"tokens": 10_000, "batch": 10, "length": 10, "held_out_tokens": 600, "epochs": 3}
BASE = replace(fake_node("base", RECIPE), title="base of s", lookup=replace(LOOKUP, stream="domain", recipe="default"))


def cell(domain: str, seed: int = 0):
    made = fake_node("cell", RECIPE)
    assert isinstance(made.identity, CellIdentity)
    identity = replace(made.identity, domain=domain, seed=seed)
    return replace(made, identity=identity, lookup=BASE.lookup, parents=(BASE,), title=f"naive: cell {domain} in row 0")


CELLS = [cell(f"domain-{number}", seed) for number in (1, 2) for seed in (0, 1)]


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    return tmp_path


def compute(listener) -> None:
    """The events of a base and four cells."""
    store = Store(home() / "store")
    listener(Event(what="start", node=BASE))
    listener(Event(what="progress", node=BASE, step=5, num_steps=10, loss=2.5))
    listener(Event(what="waiting", node=BASE, owner="process 7"))
    listener(Event(what="done", node=BASE))
    for each in CELLS:
        listener(Event(what="start", node=each))
        with store.writing(each.key, cell_record()):
            pass
        listener(Event(what="done", node=each))


def test_a_pipe_gets_a_line_for_each_row_and_none_for_each_cell(capsys):
    with following(True, workers=2) as (listen, _):
        assert listen is not None
        compute(listen([BASE, *CELLS]))
    out, lines = capsys.readouterr()
    assert out == ""
    assert "to compute: 1 stages, 4 cells, 0 LM losses on 2 workers" in lines
    assert "base of s: waiting for process 7" in lines
    assert lines.count("loading") == lines.count("base of s: loading") == 1
    assert "base of s: done in" in lines
    assert "100 %, 1 s left] naive: row 0: domain-1 50.0, domain-2 50.0" in lines
    assert "cell domain-1" not in lines


def test_verbose_says_every_node_with_its_score(capsys):
    with following("verbose", workers=1) as (listen, _):
        assert listen is not None
        compute(listen([BASE, *CELLS]))
    lines = capsys.readouterr().err
    assert lines.count("naive: cell domain-1 in row 0: done in") == 2
    assert ", 50.0" in lines


def test_time_left_is_shown_while_the_base_is_trained(capsys, monkeypatch):
    monkeypatch.setattr(shown, "LOG_SECONDS", -1.0)
    with following(True, workers=1) as (listen, _):
        assert listen is not None
        hear = listen([BASE, *CELLS])
        hear(Event(what="start", node=BASE))
        hear(Event(what="progress", node=BASE, step=1, num_steps=10, loss=2.5))
        hear(Event(what="progress", node=BASE, step=2, num_steps=10, loss=2.5))
    first, second = [line for line in capsys.readouterr().err.splitlines() if "step" in line]
    assert "left" not in first
    assert "left] base of s: step 2 of 10, loss 2.500" in second


def test_resuming_is_said(capsys):
    with following(True, workers=1) as (listen, _):
        assert listen is not None
        hear = listen([BASE])
        hear(Event(what="start", node=BASE))
        hear(Event(what="resuming", node=BASE, step=9, num_steps=10))
        hear(Event(what="something new", node=BASE))
    assert "base of s: resuming from step 9 of 10" in capsys.readouterr().err


def test_quiet_shows_nothing_and_the_log_holds_everything(capsys, own_home):
    path = own_home / "logs" / "run.log"
    with following(False, log=path, workers=1) as (listen, say):
        assert listen is not None
        say("loading a model")
        compute(listen([BASE, *CELLS]))
    assert capsys.readouterr() == ("", "")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all(line[:2] == "20" and line[10] == " " for line in lines)
    text = "\n".join(lines)
    for part in (
        "loading a model",
        "start base",
        "progress base",
        "step 5 of 10, loss 2.5",
        "waiting base",
        "row 0: domain-1",
    ):
        assert part in text
    assert text.count("done cell") == len(CELLS)
    with following(False, workers=1) as (listen, say):
        assert listen is None
        say("not shown")
    assert capsys.readouterr() == ("", "")


def test_the_log_is_appended_to_and_ends_with_what_went_wrong(own_home):
    path = own_home / "run.log"
    path.write_text("before\n", encoding="utf-8")
    with pytest.raises(RunFailed), following(False, log=path) as (_, _say):
        raise RunFailed("the stage failed")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert "Traceback" in text
    assert "RunFailed: the stage failed" in text
    with pytest.raises(BadConfig, match=r"the log '.*' cannot be written"):
        LogFile(own_home / "run.log" / "x")


def test_a_function_hears_every_event_and_nothing_is_shown(capsys, own_home):
    events: list[Event] = []
    for log in (None, own_home / "run.log"):
        with following(events.append, log=log) as (listen, _):
            assert listen is not None
            compute(listen([BASE, *CELLS]))
    assert capsys.readouterr() == ("", "")
    assert [event.what for event in events[: len(events) // 2]] == [event.what for event in events[len(events) // 2 :]]


def test_a_terminal_has_bars_of_work_with_the_time_left(monkeypatch):
    screen = io.StringIO()
    with Progress(workers=1) as bars:
        monkeypatch.setattr(bars, "is_live", True)
        bars._bars.disable = False
        bars.console.file = screen
        hear = bars.follow([BASE, *CELLS])
        hear(Event(what="start", node=BASE))
        Console(file=screen, width=80).print(bars._bars.get_renderable())
        assert "base of s" in screen.getvalue()
        assert "loading" in screen.getvalue()
        hear(Event(what="progress", node=BASE, step=5, num_steps=10, loss=2.5))
        Console(file=screen, width=80).print(bars._bars.get_renderable())
    assert "step 5 of 10, loss 2.500" in screen.getvalue()
    assert "0 of 4" in screen.getvalue()
    assert "everything" in screen.getvalue()


def test_a_long_name_is_cut_in_a_narrow_terminal_and_the_loss_is_not():
    screen = io.StringIO()
    with Progress(workers=1) as bars:
        hear = bars.follow([replace(BASE, title="replay, replay_fraction=0.1, domain, seed 1: stage 1 (domain-1)")])
        node = replace(BASE, title="replay, replay_fraction=0.1, domain, seed 1: stage 1 (domain-1)")
        hear(Event(what="start", node=node))
        hear(Event(what="progress", node=node, step=1500, num_steps=2500, loss=2.5))
        bars._bars.disable = False
        Console(file=screen, width=60).print(bars._bars.get_renderable())
    lines = screen.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("replay")
    assert lines[1].rstrip().endswith("step 1500 of 2500, loss 2.500")
    assert "…" in lines[1]


def test_bars_of_a_second_launch_replace_those_of_the_first():
    with Progress(workers=1) as bars:
        bars.follow([BASE, *CELLS])
        bars.follow([BASE])
        assert [task.description for task in bars._bars.tasks] == ["everything"]
