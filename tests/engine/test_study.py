"""Which runs a call asks for: options, study files, settings for several methods, values to try."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from reference_pages import typer_command

import ctbench
from ctbench.engine.graph import read_runs
from ctbench.engine.job import MAX_RUNS, Job
from ctbench.engine.study import Study
from ctbench.engine.studyfile import read_study
from ctbench.engine.studylines import name_lines
from ctbench.errors import BadConfig, CTBenchError, Refused, UnknownName
from ctbench.plugins.find import find_plugins
from ctbench.plugins.new import new_study
from ctbench.reporting.across import check_key

STUDIES = Path(__file__).parents[2] / "results" / "studies"
EXAMPLE = """
name = "first-look"
methods = ["naive", { name = "replay", replay_fraction = [0.1, 0.5] }]
streams = ["domain", "temporal"]
seeds = "0..2"
[set]
"pretrain.tokens" = [5e5, 1e6]
"""


def write(folder: Path, text: str, name: str = "study.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def asked(study: Study) -> list[tuple[str, str, dict]]:
    return [(str(job.method), str(job.stream), dict(job.set)) for job in study.jobs]


def test_the_record_of_a_study_names_equal_compute(tmp_path):
    (job, *_) = Study(write(tmp_path, EXAMPLE), equal_compute=True, control=True).jobs
    assert job.study.changed == ("control", "equal_compute")


def test_one_method_and_stream_are_one_job_as_before():
    (job,) = Study(method="naive", stream="domain", seed="0..2", set={"pretrain.tokens": 1e6}).jobs
    assert job == Job(method="naive", stream="domain", seed=(0, 1, 2), order=(0,), set={"pretrain.tokens": "1000000.0"})


def test_every_combination_is_a_job_streams_first_and_methods_last():
    study = Study(method=["naive", "replay,ewc"], stream="domain,temporal", seed="0..2,7")
    assert [(job.stream, job.method) for job in study.jobs] == [
        (stream, method) for stream in ("domain", "temporal") for method in ("naive", "replay", "ewc")
    ]
    assert {job.seeds for job in study.jobs} == {(0, 1, 2, 7)}


def test_models_recipes_and_precisions_may_be_several():
    study = Study(method="naive", stream="dapset", model="a,b", recipe="small,full", precision=["fp32", "bf16"])
    assert len(study.jobs) == 8
    assert {(job.model, job.recipe, job.precision) for job in study.jobs} == {
        (model, recipe, precision)
        for model in ("a", "b")
        for recipe in ("small", "full")
        for precision in ("fp32", "bf16")
    }


def test_a_path_that_is_there_may_hold_a_comma(tmp_path):
    path = write(tmp_path, "", "a,b.toml")
    assert [job.stream for job in Study(method="naive", stream=str(path)).jobs] == [str(path)]


def test_a_setting_of_methods_goes_to_those_that_have_it():
    settings = {"method.replay_fraction": 0.5, "ewc.weight": 3.0}
    fields = {
        job.method: job.method_settings for job in Study(method="naive,replay,ewc", stream="domain", set=settings).jobs
    }
    assert fields == {"naive": {}, "replay": {"replay_fraction": 0.5}, "ewc": {"weight": 3.0}}


def test_a_named_setting_replaces_that_of_the_table_and_that_replaces_the_one_for_all():
    table = {"name": "replay", "replay_fraction": 0.2}
    for given, expected in (
        ({"method.replay_fraction": 0.1}, 0.2),
        ({"replay.replay_fraction": 0.3, "method.replay_fraction": 0.1}, 0.3),
    ):
        (job,) = Study(method=[table], stream="domain", set=given).jobs
        assert job.method_settings == {"replay_fraction": expected}


def test_a_list_is_several_values_unless_the_key_takes_a_list():
    study = Study(method="naive", stream="domain", set={"finetune.seeds": [0, 1], "pretrain.lr": [1e-3, 5e-4]})
    assert [job.set["pretrain.lr"] for job in study.jobs] == ["0.001", "0.0005"]
    assert {job.set["finetune.seeds"] for job in study.jobs} == {"[0, 1]"}
    study = Study(method="naive", stream="domain", set=["finetune.seeds=[[0], [0, 1]]"])
    assert [job.set["finetune.seeds"] for job in study.jobs] == ["[0]", "[0, 1]"]


def test_the_example_of_a_study_file(tmp_path):
    study = Study(write(tmp_path, EXAMPLE))
    found = asked(study)
    assert len(found) == 2 * 2 * 3
    assert found[1] == ("replay", "domain", {"pretrain.tokens": "500000.0", "method.replay_fraction": "0.1"})
    assert {job.study.name for job in study.jobs if job.study} == {"first-look"}


def test_options_beside_a_file_replace_what_it_says_and_are_recorded(tmp_path):
    path = write(tmp_path, EXAMPLE)
    (first, *_) = jobs = Study(path, method="ewc", seed=5, set=["pretrain.tokens=7"]).jobs
    assert asked(Study(path, method="ewc", seed=5, set=["pretrain.tokens=7"])) == [
        ("ewc", stream, {"pretrain.tokens": "7"}) for stream in ("domain", "temporal")
    ]
    assert all(job.seeds == (5,) for job in jobs)
    assert first.study is not None
    assert first.study.changed == ("method", "seed", "set")
    assert first.study.digest == read_study(path).digest


OVER = [
    ("methods = [{ name = 'ewc', weight = 0.1 }]", {"method.weight": 0.3}, {"weight": 0.3}),
    ("methods = [{ name = 'ewc', weight = [0.1, 0.2] }]", {"ewc.weight": 0.3}, {"weight": 0.3}),
    ("methods = 'ewc'\n[set]\n'ewc.weight' = 0.1", {"method.weight": 0.3}, {"weight": 0.3}),
    ("methods = 'ewc'\n[set]\n'ewc.weight' = []", {"ewc.weight": 0.3}, {"weight": 0.3}),
    ("methods = 'ewc'\n[set]\n'method.weight' = 0.1", {"method.weight": 0.3, "ewc.weight": 0.4}, {"weight": 0.4}),
]


@pytest.mark.parametrize(("text", "given", "expected"), OVER, ids=[text for text, *_ in OVER])
def test_settings_of_the_call_replace_whatever_the_file_says(text, given, expected, tmp_path):
    (job,) = Study(write(tmp_path, f"streams = 'domain'\n{text}"), set=given).jobs
    assert job.method_settings == expected


def test_the_table_of_a_method_of_the_call_replaces_the_settings_of_the_file(tmp_path):
    path = write(tmp_path, "methods = 'ewc'\nstreams = 'domain'\n[set]\n'ewc.weight' = 0.1\n'ewc.num_examples' = 8")
    for given, expected in (({}, 0.2), ({"method.weight": 0.3}, 0.2), ({"ewc.weight": 0.3}, 0.3)):
        (job,) = Study(path, method=[{"name": "ewc", "weight": 0.2}], set=given).jobs
        assert job.method_settings == {"weight": expected, "num_examples": 8}


def test_comments_and_order_do_not_change_the_digest_and_a_value_does(tmp_path):
    path = write(tmp_path, EXAMPLE)
    before = read_study(path).digest
    write(
        tmp_path,
        "# why\n" + EXAMPLE.replace('name = "first-look"\n', "").replace("seeds", 'name = "first-look"\nseeds'),
    )
    assert read_study(path).digest == before
    write(tmp_path, EXAMPLE.replace("0..2", "0..3"))
    assert read_study(path).digest != before


def test_tables_of_runs_have_the_keys_of_the_file_and_add_to_its_settings(tmp_path):
    text = """
