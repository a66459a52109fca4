"""The notebook and the script of docs/examples run from nothing, as a reader would run them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import notebook
import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def read():
    return json.loads(notebook.NOTEBOOK.read_text(encoding="utf-8"))


def test_the_notebook_is_committed_with_its_outputs_and_without_paths_of_a_machine():
    cells = [cell for cell in read()["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {kind for cell in cells for output in cell["outputs"] for kind in output.get("data", ())}
    assert {"text/html", "image/png"} <= kinds
    assert not any(place in json.dumps(cells) for place in ("/home/", "/tmp/", "/work/", "/root/"))


def test_a_cell_that_fails_stops_the_execution(tmp_path):
    cell = {"cell_type": "code", "source": ["print(1)\n", "2"], "outputs": [], "execution_count": None}
    (done,) = notebook.execute({"cells": [cell]}, tmp_path)["cells"]
    assert [output["output_type"] for output in done["outputs"]] == ["stream", "execute_result"]
    with pytest.raises(ZeroDivisionError):
        notebook.execute({"cells": [{**cell, "source": "1 / 0"}]}, tmp_path)


@pytest.mark.slow
def test_the_notebook_runs_from_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    done = notebook.execute(read(), tmp_path)
    committed = [cell for cell in read()["cells"] if cell["cell_type"] == "code"]
    for cell, wanted in zip([cell for cell in done["cells"] if cell["cell_type"] == "code"], committed, strict=True):
        assert [output["output_type"] for output in cell["outputs"]] == [o["output_type"] for o in wanted["outputs"]]
    assert (tmp_path / "replay-lm" / "config.json").is_file()


@pytest.mark.slow
def test_the_script_adds_a_method_and_a_corpus_and_compares_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    main = runpy.run_path(str(EXAMPLES / "own_method_and_corpus.py"))["main"]
    main(tmp_path / "mine")
    printed = capsys.readouterr().out
    assert "anchor" in printed
    assert "naive" in printed
    assert len(list((tmp_path / "mine" / "results").rglob("*.json"))) == 4
