from __future__ import annotations

import json

import pytest
from small_streams import write_stream

from ctbench.bench.protocol import measure_protocol, summarise_protocol
from ctbench.bench.rounds import spread
from ctbench.bench.show import protocol_table
from ctbench.errors import BadConfig


def test_the_rival_pays_for_every_stage_and_every_cell():
    found = summarise_protocol(
        "some", 10.0, base=20.0, stage=5.0, cells=[3.0, 1.0, 2.0], num_stages=4, num_cells=20, threads=2
    )
    assert found["trainer_seconds"] == 20.0 + 4 * 5.0 + 20 * 2.0
    assert found["ratio"] == 8.0
    assert found["timed_cells"] == 3
    assert found["cell_seconds"] == spread([3.0, 1.0, 2.0])
    table = protocol_table(found)
    assert [cell.text for cell in table.rows[-1]] == ["Trainer", "all, projected", "80"]
    assert table.notes[0].startswith("8.0 times faster")


def test_both_sides_do_the_protocol_of_a_stream(tmp_path, monkeypatch):
    write_stream(tmp_path, epochs="1", tokens="512")
    monkeypatch.chdir(tmp_path)
    said = []
    found = measure_protocol("small.toml", tmp_path / "rival", threads=1, num_cells=1, say=said.append)
    assert (found["stages"], found["cells"], found["timed_cells"]) == (2, 12, 1)
    assert min(found[f"{part}_seconds"] for part in ("engine", "base", "stage", "trainer")) > 0
    assert len(said) == 4
    (result,) = (tmp_path / "rival" / "results").rglob("*.json")
    assert json.loads(result.read_text(encoding="utf-8"))["method"]["name"] == "plain"
    for part in ("base", "stage"):
        assert (tmp_path / "rival" / part / "after" / "model.safetensors").exists()


def test_a_stream_without_a_base_is_refused(tmp_path):
    path = write_stream(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "[base]" in text
    path.write_text(text[: text.index("[base]")] + text[text.index("[pretrain]") :], encoding="utf-8")
    with pytest.raises(BadConfig, match=r"no run from nothing"):
        measure_protocol(str(path), tmp_path / "rival", threads=1, say=lambda _: None)
