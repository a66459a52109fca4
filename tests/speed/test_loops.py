from __future__ import annotations

import numpy as np
import pytest
from micro_bench import MICRO, WORK

from ctbench.errors import UnknownName
from ctbench.speed.loops import run_loop
from ctbench.speed.shapes import RandomBlocks, find_shape, make_model, random_texts
from ctbench.speed.work import Work, as_request


@pytest.fixture(scope="module")
def readings():
    return {loop: run_loop(as_request(loop, WORK)) for loop in ("engine", "bare", "trainer")}


def test_every_field_of_a_reading_is_positive(readings):
    for reading in readings.values():
        assert all(value > 0 for value in reading.values())
        assert reading["tokens_per_second"] == pytest.approx(reading["tokens"] / reading["seconds"])


def test_loops_train_on_the_same_number_of_tokens_and_predict_the_same_share(readings):
    assert {reading["tokens"] for reading in readings.values()} == {10 * 8 * 32}
    assert readings["engine"]["predicted_fraction"] == readings["bare"]["predicted_fraction"]
    assert readings["trainer"]["predicted_fraction"] == pytest.approx(
        readings["engine"]["predicted_fraction"], rel=0.15
    )


def test_loops_start_from_the_same_loss(readings):
    losses = [reading["loss"] for reading in readings.values()]
    assert max(losses) - min(losses) < 0.1
    assert np.log(120) - 1 < min(losses) < np.log(120) + 0.1


def test_method_is_timed_in_its_second_stage():
    reading = run_loop(as_request("engine", Work(**{**vars(WORK), "method": "replay"})))
    assert reading["tokens"] == 10 * 8 * 32
    assert reading["seconds"] > 0


def test_both_sides_train_the_same_model_with_its_own_dropout():
    model = make_model(MICRO)
    shares = {module.p for module in model.modules() if type(module).__name__ == "Dropout"}
    assert shares == {0.1}
    assert model.config.vocab_size == MICRO.vocabulary


def test_useful_work_counts_layers_and_predicted_tokens():
    shape = find_shape("22m")
    layers = 6 * 12 * 6 * 384**2
    attention = 6 * 2 * 6 * 128 * 384
    head = 6 * 0.15 * (30_522 * 384 + 384**2)
    assert shape.flops_per_token() == pytest.approx(layers + attention + head)


def test_random_text_follows_mandelbrots_law_and_is_deterministic():
    blocks = RandomBlocks(vocabulary=120, length=32, num_blocks=400)
    counts = np.bincount(blocks[np.arange(400)][:, 1:].ravel(), minlength=120)
    assert counts[:5].sum() == 0  # no special token inside the text
    assert counts[5] > 3 * counts[20] > 3 * counts[100] > 0
    assert (blocks[np.array([0])] == RandomBlocks(vocabulary=120, length=32, num_blocks=400)[np.array([0])]).all()
    assert [len(text.split()) for text in random_texts(120, [3, 1, 5], seed=0)] == [3, 1, 5]


def test_unknown_shape_is_rejected():
    with pytest.raises(UnknownName, match="tiny"):
        find_shape("tinny")
