"""Tuning on a small stream: trials, objective, the tuning file, and rejected calls."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from fake_results import fake_record
from small_streams import write_method, write_stream

import ctbench
from ctbench.cli import main
from ctbench.engine.expand import expand
from ctbench.engine.failures import NodesFailed
from ctbench.engine.inputs import read_inputs
from ctbench.engine.job import Job
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig, BadResult, MissingResult, RunFailed
from ctbench.machine.manifest import write_manifest
from ctbench.results.files import load_results, read_results
from ctbench.results.format import result_from
from ctbench.results.writing import write_result
from ctbench.tuning.protocol import LANGUAGE_SEED, tuning_settings
from ctbench.tuning.record import read_tuning, tuning_from
from ctbench.tuning.search import tune
from ctbench.tuning.table import trial_table
from ctbench.tuning.trials import objective, standard_error
from ctbench.tuning.writing import write_tuning

ROOT = Path(ctbench.__file__).parent.parent
SCALED = '''
paper = ""
scale: float = hyper(1.0, low=0.0, tune=(0.5, 1.0, 2.0))
"""Factor of the loss."""
def loss(self, stage, batch):
    return {"lm": self.scale * stage.backbone(batch).loss}
'''.strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A stream, a method with a grid of three points, and a store that the tests of this file share."""
    folder = tmp_path_factory.mktemp("tune")
    write_stream(folder, tokens="2_048", num_documents="60", num_general_documents="80", held_out_tokens="128")
    write_method(folder, SCALED, "scaled")
    return folder


@pytest.fixture(autouse=True)
def shared_home(place, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(place / "home"))
    monkeypatch.chdir(place)


def go(*methods, results="results", stream="small.toml", **options):
    """Tune and return the tunings, the nodes that were computed and the lines that were said."""
    todo, said = [], []

    def listen(nodes):
        todo.extend(nodes)
        return lambda event: None

    methods = methods or ("./scaled.py",)
    options = {"workers": 0, "trials": 2, **options}
    found = tune(methods=methods, stream=stream, results=results, listen=listen, say=said.append, **options)
    return found, todo, said


def cell_records():
    """Return the records of all cells with their paths."""
    read = [(path, json.loads(path.read_text())["record"]) for path in (home() / "store").rglob("record.json")]
    return [(path, record) for path, record in read if record["kind"] == "cell"]


@pytest.fixture
def doctored(place):
    """Return a function that changes every cell's record; the records are put back afterwards."""
    before = {path: path.read_text() for path, _ in cell_records()}

    def doctor(change):
        records = cell_records()
        assert records
        for path, record in records:
            change(record)
            write_manifest(path.parent, record)

    yield doctor
    for path, text in before.items():
        path.write_text(text)


def test_trials_are_the_defaults_and_a_sample_on_another_language(place):
    (tuning,), todo, said = go()
    assert [trial.is_default for trial in tuning.trials] == [True, False]
    assert tuning.trials[0].settings == {"scale": 1.0}
    assert tuning.trials[1].settings["scale"] in (0.5, 2.0)
    assert (tuning.num_points, tuning.num_trials, tuning.grid) == (3, 2, {"scale": (0.5, 1.0, 2.0)})
    assert tuning.tuned_on.language_seed == LANGUAGE_SEED
    assert tuning.tuned_on.changed == {"finetune.seeds": "[0]", "language.seed": "7"}
    assert all(0 <= trial.objective <= 1 and trial.seconds > 0 for trial in tuning.trials)
    assert said[0] == "scaled: scale (3), 2 trials on a grid of 3 points"
    assert {node.kind for node in todo} <= {"base", "stage", "cell"}


def test_second_tuning_computes_nothing_and_keeps_the_file(place):
    (first,), *_ = go()
    (again,), todo, said = go()
    assert todo == []
    assert said[1] == "same: results/tuning/small/tiny/scaled.json"
    assert again.trials == first.trials


def test_more_trials_compute_only_what_is_new_and_replace_the_file(place):
    go(results="more")
    (tuning,), todo, said = go(results="more", trials=8)
    assert len(tuning.trials) == 3
    assert {node.kind for node in todo} <= {"stage", "cell"}
    assert len(todo) <= 2 + 4
    assert said[0] == "scaled: scale (3), all 3 points of the grid, fewer than 8 trials"
    assert said[1].startswith("replaced: ")
    assert read_tuning("more/tuning/small/tiny/scaled.json").record() == tuning.record()


