"""Documents of one text inside another."""

from __future__ import annotations

from ctbench.data.overlap import Documents


def remembered(texts, **options):
    known = Documents(**options)
    assert list(known.remember(texts)) == texts
    return known


def test_shares_are_exact_for_texts_that_fit_and_level_case_and_space():
    known = remembered([f"text number {number}" for number in range(100)])
    assert known.share_of([f"Text  NUMBER {number}" for number in range(50, 150)]) == 0.5
    assert known.share_of(["another"]) == 0.0
    assert known.share_of([]) == 0.0


def test_a_large_text_is_sampled_by_content_and_its_share_is_about_right():
    known = remembered([f"text number {number}" for number in range(20_000)], max_kept=1_000)
    assert len(known._kept) <= 1_000
    share = known.share_of([f"text number {number}" for number in range(10_000, 40_000)])
    assert abs(share - 1 / 3) < 0.07
