from __future__ import annotations

from method_helpers import build, naive, same_state, train_stream

from ctbench.method import Method


def test_naive_is_the_engines_own_default(small):
    ours = train_stream(naive(), small.base, small.stream, small.blocks)
    theirs = train_stream(Method(), small.base, small.stream, small.blocks)
    assert all(same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True))
    assert not same_state(ours[0][0], ours[1][0])
    assert not same_state(ours[1][0], ours[2][0])


def test_naive_adds_and_keeps_nothing(small):
    assert same_state(build(naive(), small.base, small.stream), small.base)
    for _, memory, record in train_stream(naive(), small.base, small.stream, small.blocks)[1:]:
        assert memory == {}
        assert record.forward_tokens == record.tokens
        assert record.losses.keys() == {"loss", "lm"}