def test_all_trials_are_one_graph(place, monkeypatch, tmp_path):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path))
    calls = []

    def listen(nodes):
        calls.append([node.kind for node in nodes])
        return lambda event: None

    tune(methods=["./scaled.py"], stream="small.toml", trials=2, workers=0, listen=listen, results=tmp_path / "r")
    assert [(kinds.count("base"), kinds.count("stage"), kinds.count("cell")) for kinds in calls] == [(1, 4, 8)]


@pytest.mark.slow
def test_interrupted_tuning_resumes(place, monkeypatch, tmp_path):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path))
    done = []

    def stop_at_the_third(nodes):
        def hear(event):
            if event.what == "done":
                done.append(event.node.key)
            if len(done) == 3:
                raise KeyboardInterrupt

        return hear

    options = {"methods": ["./scaled.py"], "stream": "small.toml", "trials": 2, "workers": 0, "results": tmp_path / "r"}
    with pytest.raises(KeyboardInterrupt):
        tune(listen=stop_at_the_third, say=lambda line: None, **options)
    assert not (tmp_path / "r").exists()
    (tuning,), todo, _ = go(results=tmp_path / "r")
    assert len(todo) == 1 + 4 + 8 - 3
    assert not set(done) & {node.key for node in todo}
    assert [trial.objective for trial in tuning.trials] == [trial.objective for trial in go()[0][0].trials]


def test_objective_is_anytime_of_the_validation_scores(place, doctored):
    (tuning,), *_ = go()
    numbers = itertools.count()

    def change(record):
        record["validation"] = dict.fromkeys(record["validation"], next(numbers) / 1000)

    doctored(change)
    (changed,), *_ = go()
    job = {"method": "./scaled.py", "stream": "small.toml", "set": tuning_settings("small.toml", {})}
    run, store = expand(read_inputs(Job(**job)), 0), Store(home() / "store")
    wanted = [
        store.read(run.cells[row, name, 0].key).validation["accuracy"] for row in (1, 2) for name in run.stream.names
    ]
    assert objective(run, store) == pytest.approx(np.mean(wanted))
    assert changed.trials[0].objective == objective(run, store) != tuning.trials[0].objective


def test_objective_ignores_test_scores(place, doctored):
    (tuning,), *_ = go()

    def spoil(record):
        record["metrics"] = {"nonsense": None}

    doctored(spoil)
    (again,), _, said = go()
    assert again.trials == tuning.trials
    assert again.chosen == tuning.chosen
    assert said[1].startswith("same: ")


def test_objective_follows_the_validation_scores(place, doctored):
    (tuning,), *_ = go()

    def spoil(record):
        record["validation"] = {name: 1 - value for name, value in record["validation"].items()}

    doctored(spoil)
    (again,), *_ = go()
    assert [1 - trial.objective for trial in again.trials] == pytest.approx([t.objective for t in tuning.trials])


def test_row_0_is_not_computed(place):
    go()
    _, todo, _ = go(results="row", settings={"finetune.seeds": "[5]"})
    assert {node.kind for node in todo} == {"cell"}
    assert len(todo) == 2 * 4


def test_objective_is_the_mean_over_run_seeds(place):
    (one,), *_ = go(results="seed", trials=1, seeds=(1,))
    (both,), *_ = go(results="seed", trials=1, seeds=(0, 1))
    (zero,), *_ = go(trials=1, results="seed")
    assert both.trials[0].objective == pytest.approx((zero.trials[0].objective + one.trials[0].objective) / 2)
    assert both.trials[0].keys == zero.trials[0].keys + one.trials[0].keys


def test_method_without_ranges_runs_its_defaults_only(place):
    (tuning,), _, said = go("naive")
    assert said[0] == "naive: no hyper-parameters to tune, its defaults only"
    assert said[-1] == tuning.advice == "naive has no hyper-parameters to tune: nothing to choose"
    assert [trial.settings for trial in tuning.trials] == [{}]
    assert tuning.trials[0].objective is not None


