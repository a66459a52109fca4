"""The Python API says what the command line says, with the same words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_results import fake_result, write_fakes
from small_streams import write_stream

import ctbench
from ctbench.cli import compare as compare_command
from ctbench.cli import main
from ctbench.cli import run as run_command
from ctbench.errors import BadConfig
from ctbench.results import to_record

ONLY_A_TERMINAL_ASKS = {"as_json", "explain", "format"}


def words(function: Callable[..., Any]) -> set[str]:
    names = {name.rstrip("_") for name in inspect.signature(function).parameters}
    return {"all" if name == "everything" else name for name in names} - ONLY_A_TERMINAL_ASKS


def test_run_and_compare_take_the_words_of_the_command_line() -> None:
    assert words(ctbench.run) == words(run_command.command)
    assert words(ctbench.compare) == words(compare_command.command)


def test_run_changes_settings_as_set_does(tmp_path, monkeypatch, capsys) -> None:
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
    {"seed": "0"},
    {"seed": []},
    {"seed": 1.5},
    {"seed": [True]},
    {"order": "a"},
    {"results": None},
    {"method": 3},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_run_refuses_what_the_command_line_refuses(wrong: dict, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    with pytest.raises(BadConfig):
        ctbench.run(**({"method": "naive", "stream": "domain"} | wrong))
    assert not (tmp_path / "results").exists()


def test_compare_says_what_the_command_line_prints(tmp_path, monkeypatch, capsys) -> None:
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
    assert result.plot().axes
    assert len(result.plot(kind="anytime").axes) == 3
