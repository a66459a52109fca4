from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from micro_bench import MICRO, WORK

from ctbench.engine.speeds import read_speeds
from ctbench.errors import BadConfig, UnknownName
from ctbench.machine.device import device
from ctbench.machine.precision import has_fast_bf16
from ctbench.results.files import check_output
from ctbench.speed.loops import run_loop
from ctbench.speed.record import Question, bench, compiled_loops, keep, speeds_of
from ctbench.speed.rounds import calibrate, ratio, run_rounds
from ctbench.speed.show import tables
from ctbench.speed.training import find_peak, measure_training, plan_sides

pytestmark = pytest.mark.slow

GIVEN = {"engine": [400.0, 900.0, 500.0], "bare": [440.0, 900.0, 500.0], "trainer": [100.0, 300.0, 100.0]}


class Given:
    """Answers with set speeds and remembers who was asked."""

    def __init__(self):
        self.asked = []
        self.left = {loop: [50.0, *speeds] for loop, speeds in GIVEN.items()}

    def __call__(self, loop, request):
        self.asked.append((loop, request["steps"]))
        speed, steps = self.left[loop].pop(0), request["steps"]
        tokens = steps * MICRO.tokens_per_step
        return {
            "seconds": tokens / speed,
            "steps": steps,
            "tokens": tokens,
            "tokens_per_second": speed,
            "predicted_fraction": 0.15,
            "loss": 1.0,
            "peak_memory_bytes": 7,
        }


def sides():
    return plan_sides(MICRO, precisions=["fp32"], threads=1)


@pytest.mark.parametrize(
    ("compiled", "labels"),
    [
        (("trainer",), ["engine bf16", "Trainer bf16", "compiled Trainer bf16"]),
        (("engine", "trainer"), ["engine bf16", "compiled engine bf16", "Trainer bf16", "compiled Trainer bf16"]),
    ],
)
def test_compiled_loops_are_measured_beside_the_same_loops_without_compilation(compiled, labels):
    sides = plan_sides(MICRO, precisions=["bf16"], threads=1, loops=("engine", "trainer"), compiled=compiled)
    assert [side.label for side in sides] == labels


@pytest.mark.parametrize(("device", "loops"), [("cpu", ("trainer",)), ("cuda", ("engine", "trainer"))])
def test_engine_is_compiled_on_a_gpu_only(device, loops):
    assert compiled_loops(Question(compiled=True), device) == loops
    assert compiled_loops(Question(), device) == ()


def test_every_second_round_runs_in_reverse():
    ask = Given()
    run_rounds([dataclasses.replace(side, work=WORK) for side in sides()], ask, pairs=2, say=lambda _: None)
    assert [loop for loop, _ in ask.asked] == ["engine", "bare", "trainer", "trainer", "bare", "engine"]


def test_calibration_fills_the_time_with_multiples_of_the_minimum_steps():
    ask = Given()
    per_step = MICRO.tokens_per_step / 50.0  # seconds: what the first answers say
    ready = calibrate(sides(), ask, seconds=14.5 * per_step)
    assert [(side.loop, side.work.warmup, side.work.steps) for side in ready] == [
        ("engine", 10, 20),
        ("bare", 2, 20),
        ("trainer", 2, 16),
    ]


def test_ratios_are_taken_within_rounds():
    found = measure_training(
        sides(),
        Given(),
        peaks=[{"device": "cpu", "precision": "fp32", "threads": 1, "gflops": 1e-3}],
        pairs=3,
        seconds=1.0,
        say=lambda _: None,
    )
    ratios = {(row["label"], row["against"]): row for row in found["ratios"]}
    against = ratios["engine fp32", "Trainer fp32"]
    assert against["values"] == [4.0, 3.0, 5.0]
    assert (against["median"], against["min"], against["max"]) == (4.0, 3.0, 5.0)
    assert ratios["engine fp32", "bare loop fp32"]["median"] == 1.0
    assert len(ratios) == 2
    engine = found["sides"][0]
    assert engine["tokens_per_second"]["median"] == 500.0
    assert engine["peak_fraction"] == pytest.approx(500.0 * MICRO.flops_per_token() / 1e6)


def test_ratio_needs_a_value_of_both_sides_in_every_round():
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0], [1.0])


def test_peak_has_the_same_precision_and_threads():
    peaks = [
        {"device": "cpu", "precision": "fp32", "threads": 1, "gflops": 1.0},
        {"device": "cpu", "precision": "fp32", "threads": 2, "gflops": 2.0},
    ]
    assert find_peak(peaks, "fp32", 2) == 2.0
    assert find_peak(peaks, "bf16", 2) is None
    assert (
        find_peak([*peaks, {"device": "cuda", "precision": "fp32", "threads": None, "gflops": 9.0}], "fp32", 2) == 9.0
    )