def test_plan_with_empty_rows_has_no_objective_and_cannot_be_tuned(place, tmp_path):
    plan = """
def plan(self, stream):
    from ctbench.plans import Plan
    return Plan(stages=(stream.names,), parents=(0,), cells=((0, 0), (None, None), (1, 1)))
""".strip()
    (tuning,), *_ = go(str(write_method(tmp_path, plan, "union")))
    assert tuning.trials[0].objective is None
    assert "–" in [cell.text for cell in trial_table(tuning).rows[0]]
    tuned = write_method(tmp_path, 'x: float = hyper(1.0, tune=(1.0, 2.0))\n"""X."""\n' + plan, "tuned")
    with pytest.raises(BadConfig, match=r"tuned leaves cells empty"):
        go(str(tuned))


def test_fixed_field_stays_out_of_the_grid(place, tmp_path):
    body = SCALED + '\nshare: float = hyper(1.0, tune=(1.0, 0.5))\n"""Another."""'
    both = str(write_method(tmp_path, body, "both"))
    (tuning,), *_ = go(both, trials=1, results="fixed", method_settings={"scale": 2.0})
    assert set(tuning.grid) == {"share"}
    assert tuning.method.settings["scale"] == 2.0
    assert tuning.fixed == {"scale": 2.0}
    assert tuning.advice.startswith("with scale = 2.0 fixed: keep the defaults of both.py")
    assert "fixed by --set in all trials: scale = 2.0" in trial_table(tuning).notes
    with pytest.raises(BadConfig, match="has nothing left to tune: --set fixes every field that it declares"):
        go(both, trials=1, results="fixed", method_settings={"scale": 2.0, "share": 1.0})


def test_mistake_in_any_method_is_found_before_the_first_is_computed(place, tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path))
    wrong = write_method(tmp_path, 'x: float = hyper(1.0, high=1.0, tune=(1.0, 2.0))\n"""X."""', "wrong")
    with pytest.raises(BadConfig, match=r"method\.x of wrong: must be a finite number of at most 1\.0, found 2\.0"):
        go("naive", str(wrong))
    assert list(cell_records()) == []


def test_failing_trial_raises_its_error(place, tmp_path):
    body = SCALED.replace("return", "assert self.scale == 1.0, 'oops'\n    return")
    with pytest.raises(RunFailed, match="oops"):
        go(str(write_method(tmp_path, body, "failing")))
    trials = read_tuning(place / "results/tuning/small/tiny/failing.json").trials
    assert {trial.objective is None for trial in trials} == {True, False}


# Rejected calls


def test_reported_language_is_rejected_unless_allowed(place):
    for settings, seed in (({"language.seed": "0"}, None), ({}, 0)):
        with pytest.raises(BadConfig, match="language seed 0 is the reported language of stream small"):
            tuning_settings("small.toml", settings, language_seed=seed)
    allowed = tuning_settings("small.toml", {}, language_seed=0, allow_reported=True)
    assert allowed["language.seed"] == "0"
    assert tuning_settings("small.toml", {}, language_seed=3)["language.seed"] == "3"


def test_language_seed_may_be_given_in_one_way_only(place):
    with pytest.raises(BadConfig, match="give one of them"):
        tuning_settings("small.toml", {"language.seed": "3"}, language_seed=3)


def test_synthetic_stream_gets_validation_texts(place, tmp_path):
    bare = str(write_stream(tmp_path, "bare", num_validation="0"))
    assert tuning_settings(bare, {})["language.num_validation"] == "300"
    assert "language.num_validation" not in tuning_settings("small.toml", {})
    with pytest.raises(BadConfig, match=r"no validation texts for domain-1, domain-2.*set language\.num_validation"):
        tuning_settings(bare, {"language.num_validation": "0"})


FILES = """
kind = "domain"
summary = "files"
[[domains]]
name = "one"
text = { source = "files", path = "text.jsonl" }
task = { source = "files", train = "train.jsonl", test = "test.jsonl"VALIDATION }
[pretrain]
tokens = 64
"""


