"""Figures beside the scores, against numbers worked out by hand, signs included."""

from __future__ import annotations

import math

import pytest
from fake_results import fake_record, fake_result

from ctbench import compare
from ctbench.errors import BadResult, UnknownName
from ctbench.reporting.summary import loss_table
from ctbench.results.figures import FIGURES
from ctbench.results.format import result_from


def value(name, result, joint=None):
    return FIGURES[name].function(result, joint)


def with_general(losses, method="naive", seed=0):
    bits = [None if loss is None else loss / 2 for loss in losses]
    record = fake_record(method, num_tasks=2, seed=seed)
    return result_from(record | {"general_loss": losses, "general_bits": bits})


def test_general_is_the_change_from_row_0_and_above_0_where_it_is_forgotten():
    assert value("general", with_general([2.0, 2.5, 3.25])) == 1.25
    assert value("general", with_general([2.0, 1.0, 1.5])) == -0.5
    assert value("general_bits", with_general([2.0, 2.5, 3.0])) == 1.5


def test_general_is_missing_where_a_row_is_missing_or_nothing_was_measured():
    assert math.isnan(value("general", with_general([2.0, 2.5, None])))
    assert value("general", with_general([2.0, None, 2.5])) == 0.5
    assert math.isnan(value("general", fake_result(num_tasks=2)))


def test_a_file_with_another_number_of_rows_is_corrupt():
    with pytest.raises(BadResult, match="general_loss: 3 numbers are needed"):
        with_general([2.0, 2.5])


def test_general_is_a_column_where_a_result_has_it_and_only_there():
    runs = [with_general([2.0, 2.5, 3.0 + seed / 10], seed=seed) for seed in range(2)]
    for columns in ("general", "figures", "all"):
        table = compare(runs, columns=columns).render("markdown")
        assert "general ↓" in table
        assert "+1.050 ± 0.071" in table
    assert "general ↓" not in compare(runs).render("markdown"), "nobody asked for it"
    assert "general ↓" not in compare([fake_result(num_tasks=2)], columns="figures").render("markdown")
    with pytest.raises(UnknownName, match="did you mean 'general'"):
        compare(runs, columns="generals")
    row = compare(runs).record()["tables"][0]["rows"][0]
    assert row["figures"]["general"] == pytest.approx(1.05)


def test_show_has_the_column_general_beside_the_losses_of_the_domains():
    table = loss_table(with_general([2.0, 2.5, 3.25]))
    assert table.columns[-1] == "general"
    assert [row[-1].text for row in table.rows] == ["2.000", "2.500", "3.250", "–"]
    assert "1.000 bits per byte in row 0, 1.625 in the last row" in table.notes[0]
    assert "general" not in loss_table(fake_result(num_tasks=2)).columns


def probed(*stages):
    record = fake_record("naive", num_tasks=3)
    for stage, losses in zip(record["stages"], stages, strict=True):
        stage |= {"probe_steps": [0, 1, 10], "probes": losses}
    return result_from(record)


def test_stability_gap_is_the_worst_inside_a_stage_minus_its_start():
    first, second = fake_record(num_tasks=3)["stream"]["domains"][:2]
    result = probed(
        {"general": [1.0, 9.0, 1.0]},
        {first: [2.0, 2.5, 1.5], "general": [1.0, 9.0, 1.0]},
        {first: [1.5, 1.25, 1.0], second: [3.0, 3.25, 4.0]},
    )
    assert value("stability_gap", result) == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    assert math.isnan(value("stability_gap", probed({}, {}, {})))
    assert math.isnan(value("stability_gap", probed({}, {first: [2.0, None, 1.0]}, {})))


def test_probes_of_another_number_than_their_steps_are_corrupt():
    with pytest.raises(BadResult, match="stage 2 was probed 3 times; as many losses are needed"):
        probed({}, {"general": [1.0]}, {})


def test_losses_of_another_number_than_their_points_are_corrupt():
    record = fake_record("naive", num_tasks=3)
    stage = record["stages"][1]
    stage["losses"] = {name: values[:-1] for name, values in stage["losses"].items()}
    with pytest.raises(BadResult, match=r"stage 2 logged \d+ points; every loss needs as many values"):
        result_from(record)