@pytest.fixture(scope="module")
def document():
    question = Question(
        shapes=(MICRO,), methods=("replay",), what=("pretrain", "overhead"), threads=1, pairs=1, seconds=0.01
    )
    return bench(question, say=lambda _: None, ask=lambda _, request: run_loop(request))


def test_bench_measures_the_machine_and_every_side(document):
    (training,) = document["training"]
    labels = {side["label"] for side in training["sides"]}
    assert {"engine fp32", "bare loop fp32", "Trainer fp32", "replay fp32"} <= labels
    assert all(side["tokens_per_second"]["median"] > 0 and side["peak_fraction"] > 0 for side in training["sides"])
    compared = {(row["label"], row["against"]) for row in training["ratios"]}
    assert {("engine fp32", "Trainer fp32"), ("replay fp32", "engine fp32")} <= compared
    assert all(row["gflops"] > 0 for row in document["machine"]["matmul"])
    assert all(row["gigabytes_per_second"] > 0 for row in document["machine"]["bandwidth"])
    assert document["cells"] is None


def test_bf16_is_skipped_with_a_reason_on_hardware_without_it(document):
    skipped = [row["what"] for row in document["skipped"]]
    assert skipped == ([] if has_fast_bf16() else ["bf16"])
    assert all(row["why"] for row in document["skipped"])


def test_document_is_written_and_its_speeds_are_kept_for_plan(document, tmp_path):
    keep(document, home=tmp_path / "home", path=tmp_path / "results" / "bench" / "here.json")
    assert json.loads((tmp_path / "results" / "bench" / "here.json").read_text()) == document
    speeds = read_speeds(tmp_path / "home")
    assert speeds == speeds_of(document)
    engine = next(side for side in document["training"][0]["sides"] if side["label"] == "engine fp32")
    assert speeds[0]["seconds"] == pytest.approx(1 / engine["tokens_per_second"]["median"])


def test_speeds_name_the_device_that_computed(document):
    where = document["machine"]["device"]
    assert where == device().type
    assert (document["machine"]["gpu"] is not None) == (where == "cuda")
    assert {row["device"] for row in speeds_of(document)} == {where}
    other = document | {"machine": document["machine"] | {"device": "mps"}}
    assert {row["device"] for row in speeds_of(other)} == {"mps"}


def test_plan_uses_the_speed_of_layers_that_are_not_compiled(document):
    other = copy.deepcopy(document)
    sides = other["training"][0]["sides"]
    sides.append(sides[0] | {"compiled": True, "tokens_per_second": {"median": 1e9}})
    assert speeds_of(other) == speeds_of(document)


def test_document_is_written_even_if_the_speeds_cannot_be_kept(document, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match=r"the file of speeds in '.*/home', for `plan`, cannot be written"):
        keep(document, home=tmp_path / "file" / "home", path=tmp_path / "here.json")
    assert json.loads((tmp_path / "here.json").read_text()) == document


def test_document_becomes_tables(document):
    machine, training, ratios = tables(document)
    assert "torch" in machine.notes[1]
    assert training.rows[0][0].text == "engine fp32"
    assert len(ratios.rows) == len(document["training"][0]["ratios"])


def test_wrong_question_is_rejected_before_measuring():
    with pytest.raises(UnknownName, match="overhead"):
        Question(what=("speed",))
    with pytest.raises(UnknownName, match="bf16"):
        Question(precisions=("fp16",))
    with pytest.raises(UnknownName, match="replay"):
        Question(methods=("repaly",))
    with pytest.raises(BadConfig, match="at least one pair"):
        Question(pairs=0)
    with pytest.raises(BadConfig, match="given a precision twice: fp32, fp32"):
        Question(precisions=("fp32", "fp32"))
    with pytest.raises(BadConfig, match="given a shape twice: micro, micro"):
        Question(shapes=(MICRO, MICRO))
    with pytest.raises(BadConfig, match="no shape to pre-train"):
        Question(shapes=())


@pytest.mark.parametrize("folder", ["here", "/"])
def test_output_that_is_a_folder_is_rejected(folder, tmp_path):
    (tmp_path / "here").mkdir()
    with pytest.raises(BadConfig, match=rf"{folder}' is a folder"):
        check_output(tmp_path / folder)
    check_output(tmp_path / "here" / "new.json")