def test_stream_of_files_needs_a_validation_split(tmp_path):
    path = tmp_path / "files.toml"
    path.write_text(FILES.replace("VALIDATION", ""))
    with pytest.raises(BadConfig, match=r"files has no validation texts for one.*`validation` of \[domains\.task\]"):
        tuning_settings(str(path), {})
    path.write_text(FILES.replace("VALIDATION", ', validation = "validation.jsonl"'))
    assert tuning_settings(str(path), {}) == {"finetune.seeds": "[0]"}
    with pytest.raises(BadConfig, match=r"no table \[language\]"):
        tuning_settings(str(path), {}, language_seed=3)


# The file


def test_readers_of_results_skip_tuning_files_without_a_warning(place):
    go()
    loaded = read_results("results")
    assert loaded.results == loaded.skipped == ()
    with pytest.raises(MissingResult):
        load_results("results")
    (place / "other").mkdir(exist_ok=True)
    (place / "other" / "stray.json").write_text((place / "results/tuning/small/tiny/scaled.json").read_text())
    assert len(read_results("other").skipped) == 1


def test_results_of_a_stream_named_tuning_are_still_read(tmp_path):
    record = fake_record("naive")
    record["stream"]["name"] = "tuning"
    path = write_result(result_from(record), tmp_path).path
    assert [result.path for result in read_results(tmp_path).results] == [path]


def test_foreign_file_is_rejected_in_one_line(tmp_path):
    path = tmp_path / "x.json"
    for text in ("{", "[]", '{"schema": 1}', '{"schema": 2}'):
        path.write_text(text)
        with pytest.raises(BadResult, match="not a tuning file") as caught:
            read_tuning(path)
        assert "\n" not in str(caught.value)


def test_record_with_an_unknown_key_is_rejected(place):
    (tuning,), *_ = go()
    assert tuning_from(tuning.record()) == tuning
    with pytest.raises(BadResult, match="matrix"):
        tuning_from({**tuning.record(), "matrix": []})


def test_record_that_contradicts_itself_is_rejected(place):
    (tuning,), *_ = go()
    record = with_objectives(tuning, 0.5, 0.4, 0.625)
    assert tuning_from({**record, "chosen": {"scale": 2.0}}).chosen == {"scale": 2.0}
    with pytest.raises(BadResult, match="what was chosen is not the best trial"):
        tuning_from({**record, "chosen": {"scale": 0.5}})
    with pytest.raises(BadResult, match="trial 1 does not set the fields of the grid"):
        tuning_from({**record, "chosen": {"scale": 2.0}, "grid": {**record["grid"], "weight": [0.1, 1.0]}})


def test_defaults_without_an_objective_are_compared_with_nothing(place):
    (tuning,), *_ = go()
    unknown = tuning_from({**with_objectives(tuning, None, 0.4, 0.625), "chosen": {"scale": 2.0}})
    assert "the defaults has no objective" in unknown.advice


def test_broken_file_is_replaced_whole(place, tmp_path):
    (tuning,), *_ = go()
    path, status = write_tuning(tuning, tmp_path)
    assert status == "new"
    path.write_text("{")
    assert write_tuning(tuning, tmp_path) == (path, "replaced")
    assert read_tuning(path) == tuning
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def with_objectives(tuning, *values, error=0.02):
    record = tuning.record()
    template = record["trials"][0]
    record["trials"] = [
        {
            **template,
            "settings": {"scale": scale},
            "is_default": index == 0,
            "objective": value,
            "standard_error": error,
        }
        for index, (scale, value) in enumerate(zip((1.0, 0.5, 2.0), values, strict=True))
    ]
    return record


def test_table_ranks_the_trials_and_marks_defaults_and_best(place):
    (tuning,), *_ = go()
    ranked = tuning_from({**with_objectives(tuning, 0.5, 0.4, 0.625), "chosen": {"scale": 2.0}})
    table = trial_table(ranked)
    rows = [[cell.text for cell in row] for row in table.rows]
    assert [row[:3] + row[4:5] for row in rows] == [
        ["1", "2.0", "62.5", "+12.5"],
        ["2", "1.0", "50.0", "–"],
        ["3", "0.5", "40.0", "-10.0"],
    ]
    assert [row[-1] for row in rows] == ["best", "defaults", ""]
    assert table.notes[-1] == ranked.advice == "set scale = 2.0 in scaled.py (+12.5 points of the objective)"
    assert table.notes[-2] == "scale = 2.0 is an end of its range; a better value may lie outside"


