"""The Python API and the command line: the same functions, options, values and help texts."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from fake_results import fake_result, write_fakes
from small_streams import write_stream

import ctbench
from ctbench.api.texts import argument_texts
from ctbench.cli import COMMANDS, _LazyGroup, main
from ctbench.data.override import ACCEPTED
from ctbench.engine.job import Job
from ctbench.engine.study import Study
from ctbench.errors import BadConfig, Notice
from ctbench.results.format import to_record

ONLY_COMMANDS = {"json", "explain", "format", "help", "quiet", "verbose", "dry_run"}
ONLY_COMPARE = {"output", "resize"}
"""In Python they are arguments of `Comparison.save`."""
ONLY_PYTHON = {"progress", "folder"}


def options(command: str) -> dict[str, Any]:
    """The options of a command by name, with the defaults that its help shows; None leaves one to the API."""
    context: Any = None
    parameters = _LazyGroup().get_command(context, command).params
    return {str(each.name).removesuffix("_").removeprefix("as_"): each.default for each in parameters}


def plain(default: object) -> object:
    return str(default) if isinstance(default, int | float | str) and not isinstance(default, bool) else default


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_the_options_of_the_function_of_its_name(command: str) -> None:
    function = getattr(ctbench, command)
    parameters = inspect.signature(function).parameters
    shown = options(command)
    only = ONLY_COMMANDS | (ONLY_COMPARE if command == "compare" else set())
    assert shown.keys() - only == parameters.keys() - (ONLY_PYTHON - shown.keys())
    for name, parameter in parameters.items():
        if parameter.default is not parameter.empty and shown.get(name) is not None:
            assert plain(shown[name]) == plain(parameter.default), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_one_help_text_for_both(command: str) -> None:
    texts = argument_texts(getattr(ctbench, command).__doc__)
    assert inspect.signature(getattr(ctbench, command)).parameters.keys() == texts.keys()
    assert all(texts.values())


def test_the_options_of_a_run_are_the_fields_of_a_study_and_those_of_tune_are_of_a_job() -> None:
    fields = {field.name for field in dataclasses.fields(Study)}
    assert inspect.signature(ctbench.run).parameters.keys() == fields
    assert inspect.signature(ctbench.plan).parameters.keys() == fields | {"gpus"}
    of_job = {field.name for field in dataclasses.fields(Job)}
    assert of_job == fields
    assert of_job - inspect.signature(ctbench.tune).parameters.keys() == {
        "order",
        "reorder_periods",
        "control",
        "study",
        "track",
        "launcher",
        "slurm",
        "address",
        "ray",
    }
    assert all(f"{table}." in argument_texts(cls.__doc__)["set"] for table in ACCEPTED for cls in (Job, Study))


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    call: Any = ctbench.run
    for function, name in ((call, "run"), (ctbench.tune, "tune")):
        with pytest.raises(TypeError, match=rf"{name}\(\) has no option 'sed'; did you mean 'seed'\?"):
            function(method="naive", stream="domain", sed=1)


def everything(code: str) -> subprocess.CompletedProcess[str]:
    """Import every module of ctbench in a process of its own, then run code that finds them in `names`."""
    walk = (
        "import importlib, pkgutil, ctbench\n"
        "names = [each.name for each in pkgutil.walk_packages(ctbench.__path__, 'ctbench.')]\n"
        "names = [name for name in names if not name.endswith(('__main__', 'trainer_cell', 'trainer_stage', 'worker'))\n"
        "         and '.templates' not in name]\n"
        "[importlib.import_module(name) for name in names]\n"
    )
    return subprocess.run([sys.executable, "-c", walk + code], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_names_of_the_api_stay_what_they_are_after_every_module_was_imported() -> None:
    code = (
        "from types import ModuleType\n"
        "assert len(names) > 100, names\n"
        "hidden = [name for name in ctbench.__all__ if isinstance(getattr(ctbench, name), ModuleType)]\n"
        "print(*hidden)\n"
    )
    answer = everything(code)
    assert (answer.returncode, answer.stdout.strip()) == (0, ""), answer.stderr
    control = everything("ctbench.__all__.append('plans')\n" + code)
    assert (control.returncode, control.stdout.strip()) == (0, "plans"), control.stderr


def test_dir_lists_the_api_and_the_version_is_that_of_the_package() -> None:
    assert set(COMMANDS) | {"load_results", "Method", "__version__"} <= set(dir(ctbench))
    assert ctbench.__version__ == version("ctbench")
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = ctbench.rum  # type: ignore[attr-defined]


def test_run_overrides_settings_as_the_option_set_does(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    write_stream(tmp_path, tokens="2_560", epochs="1", num_test="16")
    settings = {"pretrain.lr": 5e-4, "finetune.seeds": [0], "pretrain.tokens": 2000, "method.replay_fraction": 0.5}
    given = settings | {
        "method.replay_fraction": np.float64(0.5),
        "pretrain.tokens": np.int64(2000),
        "finetune.seeds": range(1),
    }
    (first,) = ctbench.run(method="replay", stream="small.toml", set=given, workers=0, results="a")
    assert capsys.readouterr().out == ""
    pairs = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(["run", "-m", "replay", "-s", "small.toml", "--workers", "0", "--results", "b", *pairs]) == 0
    (second,) = ctbench.load_results("b")["result"]
    assert first.key == second.key
    assert to_record(first) | {"provenance": None} == to_record(second) | {"provenance": None}
    assert first.method.settings["replay_fraction"] == 0.5
    assert first.recipe.pretrain["lr"] == 5e-4
    assert first.recipe.pretrain["tokens"] == 2000


WRONG = [
    {"precision": "fp8"},
    {"set": {"pretrain.tokns": 5}},
    {"set": {"tokens": 5}},
    {"set": ["pretrain.tokens", 5]},
    {"set": {"pretrain.tokens": None}},
    {"set": {"pretrain.tokens": {}}},
    {"model": 3},
    {"recipe": 3},
    {"workers": -3},
    {"workers": 1.5},
    {"seed": -1},
    {"seed": "zero"},
    {"seed": "2..0"},
    {"seed": "0,0"},
    {"seed": range(2000)},
    {"control": "yes"},
    {"progress": "yes"},
    {"seed": []},
    {"seed": "9" * 5000},
    {"workers": "9" * 5000},
    {"seed": 1.5},
    {"seed": [True]},
    {"order": "a"},
    {"results": 3},
    {"device": 3},
    {"track": 3},
    {"method": 3},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_run_refuses_wrong_options(wrong: dict, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    with pytest.raises(BadConfig):
        ctbench.run(**({"method": "naive", "stream": "domain"} | wrong))
    assert not (tmp_path / "results").exists()


def test_compare_gives_the_text_that_the_command_prints(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_fakes(tmp_path / "results", methods=("naive", "replay"), seeds=3)
    assert main(["compare", "--metric", "F_Acc", "--against", "naive", "--format", "markdown"]) == 0
    comparison = ctbench.compare("results", metric="F_Acc", against="naive")
    assert comparison.render("markdown") == capsys.readouterr().out
    assert main(["compare", "--metric", "F_Acc", "--against", "naive"]) == 0
    assert str(comparison) == capsys.readouterr().out
    none = ctbench.compare([fake_result("naive", changed={"pretrain.lr": 5})])
    assert str(none).strip() == "1 run hidden (not comparable: pretrain.lr was set); ctbench compare --all shows them"


def test_one_name_and_a_list_of_names_are_the_same() -> None:
    results = [fake_result(method) for method in ("naive", "replay")]
    assert ctbench.compare(results, method="naive").record() == ctbench.compare(results, method=["naive"]).record()


def test_a_result_has_its_matrix_and_its_picture() -> None:
    result = fake_result("naive")
    assert result.matrix.shape == (6, 5)
    assert ctbench.plot([result]).axes
    assert len(ctbench.plot([result], kind="anytime").axes) == 3


def test_short_texts_and_tables_of_a_notebook(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path))
    results = [fake_result(method) for method in ("naive", "replay")]
    shown = {
        "Result(": results[0],
        "Comparison(": ctbench.compare(results),
        "Forecast(": ctbench.plan(method="naive", stream=write_stream(tmp_path)),
        "Listing(": ctbench.ls("methods"),
    }
    for start, each in shown.items():
        assert repr(each).startswith(start)
        assert len(repr(each)) < 200
        assert "<table" in each._repr_html_()
    assert results[0].frame().shape == (6, 5)
    assert "anytime" in repr(results[0])


def test_progress_is_shown_hidden_or_handed_to_a_function(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    write_stream(tmp_path, tokens="512", epochs="1", num_test="8", seeds="[0]")
    events: list[Any] = []
    ctbench.run(method="naive", stream="small.toml", workers=0, progress=events.append)
    assert capsys.readouterr() == ("", "")
    assert {event.what for event in events} == {"start", "progress", "done"}
    assert {event.node.kind for event in events} == {"base", "stage", "loss", "cell"}
    ctbench.run(method="naive", stream="small.toml", workers=0, seed=1, progress=False)
    assert capsys.readouterr() == ("", "")
    ctbench.run(method="naive", stream="small.toml", workers=0, seed=2)
    said = capsys.readouterr()
    assert said.out == ""
    assert "to compute: 2 stages" in said.err
    assert "new: results/small" in said.err


def test_workers_are_auto_or_a_number_everywhere() -> None:
    count = {given: Job(method="naive", stream="domain", workers=given).num_workers for given in ("auto", None, "2", 2)}
    assert count == {"auto": None, None: None, "2": 2, 2: 2}


def test_plot_draws_a_folder_and_warns_about_skipped_files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_fakes(tmp_path / "results", methods=("naive", "replay"), seeds=1)
    (tmp_path / "results" / "broken.json").write_text("{")
    with pytest.warns(Notice, match="skipped"):
        figure = ctbench.plot(kind="anytime", method="naive,replay", output="x.svg")
    assert figure.get_label() == "domain-anytime"
    assert (tmp_path / "x.svg").is_file()


def test_new_prepare_check_and_show_return_what_the_commands_print(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = ctbench.new("stream", "mine")
    assert written.files[0].name == "mine.toml"
    assert written.following.startswith("ctbench check ./mine.toml && ctbench run")
    assert ctbench.check("./mine.toml").problems == ()
    assert ctbench.prepare("./mine.toml").prepared is None
    write_fakes(tmp_path / "results", methods=("naive",), seeds=2)
    (first, second) = ctbench.show("results")
    assert ctbench.show(first.key[:12])[0].key == first.key
    assert [row["name"] for row in ctbench.ls("runs", second.key)] == [second.key[:12]]


@pytest.mark.parametrize("planned", [("naive",), ("naive", "naive"), 1, "naive", "a:b:c", ("a", "")])
def test_a_planned_comparison_names_two_methods(planned):
    results = [fake_result("naive"), fake_result("replay")]
    with pytest.raises(BadConfig, match="two methods are needed"):
        ctbench.compare(results, planned=planned)


def test_a_list_without_rows_says_why():
    assert str(ctbench.ls("methods", "naive")) == "method naive has no hyper-parameters"
    assert "method.replay_fraction" in str(ctbench.ls("methods", "replay"))
