"""A method that learns nothing is found out: its findings are stored, and shown by run, show and compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_streams import write_method, write_stream

from ctbench.cli import main


def test_run_show_and_compare_print_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    write_stream(tmp_path, epochs="1", tokens="2_560", num_test="16")
    write_method(tmp_path, "def loss(self, stage, batch):\n    return {'lm': 0.0 * stage.backbone(batch).loss}", "lazy")
    texts = {}
    for name, line in {
        "run": "run --method ./lazy.py --stream small.toml --workers 0",
        "show": "show results/small/tiny/lazy",
        "compare": "compare --all",
    }.items():
        assert main(line.split()) == 0
        texts[name] = capsys.readouterr().out
    (path,) = (tmp_path / "results").rglob("*.json")
    stored = json.loads(path.read_text())["findings"]
    assert {"unchanged-weights", "not-learned", "constant-column"} <= {finding["code"] for finding in stored}
    for finding in stored:
        assert f"finding {finding['code']}: {finding['message']}" in texts["run"]
        assert f"finding {finding['code']}: {finding['message']}" in texts["show"]
    for code in {finding["code"] for finding in stored}:  # a comparison has one line for all findings of a kind
        messages = [finding["message"] for finding in stored if finding["code"] == code]
        (line,) = (line for line in texts["compare"].splitlines() if line.startswith(f"finding {code}: "))
        assert f"lazy †, seed 0: {messages[0]}" in line
        assert ("(ctbench show tells the others)" in line) == (len(messages) > 1)