def test_ties_keep_the_defaults(place):
    (tuning,), *_ = go()
    tied = tuning_from({**with_objectives(tuning, 0.5, 0.5, 0.4), "chosen": {"scale": 1.0}})
    assert tied.ranked[0].is_default
    assert tied.advice == "keep the defaults of scaled.py: no trial is better"
    assert tied.edges == {}
    assert not any("end of its range" in note for note in trial_table(tied).notes)


@pytest.mark.parametrize(("error", "is_equal"), [(0.13, True), (0.12, False)])
def test_trials_within_one_standard_error_of_the_best_are_equal_and_keep_the_defaults(place, error, is_equal):
    (tuning,), *_ = go()
    close = tuning_from({**with_objectives(tuning, 0.5, 0.4, 0.625, error=error), "chosen": {"scale": 2.0}})
    marks = [row[-1].text for row in trial_table(close).rows]
    assert marks == (["best, =", "defaults, =", ""] if is_equal else ["best", "defaults", ""])
    assert close.num_equal == (2 if is_equal else 1)
    assert close.advice.startswith("keep the defaults of scaled.py: the best trial is within") == is_equal


def test_standard_error_counts_the_texts_of_a_domain_once_and_the_spread_over_run_seeds():
    one = np.array([[math.nan, math.nan], [0.5, 0.8], [0.5, 0.9]])  # `anytime` is the mean of the last two rows
    texts = math.sqrt((0.5 * 0.5) ** 2 / 100 + (0.25 * 0.4 + 0.25 * 0.3) ** 2 / 400)
    assert standard_error([one], [100, 400]) == pytest.approx(texts)
    assert standard_error([one, one], [100, 400]) == pytest.approx(texts)
    other = one + 0.02
    assert standard_error([one - 0.02, other], [10**9, 10**9]) == pytest.approx(0.02, rel=1e-3)
    assert standard_error([one], [400, 400]) < standard_error([one], [100, 400])


def test_trial_holds_the_error_of_its_objective_and_the_weights_of_its_base(place):
    (tuning,), *_ = go()
    assert all(0 < trial.standard_error < 0.5 for trial in tuning.trials)
    assert len(tuning.tuned_on.base_weights) == 64


def test_trials_from_another_base_are_not_replaced_in_silence(place, tmp_path):
    (tuning,), *_ = go()
    path, _ = write_tuning(tuning, tmp_path)
    other = dataclasses.replace(tuning, tuned_on=dataclasses.replace(tuning.tuned_on, base_weights="0" * 64))
    assert write_tuning(other, tmp_path) == (path, "replaced trials from another base")
    more = dataclasses.replace(other, num_trials=99)
    assert write_tuning(more, tmp_path) == (path, "replaced")


def test_fewer_or_failed_trials_do_not_replace_a_complete_record(place, tmp_path):
    (tuning,), *_ = go(trials=3, results="kept")
    path, _ = write_tuning(tuning, tmp_path)
    first, *others = tuning.trials
    fewer = dataclasses.replace(tuning, trials=(first,), num_trials=1, chosen=first.settings)
    failed = dataclasses.replace(
        tuning, trials=(first, *(dataclasses.replace(each, objective=None, failures=("no",)) for each in others))
    )
    for poorer in (fewer, failed):
        assert write_tuning(poorer, tmp_path) == (path, "kept")
        assert read_tuning(path) == tuning
    (place / "poorer").mkdir(exist_ok=True)
    assert write_tuning(failed, place / "poorer")[1] == "new"
    assert write_tuning(tuning, place / "poorer")[1] == "replaced"
    _, _, said = go(trials=1, results="kept")
    assert said[1].startswith("kept: kept/tuning/small/tiny/scaled.json (it is complete")
    assert "move it or choose another --results" in said[1]


