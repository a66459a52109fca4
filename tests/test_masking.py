from __future__ import annotations

import numpy as np
import torch

from ctbench.masking import Masker, replace_rows
from ctbench.randomness import make_generator, seed_from

MASKER = Masker(objective="mlm", mask_fraction=0.25, mask_id=4, vocabulary=500, special_ids=(0, 1, 2, 3, 4))


def blocks(rows: int = 200, length: int = 40) -> np.ndarray:
    found = make_generator(0, [], "blocks").integers(5, 500, (rows, length))
    found[:, 0] = 2
    return found


def test_masks_have_a_fixed_number_per_row_and_spare_special_tokens():
    given = blocks()
    before = given.copy()
    batch = MASKER(given, make_generator(0, [], "masks"))
    assert np.array_equal(given, before)
    rows = batch.positions // 40
    assert torch.equal(torch.bincount(rows), torch.full((200,), 10))
    assert not (batch.positions % 40 == 0).any()
    assert torch.equal(batch.targets, torch.from_numpy(given).flatten()[batch.positions])


def test_four_fifths_show_the_mask_and_a_tenth_stays():
    given = blocks()
    batch = MASKER(given, make_generator(0, [], "masks"))
    shown = batch.input_ids.flatten()[batch.positions]
    assert abs((shown == 4).float().mean() - 0.8) < 0.03
    assert abs((shown == batch.targets).float().mean() - 0.1) < 0.03
    untouched = torch.ones(given.size, dtype=torch.bool)
    untouched[batch.positions] = False
    assert torch.equal(batch.input_ids.flatten()[untouched], torch.from_numpy(given).flatten()[untouched])


def test_causal_batches_predict_every_next_token():
    masker = Masker(objective="clm", mask_fraction=0.5, mask_id=-1, vocabulary=500, special_ids=())
    given = blocks(3, 5)
    batch = masker(given, make_generator(0, [], "masks"))
    assert batch.targets.tolist() == given[:, 1:].flatten().tolist()
    assert batch.positions.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]


def test_replaced_rows_carry_their_own_predictions():
    first = MASKER(blocks(6), make_generator(0, [], "one"))
    second = MASKER(blocks(2) + 1, make_generator(0, [], "two"))
    mixed = replace_rows(first, second)
    assert mixed.input_ids.shape == first.input_ids.shape
    assert torch.equal(mixed.input_ids[4:], second.input_ids)
    assert torch.equal(mixed.positions[:40], first.positions[:40])
    assert torch.equal(mixed.positions[40:], second.positions + 4 * 40)
    assert torch.equal(mixed.targets[40:], second.targets)


def test_purposes_are_separate_streams_and_scope_has_no_order():
    assert seed_from(0, ["a", "b"], "x") == seed_from(0, ["b", "a"], "x")
    assert (
        len({seed_from(0, ["a"], "x"), seed_from(1, ["a"], "x"), seed_from(0, ["b"], "x"), seed_from(0, ["a"], "y")})
        == 4
    )
