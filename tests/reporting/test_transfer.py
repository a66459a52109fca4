"""Transfer per domain, against matrices worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fake_results import fake_record, fake_result, with_matrix

from ctbench import compare
from ctbench.reporting.compare import Comparison
from ctbench.reporting.transfer import backward, forward, own
from ctbench.results.format import result_from

HAND = np.array([[0.5, 0.6, 0.7], [0.9, 0.55, 0.6], [0.8, 0.95, 0.75], [0.6, 0.85, 1.0]])


def test_transfer_equals_values_computed_by_hand() -> None:
    assert own(HAND) == pytest.approx([0.4, 0.35, 0.3])
    assert forward(HAND) == pytest.approx([math.nan, -0.05, (-0.1 + 0.05) / 2], nan_ok=True)
    assert backward(HAND) == pytest.approx([-0.3, -0.1, math.nan], nan_ok=True)


def test_one_domain_has_neither_forward_nor_backward_transfer() -> None:
    one = np.array([[0.5], [0.75]])
    assert own(one) == pytest.approx([0.25])
    assert np.isnan(forward(one)).all()
    assert np.isnan(backward(one)).all()


def texts(found: Comparison, kind: int) -> dict[str, list[str]]:
    table = found.tables()[kind]
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def hand(seed: int, hole: tuple[int, int] | None = None) -> object:
    rows = HAND - 0.01 * seed
    if hole:
        rows[hole] = math.nan
    return result_from(with_matrix(fake_record(num_tasks=3, seed=seed), rows))


def test_tables_hold_means_deviations_and_n() -> None:
    found = compare([hand(0), hand(1)], view="transfer")
    assert [table.title.partition(":")[0] for table in found.tables()] == [
        "own stage",
        "forward transfer",
        "backward transfer",
    ]
    assert texts(found, 0) == {"naive": ["2", "+40.0 ± 0.0", "+35.0 ± 0.0", "+30.0 ± 0.0", "+35.0 ± 0.0"]}
    assert texts(found, 1) == {"naive": ["2", "–", "-5.0 ± 0.0", "-2.5 ± 0.0", "-3.3 ± 0.0"]}
    assert texts(found, 2) == {"naive": ["2", "-30.0 ± 0.0", "-10.0 ± 0.0", "–", "-20.0 ± 0.0"]}
    assert found.tables()[1].columns[-1] == "FWT_all"
    assert found.tables()[2].columns[-1] == "BWT"


def test_total_equals_the_mean_of_the_leaderboard_with_unequal_orders_too() -> None:
    records = [fake_record(seed=seed, order=order) for seed, order in [(0, 0), (1, 0), (0, 3)]]
    results = [result_from(record) for record in records]
    told = "orders with unequal numbers of seeds"
    assert told in "".join(compare(results, view="transfer").tables()[0].notes)
    assert told not in "".join(compare(results[:2], view="transfer").tables()[0].notes)
    for kind, metric in ((1, "FWT_all"), (2, "BWT")):
        plain = [result.metrics[metric] for result in results]
        mean = (np.mean(plain[:2]) + plain[2]) / 2
        assert abs(mean - np.mean(plain)) > 1e-4  # else the test would tell nothing
        record = compare(results, view="transfer").record()["tables"][kind]
        assert record["rows"][0]["total"]["mean"] == pytest.approx(mean)
        (board,) = compare(results, metric=metric).boards
        assert board.rows[0].scores[metric].mean == pytest.approx(mean)


def test_means_over_incomplete_sets_are_undefined_unless_partial() -> None:
    results = [hand(0), hand(1, hole=(2, 0)), hand(2, hole=(1, 1))]
    refused = compare(results, view="transfer")
    assert texts(refused, 1)["naive"] == ["3", "–", "–", "-2.5 ± 0.0", "–"]
    assert texts(refused, 0)["naive"][1:4] == ["+40.0 ± 0.0", "+35.0 ± 0.0", "+30.0 ± 0.0"]
    allowed = compare(results, view="transfer", partial=True)
    assert texts(allowed, 1)["naive"][2] == "≈-5.0 ± 0.0 (n = 2)"
    assert texts(allowed, 1)["naive"][4].startswith("≈")
    assert any(note.startswith("≈ partial") for note in allowed.tables()[1].notes)
    assert not any(note.startswith("≈") for note in allowed.tables()[0].notes)
    (entry,) = allowed.record()["tables"][1]["rows"]
    assert entry["domains"]["kitchen"]["is_partial"]
    assert entry["domains"]["kitchen"]["n"] == 2


def test_other_orders_count_for_domains_that_have_the_number() -> None:
    results = [fake_result("naive", seed=0, order=order, num_tasks=3) for order in (0, 2)]
    first = [result.stream.domains[0] for result in results]
    assert first[0] != first[1]
    found = compare(results, view="transfer")
    domains = found.tables()[1].columns[2:-1]
    assert domains == results[0].stream.domains
    for domain, text in zip(domains, texts(found, 1)["naive"][1:-1], strict=True):
        assert text.endswith("(n = 1)") is (domain in first)


def test_joint_has_no_transfer() -> None:
    found = compare([fake_result("joint", shape="joint"), fake_result("naive")], view="transfer")
    assert set(texts(found, 0)["joint"][1:]) == {"–"}
    assert "–" not in texts(found, 0)["naive"]