def test_another_protocol_or_another_file_of_the_name_goes_beside_a_record(place, tmp_path):
    (tuning,), *_ = go()
    path, _ = write_tuning(tuning, tmp_path)
    others = [
        dataclasses.replace(tuning, tuned_on=dataclasses.replace(tuning.tuned_on, protocol="other")),
        dataclasses.replace(tuning, method=dataclasses.replace(tuning.method, digest="0" * 64)),
        dataclasses.replace(tuning, fixed={"share": 0.5}),
        dataclasses.replace(tuning, method=dataclasses.replace(tuning.method, registered=True)),
    ]
    for number, other in enumerate(others, start=2):
        beside = path.with_name(f"{path.stem}-{number}.json")
        assert write_tuning(other, tmp_path) == (beside, "beside another")
        assert write_tuning(other, tmp_path) == (beside, "same")
        assert read_tuning(beside) == other
    assert read_tuning(path) == tuning


def test_committed_records_are_read_and_fix_nothing():
    found = [read_tuning(path) for path in (ROOT / "results" / "tuning").rglob("*.json")]
    assert found
    assert {tuning.under for tuning in found} == {""}


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        (1, "only the defaults were tried, of a grid of 3 points"),
        (2, "2 trials: the defaults and a seeded sample of a grid of 3 points"),
        (3, "3 points of the grid were all tried"),
        (9, "all 3 points of the grid were tried, fewer than the 9 trials asked for"),
    ],
)
def test_the_table_says_how_much_of_the_grid_was_tried(trials, said, place):
    (tuning,), *_ = go(trials=trials, results=f"extent-{trials}")
    assert said in trial_table(tuning).notes


def test_declared_values_without_a_trial_are_named(place):
    (tuning,), *_ = go()
    (missing,) = tuning.untried["scale"]
    assert f"scale: {missing} untried" in trial_table(tuning).notes
    whole = tuning_from({**with_objectives(tuning, 0.5, 0.4, 0.625), "chosen": {"scale": 2.0}})
    assert whole.untried == {}
    assert not any("untried" in note for note in trial_table(whole).notes)


# The command


def test_command_prints_one_table_per_method_and_json_on_request(place, capsys):
    options = ["--stream", "small.toml", "--trials", "2", "--workers", "0"]
    assert main(["tune", "--method", "./scaled.py", "--method", "naive", *options]) == 0
    out = capsys.readouterr().out
    assert "scaled · small v1 · language seed 7 · tiny" in out
    assert "naive · small v1" in out
    assert "defaults" in out
    assert main(["tune", "--method", "./scaled.py", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_tuning("results/tuning/small/tiny/scaled.json").record()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "either --method NAME (once or more) or --all"),
        (["--method", "naive", "--all"], "either --method NAME (once or more) or --all"),
        (["--method", "naiv"], "did you mean 'naive'"),
        (["--method", "naive", "--trials", "0"], "trials is 0"),
        (["--method", "naive", "--language-seed", "0"], "--allow-reported"),
        (["--method", "naive", "--set", "method.x=1"], "no setting of method naive 'x'"),
        (["--all", "--set", "method.x=1"], "--set method.x: none of the methods adapters"),
    ],
)
def test_wrong_call_is_one_line_and_exit_code_2(place, capsys, args, words):
    assert main(["tune", "--stream", "small.toml", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert len(captured.err.strip().splitlines()) == 1


@pytest.mark.parametrize("fails_by_default", [False, True])
def test_a_trial_that_fails_has_no_objective_is_never_chosen_and_the_others_go_on(place, tmp_path, fails_by_default):
    body = SCALED.replace("self.scale *", f"(float('nan') if (self.scale == 1.0) is {fails_by_default} else 1.0) *")
    write_method(tmp_path, body, "fragile")
    with pytest.raises(NodesFailed, match=r"failed: fragile, trial \d of 3 \(scale=.*\): stage 1.*diverged") as error:
        go(str(tmp_path / "fragile.py"), results=tmp_path / "r", trials=3)
    (tuning,) = error.value.results
    failed = [bool(trial.failures) for trial in tuning.trials]
    assert [trial.objective is None for trial in tuning.trials] == failed
    assert failed == ([True, False, False] if fails_by_default else [False, True, True])
    assert tuning.ranked[0].failures == ()
    assert tuning.chosen == tuning.ranked[0].settings
    assert ("the trial of the defaults failed" in tuning.advice) == fails_by_default
    notes = trial_table(tuning).notes
    assert sum("failed: stage 1" in note for note in notes) == sum(failed)
    (file,) = (tmp_path / "r").rglob("*.json")
    assert read_tuning(file).trials[1].failures == tuning.trials[1].failures
