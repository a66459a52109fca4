"""What a graph would take as jobs of a cluster."""

from __future__ import annotations

import json

import pytest
from small_streams import spec_of, write_stream

from ctbench.cli import main
from ctbench.engine.node import in_order
from ctbench.engine.schedule import last_end
from ctbench.engine.slurm.forecast import JOB_SECONDS, forecast_grid
from ctbench.engine.slurm.options import read_slurm
from ctbench.errors import BadConfig


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp("forecast"))


def test_the_last_end_is_that_of_a_schedule_worked_out_by_hand():
    before = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}}
    seconds = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 1.0}
    assert last_end(before, seconds, workers=2) == 7.0
    assert last_end(before, seconds, workers=1) == 9.0


def test_wall_time_lies_between_the_longest_chain_and_the_sum_of_all_jobs(stream):
    todo = in_order(node for seed in range(4) for node in spec_of(stream, seed=seed).nodes)
    seconds = {node.key: {"base": 100.0, "stage": 300.0}.get(node.kind, 60.0) for node in todo}
    options = read_slurm("gpus=2")

    def ask(gpus):
        return forecast_grid(todo, seconds, options=options, gpus=gpus, is_measured=True)

    one, four, free = ask(2), ask(8), ask(None)
    assert one.wall_seconds == pytest.approx(one.busy_seconds)
    assert one.wall_seconds > four.wall_seconds >= free.wall_seconds == free.critical_seconds
    assert one.busy_seconds == pytest.approx(sum(seconds.values()) + JOB_SECONDS * one.jobs)
    assert one.gpu_hours == pytest.approx(2 * one.busy_seconds / 3600)
    with pytest.raises(BadConfig, match="gpus is 1; expected a number from 2, which one job takes"):
        ask(1)


def test_plan_estimates_a_grid_and_gpus_are_for_slurm_alone(stream, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    words = ["plan", "-m", "naive,replay", "-s", str(stream), "--seed", "0,1", "--precision", "fp32"]
    slurm = ["--launcher", "slurm", "--slurm", "gpus=1"]
    assert main([*words, *slurm, "--gpus", "64"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("slurm: ")
    assert "jobs on 64 GPUs" in last
    assert "GPU hours (nothing like it was measured" in last
    assert main([*words, *slurm, "--gpus", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["gpus"] == 64
    assert main([*words, "--gpus", "64"]) == 2
    assert capsys.readouterr().err == "ctbench: --gpus is for --launcher slurm, which was not given\n"
    assert main([*words, *slurm, "--gpus", "0"]) == 2
    assert "gpus is 0; expected a number from 1" in capsys.readouterr().err
