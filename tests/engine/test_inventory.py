"""What `ctbench store` lists, verifies and prunes, with a store that was made by hand."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_records import cell_record, stage_record
from fake_results import fake_record
from harm import HARM
from small_streams import write_stream

import ctbench
from ctbench.cli import main
from ctbench.engine.prune import read_age, sweep
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig, UnknownName
from ctbench.machine.claims import SUFFIX, claimed
from ctbench.machine.files import is_scratch, scratch_beside
from ctbench.machine.manifest import write_manifest
from ctbench.results.format import result_from
from ctbench.results.writing import write_result

STAGE, CELL, SHARED, HALF = "aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32
CORPUS = "ee" * 16
DAY = 86_400


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    return tmp_path


def fill():
    """A stage, a cell of it, a cell of row 0, a corpus, and a stage that is half-finished."""
    store = Store(home() / "store")
    with store.writing(STAGE, stage_record(), about=about("replay", "stage 1")) as folder:
        (folder / "weights.safetensors").write_bytes(b"w" * 100)
    with store.writing(CELL, cell_record(), about=about("replay", "cell")):
        pass
    with store.writing(SHARED, cell_record(), about=about("", "cell")):
        pass
    corpus = home() / "corpora" / CORPUS
    (corpus / "train").mkdir(parents=True)
    (corpus / "train" / "tokens.bin").write_bytes(b"t" * 50)
    write_manifest(corpus, {"stream": "domain", "domain": "a", "sizes": {}})
    slot = store.checkpoints(HALF) / "step-000000010"
    slot.mkdir(parents=True)
    (slot / "weights.safetensors").write_bytes(b"c")
    write_manifest(slot, {})
    return store


def about(method, title):
    return {"stream": "domain", "method": method, "title": title}


def kinds(report):
    return sorted((entry.kind, entry.method) for entry in report.entries)


ALL = [
    ("cell", ""),
    ("cell", "replay"),
    ("checkpoint", ""),
    ("corpus", ""),
    ("stage", "replay"),
]


def litter(store):
    """What crashes leave behind; returns the paths."""
    shard = store.folder(STAGE).parent
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    owner = {"host": os.uname().nodename, "process": int(dead.stdout), "started": "1", "token": "t"}
    old = store.folder(STAGE).with_suffix(".damaged")
    left = [
        scratch_beside(store.folder(STAGE)),
        scratch_beside(home() / "corpora" / CORPUS),
        store.checkpoints(STAGE),
        old,
    ]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
    claim = shard / f"{STAGE}{SUFFIX}"
    claim.mkdir()
    (claim / owner["token"]).write_text(json.dumps(owner))
    lock = home() / "corpora" / f"{CORPUS}.lock"
    lock.write_text("")
    loose = [
        scratch_beside(home() / "speeds.json"),
        *(
            scratch_beside(scratch_beside(home() / part / "probe")) for part in ("store", "corpora")
        ),  # see `check_place`
        scratch_beside(home() / "launches" / "20260101-000000-0000" / "state.json"),
    ]
    for path in loose:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[")
        os.utime(path, (time.time() - DAY, time.time() - DAY))
    return [*left, claim, lock, *loose]


def test_everything_is_listed_with_stream_method_and_size():
    fill()
    report = ctbench.store()
    assert kinds(report) == ALL
    (stage,) = [entry for entry in report.entries if entry.kind == "stage"]
    assert (stage.stream, stage.method, stage.title, stage.key) == ("domain", "replay", "stage 1", STAGE)
    assert stage.num_bytes == sum(path.stat().st_size for path in stage.path.iterdir()) > 100
    assert report.num_bytes == sum(entry.num_bytes for entry in report.entries)
    assert kinds(ctbench.store(method="replay", kind="cell")) == [("cell", "replay")]
    assert kinds(ctbench.store(stream="temporal")) == []
    with pytest.raises(UnknownName, match="no stream 'other'; known: "):
        ctbench.store(stream="other")


@pytest.mark.parametrize("action", ["list", "verify", "prune"])
def test_a_home_that_is_empty_or_missing_holds_nothing(place, action):
    assert ctbench.store(action).entries == ()
    assert not (place / "home").exists()
    home().mkdir()
    assert ctbench.store(action).entries == ()
    assert main(["store", action]) == 0


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize(
    "path",
    [
        f"store/aa/{STAGE}/weights.safetensors",
        f"store/aa/{STAGE}/record.json",
        f"store/bb/{CELL}/record.json",
        f"corpora/{CORPUS}/train/tokens.bin",
        f"corpora/{CORPUS}/record.json",
        f"store/dd/{HALF}.checkpoints/step-000000010/weights.safetensors",
    ],
)
def test_verify_names_what_is_damaged_and_exits_with_1(path, harm, capsys):
    fill()
    assert main(["store", "verify"]) == 0
    assert "every file is the one that was written" in capsys.readouterr().out
    HARM[harm](home() / path)
    assert main(["store", "verify"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged: ")]
    assert len(lines) == 1
    assert f": {Path(path).name} " in lines[0] or f": train/{Path(path).name} " in lines[0]
    assert main(["store", "verify", "--json"]) == 1
    (found,) = [row for row in json.loads(capsys.readouterr().out)["entries"] if row["damage"]]
    assert Path(path).name in found["damage"]


def test_prune_removes_nothing_without_yes_and_only_leftovers_without_a_choice():
    store = fill()
    left = litter(store)
    before = sorted(home().rglob("*"))
    report = ctbench.store("prune")
    assert {entry.path for entry in report.entries} == {*left}
    assert sorted(home().rglob("*")) == before
    assert "--yes" in report.notes[-1]
    done = ctbench.store("prune", yes=True)
    assert done.is_done
    assert done.num_bytes == report.num_bytes
    assert not [path for path in left if path.exists()]
    assert kinds(ctbench.store()) == ALL
    assert ctbench.store("verify").damaged == ()


USED = [("stage", "replay"), ("corpus", "")]
"""What the result of the next test was made from: its stage, and text of its stream."""


@pytest.mark.parametrize(
    ("choice", "gone"),
    [
        ({"method": "replay"}, [("cell", "replay"), ("stage", "replay")]),
        ({"stream": "domain", "kind": "cell"}, [("cell", ""), ("cell", "replay")]),
        ({"kind": "corpus,checkpoint"}, [("checkpoint", ""), ("corpus", "")]),
        ({"older_than": "1d"}, [("stage", "replay")]),
        ({"unused": True}, [pair for pair in ALL if pair not in USED]),
        ({"all": True}, ALL),
        ({"method": "naive"}, []),
    ],
)
def test_prune_removes_what_was_chosen(choice, gone):
    store = fill()
    record = fake_record("replay")
    record["stages"][0]["key"] = STAGE
    write_result(result_from(record), "results")
    old = time.time() - 2 * DAY
    os.utime(store.folder(STAGE), (old, old))
    report = ctbench.store("prune", yes=True, **choice)
    assert kinds(report) == gone
    assert kinds(ctbench.store()) == sorted(pair for pair in ALL if pair not in gone)
    needed = [note for note in report.notes if "results were made from these" in note]
    assert len(needed) == any(pair in gone for pair in USED)
    assert not needed or "replay on domain, seed 0" in needed[0]


@pytest.mark.slow
def test_nothing_that_a_result_was_made_from_is_unused(place):
    """Trunks, losses, text, the control, and a first stage that another method trains."""
    write_stream(place, tokens="640", epochs="1", num_test="16", num_train="12", num_validation="0", seeds="[0]")
    shared = {"stream": "small.toml", "workers": 0, "progress": False}
    ctbench.run(method="ewc", control=True, **shared)
    ctbench.run(method="naive", set={"pretrain.schedule": "infinite"}, **shared)
    entries = ctbench.store().entries
    assert {entry.kind for entry in entries} == {"base", "stage", "loss", "cell", "corpus"}
    assert any(entry.title.startswith("trunk of") for entry in entries)
    assert [entry.title for entry in ctbench.store("prune", unused=True).entries] == []
    shutil.rmtree(place / "results" / "small" / "tiny" / "ewc")
    gone = ctbench.store("prune", unused=True, yes=True).entries
    assert {"ewc", "naive", ""} >= {entry.method for entry in gone} >= {"ewc", ""}
    assert {entry.kind for entry in gone} == {"stage", "loss", "cell"}
    ctbench.run(method="naive", set={"pretrain.schedule": "infinite"}, **shared)
    after = {entry.key for entry in ctbench.store().entries}
    assert not after & {entry.key for entry in gone}, "nothing had to be computed again"


@pytest.mark.parametrize("action", ["list", "prune"])
def test_what_is_unused_is_not_told_without_the_results(place, action):
    fill()
    with pytest.raises(BadConfig, match=r"^there is no folder of results 'nope', so that everything would count"):
        ctbench.store(action, unused=True, results="nope")
    (place / "results").mkdir()
    (place / "results" / "broken.json").write_text("{")
    with pytest.raises(BadConfig, match=r"^what is unused cannot be told without all results: results/broken\.json: "):
        ctbench.store(action, unused=True)
    assert kinds(ctbench.store(action="list")) == ALL


def test_results_that_tables_leave_out_count_too(place):
    fill()
    record = fake_record("replay")
    record["stages"][0]["key"] = STAGE
    write_result(result_from(record), "results/orders")
    assert ("stage", "replay") not in kinds(ctbench.store("prune", unused=True))


def test_what_a_running_process_claims_stays_and_so_does_what_it_may_read():
    store = fill()
    store.folder(HALF).parent.mkdir(exist_ok=True)
    scratch = scratch_beside(store.folder(HALF))
    scratch.mkdir()
    left = litter(store)
    with claimed(store.folder(HALF).with_suffix(SUFFIX)):
        report = ctbench.store("prune", all=True, yes=True)
        assert {entry.path for entry in report.entries} == {*left}
        assert any("only leftovers" in note for note in report.notes)
        assert f"process {os.getpid()} on " in " ".join(ctbench.store().notes)
        assert scratch.is_dir()
        assert store.checkpoints(HALF).is_dir()
        assert store.has(STAGE)
    assert scratch in {entry.path for entry in ctbench.store("prune", all=True, yes=True).entries}
    assert ctbench.store().entries == ()


def test_a_sweep_keeps_damaged_copies_and_everything_that_is_whole_or_in_use():
    store = fill()
    left = litter(store)
    assert sweep(home()) > 0
    assert [path for path in left if path.exists()] == [store.folder(STAGE).with_suffix(".damaged")]
    assert kinds(ctbench.store()) == sorted([*ALL, ("leftover", "")])
    assert sweep(home() / "missing") == 0


@pytest.mark.parametrize("number", [0, 2], ids=["scratch folder", "checkpoints"])
def test_a_sweep_leaves_what_it_cannot_remove_and_goes_on_while_prune_says_so(number, monkeypatch):
    def refuse(path, **options):
        if (path / "kept").exists():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        rmtree(path, **options)

    rmtree, store = shutil.rmtree, fill()
    left = litter(store)
    (left[number] / "kept").touch()
    monkeypatch.setattr("ctbench.engine.prune.shutil.rmtree", refuse)
    assert sweep(home()) > 0
    damaged, kept = store.folder(STAGE).with_suffix(".damaged"), [path.parent for path in home().rglob("kept")]
    assert {entry.path for entry in ctbench.store("prune").entries} == {damaged, *kept}
    for _ in range(3):
        assert sweep(home()) == 0
    (still,) = (path.parent for path in home().rglob("kept"))
    assert [len(still.name)] == [len(path.name) for path in kept]
    with pytest.raises(BadConfig, match=r"cannot be removed \(Permission denied\)"):
        ctbench.store("prune", yes=True)
    assert not damaged.exists()
    assert {path.parent.parent for path in home().rglob("kept")} == {still.parent}


def test_foreign_files_are_neither_listed_nor_removed(place):
    store = fill()
    for folder in (home() / "mine", place / "results"):
        folder.mkdir()
    strangers = [
        scratch_beside(home() / "mine" / "copy"),
        home() / "mine" / ".copy.partial",
        home() / ".thesis.partial",
        place / "results" / ".movie.mkv.partial",
        home() / "notes.txt",
        home() / "store" / ".DS_Store",
        store.folder(STAGE).parent / "readme",
        home() / "x",
    ]
    for path in strangers:
        path.write_text("mine")
        os.utime(path, (time.time() - DAY, time.time() - DAY))
    ctbench.store("prune", all=True, yes=True)
    assert all(path.read_text() == "mine" for path in strangers)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"action": "prun"}, "did you mean 'prune'"),
        ({"kind": "cels"}, "did you mean 'cell'"),
        ({"older_than": "soon"}, "30d"),
        ({"older_than": "-3d"}, "30d"),
        ({"older_than": "9" * 30 + "d"}, "30d"),
        ({"action": "verify", "yes": True}, "for `ctbench store prune`"),
        ({"action": "prune", "all": True, "method": "x"}, "--all is everything"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises((BadConfig, UnknownName), match=words):
        ctbench.store(**options)


def test_ages_have_units():
    assert [read_age(text) for text in ("1m", "2h", "3d", "4w")] == [60, 7200, 3 * DAY, 28 * DAY]


def test_a_run_sweeps_what_crashes_left_before_it_begins(place):
    write_stream(place, tokens="640", epochs="1", num_test="16", num_train="12", num_validation="0", seeds="[0]")
    left = litter(fill())
    ctbench.run(method="naive", stream="small.toml", workers=0, progress=False)
    assert [path for path in left if path.exists()] == [Store(home() / "store").folder(STAGE).with_suffix(".damaged")]
    assert not [path for path in home().rglob("*") if is_scratch(path) or path.suffix in (SUFFIX, ".lock")]
