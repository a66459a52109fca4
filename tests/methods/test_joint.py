from __future__ import annotations

from dataclasses import replace

import torch
from method_helpers import make_loop, make_stream, naive, same_state, train_stream

from ctbench.plugins.find import get_method


def test_plan_has_one_stage_on_all_domains_and_nothing_in_between(tmp_path):
    plan = get_method("joint").plan(make_stream(tmp_path, num_domains=3))
    assert plan.stages == (("domain-1", "domain-2", "domain-3"),)
    assert plan.parents == (0,)
    assert plan.cells == ((0, 0, 0), (None, None, None), (None, None, None), (1, 1, 1))


def test_joint_on_one_domain_is_naive(small):
    alone = replace(small.stream, domains=small.stream.domains[:1])
    assert get_method("joint").plan(alone) == naive().plan(alone)
    joint, sequential = (
        train_stream(method, small.base, alone, small.blocks) for method in (get_method("joint"), naive())
    )
    assert same_state(joint[1][0], sequential[1][0])
    assert joint[1][2].losses == sequential[1][2].losses


def test_every_batch_has_equal_shares_of_the_domains(small):
    joint, apart = (make_loop(naive(), small.base, blocks).stage for blocks in (small.blocks, small.first))
    joint.start_step(0)
    apart.start_step(0)
    own = apart.blocks[:2]
    assert torch.equal(joint.blocks[::2], own)
    assert not any(torch.equal(row, other) for row in joint.blocks[1::2] for other in apart.blocks)
