"""The ten seconds that `ctbench plan` measures a new machine for."""

from __future__ import annotations

import dataclasses

import pytest
from micro_bench import MICRO
from small_streams import write_stream

import ctbench
from ctbench.engine.speeds import read_speeds
from ctbench.speed import calibrate
from ctbench.speed.calibrate import Sample, is_wanted, nearest_shape


def test_the_nearest_shape_in_size_is_measured():
    assert nearest_shape(None).name == "tiny"
    assert nearest_shape(300_000).name == "tiny"
    assert nearest_shape(20_000_000_000).name == "22m"


@pytest.mark.parametrize(("text", "wanted"), [("off", False), ("0", False), ("NO", False), ("", True), ("on", True)])
def test_calibration_can_be_switched_off(text, wanted, monkeypatch):
    monkeypatch.setenv("CTBENCH_CALIBRATION", text)
    assert is_wanted() is wanted


@pytest.mark.slow
def test_a_new_machine_is_measured_once_and_plan_then_knows_the_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(calibrate, "STAGE_SECONDS", 0.1)
    monkeypatch.setattr(calibrate, "SAMPLES", {"tiny": Sample(batch=2, examples=12, epochs=1)})
    monkeypatch.setattr(calibrate, "SHAPES", {"tiny": dataclasses.replace(MICRO, name="tiny", length=64)})
    write_stream(tmp_path)
    options = {"method": "naive", "stream": "small.toml", "workers": 1}
    assert ctbench.plan(**options).seconds is None
    assert read_speeds(tmp_path / "home") == []
    monkeypatch.setenv("CTBENCH_CALIBRATION", "on")
    found = ctbench.plan(**options)
    assert found.seconds is not None
    assert found.seconds == pytest.approx(found.total["seconds"])
    assert "measuring this machine" in capsys.readouterr().err
    assert {(row["kind"], row["precision"]) for row in read_speeds(tmp_path / "home")} == {
        ("stage", "fp32"),
        ("cell", "fp32"),
    }
    assert not (tmp_path / "home" / "store").exists()
    again = ctbench.plan(**options)
    assert again.seconds == found.seconds
    assert "measuring" not in capsys.readouterr().err
