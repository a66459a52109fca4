"""Where results go if nobody names a folder: a newcomer's runs must not mix with the reference results."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import ctbench
from ctbench.cli import main
from ctbench.engine.job import Job
from ctbench.results.folder import default_results, is_checkout

ROOT = Path(__file__).parents[2]


def test_inside_a_checkout_it_is_my_results_and_elsewhere_results(tmp_path, monkeypatch):
    for place, wanted in ((ROOT, "my-results"), (ROOT / "docs", "my-results"), (tmp_path, "results")):
        monkeypatch.chdir(place)
        assert default_results() == Path(wanted)
        assert Job(method="naive", stream="domain").results_folder == Path(wanted)
        assert Job(method="naive", stream="domain", results="results").results_folder == Path("results")


def test_a_project_of_another_name_is_no_checkout(tmp_path):
    (tmp_path / "ctbench").mkdir()
    (tmp_path / "ctbench" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mine"\ndependencies = ["ctbench"]\n', encoding="utf-8")
    assert not is_checkout(tmp_path)
    assert is_checkout(ROOT)
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe")
    assert not is_checkout(tmp_path)


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no checkout with git")
def test_git_ignores_it():
    for name, code in (("my-results/x.json", 0), ("docs/my-results/x.json", 0), ("results/x.json", 1)):
        assert subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False).returncode == code


def test_reading_commands_share_the_rule_and_print_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("results", "my-results"):
        shutil.copytree(ROOT / "results" / "domain" / "tiny" / "naive", tmp_path / name / "domain" / "tiny" / "naive")
    key = ctbench.load_results()["key"][0]
    calls = (["compare"], ["show", key], ["plot", key, "-o", "a.png"], ["report"], ["ls", "runs"])
    assert main(["compare"]) == 0
    assert "results:" not in capsys.readouterr().err  # a pipe; a terminal is told
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ctbench"\n', encoding="utf-8")
    (tmp_path / "ctbench").mkdir()
    (tmp_path / "ctbench" / "__init__.py").touch()
    for call in calls:
        assert main(call) == 0
        assert "results: my-results\n" in capsys.readouterr().err
        assert main([*call, "--results", "results"]) == 0
        assert "results: my-results\n" not in capsys.readouterr().err
    assert main(["ls", "methods"]) == 0
    assert "results:" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "my-results")
    assert main(["compare"]) == 2
    assert "my-results" in capsys.readouterr().err


def test_targets_for_reference_results_name_their_folder():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    calls = [line for line in lines if "ctbench run" in line or "ctbench tune" in line or "ctbench plot" in line]
    assert len(calls) >= 4
    assert [line for line in calls if "--results" not in line] == []
