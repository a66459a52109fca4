from __future__ import annotations

import json

import pytest
from small_streams import write_stream

from ctbench.errors import BadConfig
from ctbench.speed.protocol import measure_protocol, summarise_protocol
from ctbench.speed.rounds import spread
from ctbench.speed.show import protocol_table

pytestmark = pytest.mark.slow

PRECISIONS = ("fp32", "bf16")


def test_projected_time_of_a_trainer_covers_every_stage_and_every_cell():
    engine = {"label": "engine bf16", "precision": "bf16", "seconds": 10.0}
    rival = {"label": "Trainer fp32", "precision": "fp32", "base_seconds": 20.0, "stage_seconds": 5.0}
    rival["cell_seconds"] = spread([3.0, 1.0, 2.0])
    found = summarise_protocol("some", [engine], [rival], num_stages=4, num_cells=20, threads=2)
    assert found["engines"] == [engine]
    assert found["trainers"] == [rival | {"seconds": 20.0 + 4 * 5.0 + 20 * 2.0}]
    assert found["ratios"] == [{"label": "engine bf16", "against": "Trainer fp32", "ratio": 8.0}]
    table = protocol_table(found)
    assert [cell.text for cell in table.rows[-1]] == ["Trainer fp32", "total, projected", "80"]
    assert table.notes[0].startswith("timed with a Trainer: base, one stage and 3 cells")
    assert table.notes[1] == "engine bf16 against Trainer fp32: 8.0 times faster"


def test_both_sides_run_the_protocol_in_each_precision(tmp_path, monkeypatch):
    write_stream(tmp_path, epochs="1", tokens="512")
    monkeypatch.chdir(tmp_path)
    rival, said = tmp_path / "rival", []
    rival.mkdir()
    found = measure_protocol("small.toml", rival, precisions=PRECISIONS, threads=1, num_cells=1, say=said.append)
    assert (found["stages"], found["cells"], len(found["ratios"])) == (2, 12, 4)
    assert len(said) == 2 * 4
    assert all(side["seconds"] > 0 for side in found["engines"] + found["trainers"])
    for precision in PRECISIONS:
        (result,) = (rival / precision / "results").rglob("*.json")
        record = json.loads(result.read_text(encoding="utf-8"))
        assert record["method"]["name"] == "plain"
        assert {table["precision"] for table in record["recipe"].values() if isinstance(table, dict)} == {precision}
        for part in ("base", "stage", "cell-00"):
            assert json.loads((rival / precision / part / "trainer.json").read_text())["precision"] == precision
            assert part == "cell-00" or (rival / precision / part / "after" / "model.safetensors").exists()


def test_stream_without_a_base_is_rejected(tmp_path):
    path = write_stream(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "[base]" in text
    path.write_text(text[: text.index("[base]")] + text[text.index("[pretrain]") :], encoding="utf-8")
    with pytest.raises(BadConfig, match=r"a run from an empty store cannot be measured"):
        measure_protocol(str(path), tmp_path / "rival", precisions=("fp32",), threads=1, say=lambda _: None)