streams = "domain"
seeds = 1
set = { pretrain.lr = 1e-3 }
[[runs]]
methods = "naive"
control = true
[[runs]]
methods = ["replay"]
seeds = "0..1"
set = { "pretrain.tokens" = 100 }
"""
    first, second = Study(write(tmp_path, text)).jobs
    assert (first.method, first.control, first.seeds, dict(first.set)) == (
        "naive",
        True,
        (1,),
        {"pretrain.lr": "0.001"},
    )
    assert (second.method, second.control, second.seeds) == ("replay", False, (0, 1))
    assert dict(second.set) == {"pretrain.lr": "0.001", "pretrain.tokens": "100"}
    assert first.study is not None
    assert first.study.name == "study"


TWO = "streams = 'domain'\n{}[[runs]]\nmethods = 'naive'\n[[runs]]\nmethods = ['ewc', 'lwf']\n{}"


@pytest.mark.parametrize("key", ["method.num_examples", "ewc.num_examples"])
def test_a_setting_for_methods_of_some_tables_is_left_out_in_the_others(key, tmp_path):
    path = write(tmp_path, TWO.format("", ""))
    for study in (
        Study(path, set={key: 8}),
        Study(write(tmp_path, TWO.format(f"[set]\n'{key}' = 8\n", ""), "other.toml")),
    ):
        found = [(job.method, job.method_settings) for job in study.jobs]
        assert found == [("naive", {}), ("ewc", {"num_examples": 8}), ("lwf", {})]


WRONG_TABLES = [
    ({"method.num_exampls": 8}, "", "--set method.num_exampls: none of the methods naive, ewc, lwf has a setting"),
    ({"ewc.num_exampls": 8}, "", "no setting of method ewc 'num_exampls'"),
    ({"replay.source": 8}, "", "--set replay.source: no table and no method of this call is called 'replay'"),
    ({}, "set = { 'naive.x' = 8 }", "--set naive.x: no table and no method of this call is called 'naive'"),
    ({}, "set = { 'method.x' = 8 }", "--set method.x: none of the methods ewc, lwf has a setting"),
]


@pytest.mark.parametrize(("given", "own", "message"), WRONG_TABLES, ids=[message for *_, message in WRONG_TABLES])
def test_a_setting_that_no_table_has_or_that_a_table_sets_for_others_is_refused(given, own, message, tmp_path):
    with pytest.raises(CTBenchError) as caught:
        Study(write(tmp_path, TWO.format("", own)), set=given)
    assert str(caught.value).startswith(message)


def test_paths_of_a_study_start_at_its_folder(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "model").mkdir()
    text = 'methods = ["naive", "mine.py"]\nstreams = ["my.toml"]\nmodels = ["model", "tiny"]'
    path = write(tmp_path / "there", text)
    write(
        tmp_path / "there", '"""Mine."""\nfrom ctbench import Method\nclass Mine(Method):\n    """Mine."""\n', "mine.py"
    )
    monkeypatch.chdir(tmp_path)
    jobs = Study(path.relative_to(tmp_path)).jobs
    assert [str(job.method) for job in jobs[:2]] == ["naive", "there/mine.py"]
    assert {str(job.stream) for job in jobs} == {"there/my.toml"}
    assert [job.model for job in jobs[1:3]] == ["there/model", "tiny"]


def test_the_name_of_an_embedded_model_is_no_folder_beside_the_study(tmp_path):
    (tmp_path / "tiny").mkdir()
    path = write(tmp_path, "methods = 'naive'\nstreams = 'domain'\nmodels = ['tiny', './tiny']")
    assert [job.model for job in Study(path).jobs] == ["tiny", str(tmp_path / "tiny")]


WRONG_FILES = [
    ("methods = []\nstreams = ['domain']", "study.toml:1: methods: tuple must have at least 1 item|at least 1"),
    ("method = 'naive'", "study.toml:1: unknown key 'method' in the top level; did you mean 'methods'"),
    ("methods = ['naive']", "no stream is named"),
    ("streams = ['domain']", "no method is named"),
    ("methods = ['naive', 'naive']\nstreams = ['domain']", "study.toml:1: methods: must not name naive twice"),
    ("methods = [3]\nstreams = ['domain']", "study.toml:1: methods.*3 is no method"),
    ("methods = [{ share = 1 }]\nstreams = ['domain']", "without its name"),
    ("methods = ['naiv']\nstreams = ['domain']", "no method 'naiv'; did you mean 'naive'"),
    ("methods = ['naive']\nstreams = ['domain']\nseeds = '2..0'", "study.toml:3: seeds: seeds is '2..0'"),
    ("methods = ['naive']\nstreams = ['domain']\nseeds = 1.5", "study.toml:3: seeds"),
    ("methods = ['naive']\nstreams = 'domain'\nprecisions = ['fp8']", "study.toml:3: precisions.*no precision.*fp32"),
    ("methods = [{ name = 'replay', shar = 1 }]\nstreams = ['domain']", "no setting of method replay 'shar'"),
    ("methods = ['naive']\nstreams = ['domain']\ncontrol = 'yes'", "study.toml:3: control: must be"),
    ("methods = ['naive']\nstreams = ['domain']\n[set]\ntokens = 3", "--set tokens: expected a table before the key"),
    ("methods = ['naive']\nstreams = ['domain']\n[set]\npretrian.tokens = 3", "did you mean 'pretrain.KEY'"),
    ("methods = ['naive']\nstreams = ['domain']\n[set]\npretrain.tokns = 3", "did you mean 'tokens'"),
    ("methods = ['naive']\nstreams = ['domain']\n[set]\npretrain.tokens = []", "is an empty list"),
    ("methods = ['naive']\nstreams = ['domain']\n[set]\npretrain.tokens = [1, 1]", "each value may be given once"),
    (
        "methods = ['naive']\nstreams = ['domain']\n[set]\nreplay.x = 1",
        "no table and no method of this call is called 'replay'",
    ),
    ("methods = ['naive']\nstreams = ['domain']\n[[runs]]\nname = 'x'", "'name' belongs to the file"),
    (
        "streams = ['domain']\n[[runs]]\nmethd = ['naive']",
        "study.toml:3: unknown key 'methd'.*did you mean 'methods'",
    ),
    ("methods = [", "study.toml:1: broken TOML syntax"),
    (
        "methods = ['naive']\nstreams = ['domain']\n[set]\n'pretrain.tokens' = nan",
        "study.toml:4: set.pretrain.tokens: expected a finite number, found nan",
    ),
    ("methods = ['ewc']\nstreams = ['domain']\nset = { 'ewc.weight' = [1, -inf] }", "study.toml:3: .*found -inf"),
    ("streams = ['domain']\n[[runs]]\nmethods = [{ name = 'ewc', weight = inf }]", "study.toml:3: .*weight.*found inf"),
    ("streams = ['domain']\nmethods = [{ name = 'ewc', weight = 2024-01-01 }]", "study.toml:2: .*found 2024-01-01"),
    (
        "methods = 'naive'\nstreams = 'domain'\n[set]\n'pretrain.tokens' = 2\n[set.pretrain]\ntokens = 1",
        "^study.toml:6: set.pretrain.tokens was set at study.toml:4 already; set it once$",
    ),
    (
        "streams = 'domain'\n[[runs]]\nmethods = 'ewc'\n[runs.set]\newc.weight = 2\n'ewc.weight' = 2",
        "^study.toml:6: set.ewc.weight was set at study.toml:5 already; set it once$",
    ),
    ("kind = 'domain'\n[[domains]]\nname = 'a'", "so it is a stream and no study; name it with --stream"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_FILES, ids=[text for text, _ in WRONG_FILES])
def test_a_wrong_study_is_refused_in_one_line_with_file_and_line(text, message, tmp_path):
    with pytest.raises(CTBenchError, match=message) as caught:
        Study(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[set]\n'pretrain.tokns' = 1",
            "study.toml:4: set.pretrain.tokns: no key 'tokns' of pretrain can be set; did you",
        ),
        ("[set.pretrain]\nlr = 1e-3\nepochs = 3", "study.toml:5: set.pretrain.epochs: no key 'epochs'"),
        ("[set]\npretrain.lr = 'fast'", 'study.toml:4: set.pretrain.lr: must be a number, found "fast"'),
        ("[set]\npretrain.tokens = []", "study.toml:4: set.pretrain.tokens is an empty list"),
        ("[set]\nmethod.shar = 1", "study.toml:4: set.method.shar: none of the methods naive, replay has"),
        (
            "[[runs]]\nseeds = 1\n[[runs]]\n[runs.set]\npretrain.lr = -1",
            "study.toml:7: set.pretrain.lr: must be greater",
        ),
    ],
)
def test_a_wrong_setting_of_a_file_is_refused_by_its_line_and_one_of_the_call_by_its_option(text, message, tmp_path):
    path = write(tmp_path, f"methods = ['naive', 'replay']\nstreams = ['domain']\n{text}")
    with pytest.raises(CTBenchError) as caught:
        ctbench.plan(path, progress=False)
    assert str(caught.value).startswith(message)
    key = message.partition("set.")[2].partition(" ")[0].rstrip(":")
    with pytest.raises(CTBenchError) as caught:
        ctbench.plan(path, set={key: []}, progress=False)
    assert str(caught.value).startswith((f"--set {key} is an empty list", f"--set {key}: no"))


@pytest.mark.parametrize(
    ("text", "message", "options"),
    [
        (
            "methods = [\n'naive',\n'replai']",
            "study.toml:2: no method 'replai'; did you mean 'replay'?",
            {"method": "x"},
        ),
        ("methods = 'naive'\nstreams = 'domian'", "study.toml:3: no stream 'domian'; did you", {"stream": "x"}),
        ("methods = 'naive'\nrecipes = 'grand'", "study.toml:3: no recipe 'grand'; known", {"recipe": "x"}),
        ("methods = 'naive'\nmodels = 'tini'", "study.toml:3: no model 'tini'", {"model": "x"}),
        ("[[runs]]\nmethods = 'naive'\n[[runs]]\nmethods = 'naif'", "study.toml:5: no method 'naif'", {"method": "x"}),
        (
            "methods = [{ name = 'replay', shar = 1 }]",
            "study.toml:2: no setting of method replay 'shar'",
            {"method": "x"},
        ),
        ("methods = [{ name = 'replay', source = 'x' }]", "study.toml:2: method.source of replay: must be one of", {}),
        ("methods = 'replay'\n[set]\nreplay.shar = 1", "study.toml:4: no setting of method replay 'shar'", {}),
        ("methods = 'replay'\n[set]\nmethod.source = 'x'", "study.toml:4: method.source of replay: must be", {}),
    ],
)
def test_a_wrong_name_of_a_file_is_refused_by_its_line(text, message, options, tmp_path):
    streams = "" if "streams" in text else "streams = ['domain']"
    path = write(tmp_path, f"{streams}\n{text}")
    with pytest.raises(CTBenchError) as caught:
        ctbench.plan(path, progress=False)
    assert str(caught.value).startswith(message)
    for option in options:
        with pytest.raises(CTBenchError) as caught:
            ctbench.plan(path, **options, progress=False)
        assert str(caught.value).startswith(f"no {option} 'x'")


RIGHT_AND_WRONG = [
    (
        "[set]\npretrain.lr = 1e-3\n[[runs]]\nset = { 'pretrain.lr' = [1e-3, -1] }",
        ":6: set.pretrain.lr: must be greater",
    ),
    ("[set]\npretrain.lr = -1\n[[runs]]\nset = { 'pretrain.lr' = [-1, -1.0, 1e-3] }", ": set.pretrain.lr: must be"),
    ("[set]\n'replay.source' = 'x'\n[[runs]]\nset = { 'replay.source' = 'past' }\n[[runs]]", ":4: method.source of"),
    (
        "[[runs]]\nmethods = [{ name = 'replay', source = 'past' }]\n[[runs]]\nmethods = [{ name = 'replay', source = 'x' }]",
        ":6: method.source of replay",
    ),
    ('[[runs]]\nmethods = "naive"\n[[runs]]\nmethods = "naive\'x"', ":6: no method 'naive'x'; did you"),
    (
        "[[runs]]\n[[runs.methods]]\nname = 'replay'\nsource = 'past'\nshar = 1",
        ":7: no setting of method replay 'shar'",
    ),
    ("[[runs]]\nmethods = './my.py'", ":4: no method file '"),
    ("[[runs]]\nmethods = [{ name = 'replay', source = [] }]", ":4: replay.source is an empty list"),
    ("[set]\npretrain.lr = 2024-01-01", ":4: set.pretrain.lr: expected a number"),
    ("[set]\nstream.max_test = -1", ":4: set.stream.max_test: must be"),
    ("[[runs]]\nseeds = 1\nname = 'x'", ":5: the key 'name' belongs to the file"),
]


@pytest.mark.parametrize(("text", "message"), RIGHT_AND_WRONG, ids=[text for text, _ in RIGHT_AND_WRONG])
def test_among_several_places_the_one_of_the_wrong_value_is_named(text, message, tmp_path):
    path = write(tmp_path, f"streams = 'domain'\nmethods = 'replay'\n{text}")
    with pytest.raises(CTBenchError) as caught:
        ctbench.plan(path, progress=False)
    said = caught.value.reasons[0] if isinstance(caught.value, Refused) else str(caught.value)
    assert f"study.toml{message}" in said


def test_a_setting_of_the_call_is_not_looked_for_in_the_file(tmp_path):
    path = write(tmp_path, "methods = 'replay'\nstreams = 'domain'\n[set]\nreplay.source = 'x'\nmethod.source = 'y'")
    for key in ("replay.source", "method.source"):
        with pytest.raises(CTBenchError) as caught:
            ctbench.plan(path, set={key: "z"}, progress=False)
        assert str(caught.value).startswith("method.source of replay: must be one of")


def test_every_refused_run_names_the_line_of_the_setting(tmp_path):
    path = write(tmp_path, "methods = ['naive']\nstreams = ['domain']\n[set]\npretrain.lr = -1")
    told = Refused("2 of 2 jobs are refused", [f"{name}: --set pretrain.lr=-1: pretrain.lr: too low" for name in "ab"])
    name_lines(told, path)
    assert told.reasons == tuple(f"{name}: study.toml:4: set.pretrain.lr: too low" for name in "ab")
    assert str(told).splitlines()[1:] == [f"  {reason}" for reason in told.reasons]
    other = Refused("1 job is refused", ["a: --set pretrain.lr=-1: too low"])
    name_lines(other, path, but=["pretrain.lr"])
    assert other.reasons == ("a: --set pretrain.lr=-1: too low",)


@pytest.mark.parametrize("text", ["runs = 3", "runs = [3]", "set = 3", "[set]\npretrain = 3", "[[runs]]\nset = 3"])
def test_tables_of_settings_that_are_none_are_refused(text, tmp_path):
    with pytest.raises(BadConfig):
        ctbench.plan(write(tmp_path, f"methods = ['naive']\nstreams = ['domain']\n{text}"), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": ()}, "no method is named: give --method NAME"),
        ({"stream": ""}, "a name is empty"),
        ({"stream": [3]}, "stream is .3.; expected a name"),
        ({"method": "naive,naive"}, "--method names naive twice"),
        ({"model": "tiny,tiny"}, "--model names tiny twice"),
        ({"precision": "fp32,fp8"}, "precision is 'fp8'"),
        ({"set": {"method.replay_fractio": 1}, "method": "naive,replay"}, "none of the methods naive, replay has"),
        ({"set": {"method.x": 1}}, "no setting of method naive 'x'"),
        ({"set": {"naive.x": 1}}, "no setting of method naive 'x'"),
        ({"set": {"ewc.x": 1}}, "no table and no method of this call is called 'ewc'"),
        ({"set": ["pretrain.lr=1", "pretrain.lr=2"]}, "pretrain.lr was given 2 times"),
        ({"study": "naive"}, "did you mean --method naive"),
        ({"study": "nothing.toml"}, "cannot be read"),
        ({"study": 3}, "study is 3"),
        ({"progress": "loud"}, "progress is 'loud'"),
        ({"log": 3}, "log is 3"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_in_one_line(options, message):
    with pytest.raises(CTBenchError, match=message) as caught:
        Study(**({"method": "naive", "stream": "domain"} | options))
    assert "\n" not in str(caught.value)


CONTRADICTIONS = [
    ({"precision": "bf16"}, "pretrain.precision", "fp32", "contradicts --precision bf16; leave one of them out"),
    ({"precision": "fp32,bf16"}, "finetune.precision", "fp32", "contradicts --precision bf16; leave one of them out"),
    ({"equal_compute": True}, "pretrain.equal_compute", False, "contradicts --equal-compute; leave one of them out"),
]


@pytest.mark.parametrize(("options", "key", "value", "message"), CONTRADICTIONS)
def test_an_option_that_contradicts_a_setting_is_refused(options, key, value, message, tmp_path):
    text = str(value).lower()
    with pytest.raises(BadConfig, match=f"^--set {key}={text}: {message}$"):
        Study(method="naive", stream="domain", set={key: value}, **options)
    path = write(
        tmp_path, f"methods = 'naive'\nstreams = 'domain'\n[set]\n{key} = {text if value is False else repr(text)}"
    )
    with pytest.raises(BadConfig, match=rf"^study\.toml:4: set\.{key}={text}: {message}$"):
        ctbench.plan(path, progress=False, **options)


def test_an_option_may_repeat_a_setting():
    settings = {"pretrain.precision": "bf16", "finetune.precision": "bf16", "pretrain.equal_compute": True}
    (job,) = Study(method="naive", stream="domain", set=settings, precision="bf16", equal_compute=True).jobs
    assert job.settings == {key: str(value).replace("True", "true") for key, value in settings.items()}


def test_too_many_runs_are_refused_before_they_are_made():
    values = list(range(1, 1000))
    with pytest.raises(BadConfig, match=rf"runs are asked for; expected at most {MAX_RUNS:,}"):
        Study(method="naive", stream="domain", set={f"pretrain.{key}": values for key in ("tokens", "batch", "length")})
    assert len(Study(method="naive", stream="domain", set={"pretrain.tokens": values}).jobs) == 999


def test_a_setting_that_only_one_method_lacks_is_no_error_and_one_that_all_lack_is():
    assert len(Study(method="naive,replay", stream="domain", set={"method.replay_fraction": 0.1}).jobs) == 2
    with pytest.raises(UnknownName):
        Study(method="naive", stream="domain", set={"method.replay_fraction": 0.1})


def run_by(makefile):
    """Return the studies that the targets of a Makefile run, by target."""
    found = {}
    for target, recipe in re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)+)", makefile, re.M):
        loop = re.search(r"for study in ([a-z -]+);", recipe)
        names = re.findall(r"ctbench run \$\(STUDIES\)/([a-z-]+)\.toml", recipe)
        found[target] = names + (loop[1].split() if loop and "$(STUDIES)/$$study.toml" in recipe else [])
    return found


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_committed_studies_can_be_read_have_a_target_and_name_the_command_of_their_table(path):
    makefile = (STUDIES.parents[1] / "Makefile").read_text(encoding="utf-8")
    targets = run_by(makefile)
    assert path.stem in {name for names in targets.values() for name in names}
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)\n", makefile, re.M)[1].replace("\\\n", " ").split()
    assert set(targets) & {path.stem} <= set(phony), "a file or folder of that name would stop the target"
    assert Study(path).jobs[0].study.name == path.stem
    for line in re.findall(r"ctbench compare [^\n,]*", path.read_text(encoding="utf-8").partition("name =")[0]):
        words = shlex.split(line)
        options = {name for each in typer_command(words[1])[1] for name in each.opts}
        assert {word for word in words if word.startswith("--")} <= options
        key = words[words.index("--across") + 1] if "--across" in words else "order"
        check_key(key)
        jobs = Study(path).jobs
        values = {value for job in jobs for value in (job.orders if key == "order" else [job.settings.get(key)])}
        assert len(values) > 1 or "--across" not in words, "the study varies the key of its table"


def test_the_guide_says_how_many_runs_each_study_has():
    guide = (STUDIES.parents[1] / "docs" / "guides" / "reproducing.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `make ([a-z-]+)` \| .*\((\d+) runs\)", guide, re.M))
    assert {"schedules", "compute", "orders", "length", "share", "widths", "languages"} <= set(told)
    for name, number in told.items():
        assert sum(len(job.seeds) * len(job.orders) for job in Study(STUDIES / f"{name}.toml").jobs) == int(number), (
            name
        )


def num_runs(study):
    return sum(len(job.seeds) * len(job.orders) for job in study.jobs)


def test_the_guide_to_studies_says_how_many_runs_its_studies_have(tmp_path):
    guide = (STUDIES.parents[1] / "docs" / "guides" / "studies.md").read_text(encoding="utf-8")
    template = re.search(r"`ctbench new study first-look` writes one to start from, of (\d+) runs", guide)[1]
    (path,) = new_study("first-look", tmp_path)
    assert num_runs(Study(path)) == int(template)
    text = re.search(r"```toml\n(name = \"first-look\".*?)```", guide, re.S)[1]
    assert num_runs(Study(write(tmp_path, text))) == int(re.search(r"These are (\d+) runs", guide)[1])


def test_a_study_that_no_target_runs_is_found():
    rules = "one: x  ## share\n\tctbench run $(STUDIES)/one.toml\n\ntwo: one\n"
    assert run_by(rules) == {"one": ["one"]}


def test_the_reference_studies_hold_every_method_once():
    first, others = ({job.method for job in Study(STUDIES / f"{name}.toml").jobs} for name in ("reference", "others"))
    assert not first & others
    assert first | others == {
        name for name, plugin in find_plugins("method").items() if plugin.module.startswith("ctbench_methods")
    }


def test_the_keys_of_a_run_do_not_depend_on_the_call_it_is_part_of():
    alone = read_runs(Study(method="replay", stream="domain", seed=1, set={"method.replay_fraction": 0.5}).jobs)
    many = read_runs(
        Study(
            method=["naive", {"name": "replay", "replay_fraction": [0.1, 0.5]}], stream="domain,temporal", seed="0..1"
        ).jobs
    )
    assert alone[0].key in {run.key for run in many}
    nodes = {node.key: node.title for run in many for node in run.nodes}
    assert {node.key for node in alone[0].nodes} <= nodes.keys()
    assert {node.title for node in alone[0].stages}.isdisjoint(nodes.values())
    assert "replay, replay_fraction=0.5, domain, seed 1: stage 2 (domain-2)" in nodes.values()
    assert "replay, replay_fraction=0.5, domain, seed 1: memory after stage 1 (domain-1)" in nodes.values()
    assert "naive, domain, seed 1: stage 1 (domain-1)" in nodes.values()


def test_equal_runs_are_there_once():
    jobs = [
        *Study(method="naive", stream="domain", seed="0..2").jobs,
        *Study(method="naive", stream="domain", seed=1).jobs,
    ]
    assert [run.seed for run in read_runs(jobs)] == [0, 1, 2]
