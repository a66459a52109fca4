"""What a failed node takes along, and what is tried again; nothing is computed."""

from __future__ import annotations

import pytest

from ctbench.engine.failures import NodesFailed, Problem, problem_of, problem_of_death, without_paths
from ctbench.engine.identity import Arithmetic, BaseIdentity
from ctbench.engine.launchers.agenda import MAX_PASSED, Agenda
from ctbench.engine.node import Lookup, Node
from ctbench.errors import BadConfig, BadData, OutOfMemory, RunFailed

LOOKUP = Lookup(stream="small", recipe="", settings={}, order=0, model="tiny", online=False)
ARITHMETIC = Arithmetic(precision="fp32")


def node(number, *parents):
    identity = BaseIdentity(model="tiny", text="", recipe={}, arithmetic=ARITHMETIC, seed=number)
    return Node(identity=identity, lookup=LOOKUP, parents=parents, title=f"node {number}")


BASE = node(0)
ONE = node(1, BASE)
TWO = node(2, ONE)
OTHER = node(3, BASE)


def agenda(*todo, **options):
    events: list = []
    return Agenda(todo, listen=events.append, **options), events


def drain(made, *, failing=()):
    taken = []
    while (each := made.take(num_busy=0)) is not None:
        taken.append(each)
        if each in failing:
            made.fail(each, Problem(reason="oops"))
        else:
            made.finish(each)
    return taken


def test_the_longest_chain_goes_first_and_everything_is_computed():
    made, events = agenda(BASE, OTHER, ONE, TWO)
    assert drain(made) == [BASE, ONE, OTHER, TWO]
    assert made.num_left == 0
    assert made.failures == []
    assert [event.what for event in events[:2]] == ["start", "done"]


def test_nodes_that_other_processes_compute_go_after_those_that_nobody_does():
    claimed = {ONE.key}
    made, _ = agenda(BASE, ONE, TWO, OTHER, is_claimed=claimed.__contains__)
    assert drain(made) == [BASE, OTHER, ONE, TWO]
    made, _ = agenda(BASE, ONE, TWO, OTHER, is_claimed=lambda _key: True)
    assert drain(made) == drain(agenda(BASE, ONE, TWO, OTHER)[0]), "where all are claimed the order is as ever"


def test_two_runs_on_one_store_share_the_nodes_that_they_have_in_common():
    roots = [node(number) for number in range(100, 106)]
    held: set[str] = set()
    (first, _), (second, _) = (agenda(*roots, is_claimed=held.__contains__) for _ in range(2))
    taken = []
    for _ in range(3):
        for made in (first, second):
            taken.append(made.take(num_busy=0))
            held.add(taken[-1].key)
    assert taken == roots
    (alone, _), (blind, _) = (agenda(*roots) for _ in range(2))
    assert alone.take(num_busy=0) == blind.take(num_busy=0), "without a look at claims they take the same"


def test_few_of_many_claimed_nodes_are_looked_at():
    roots = [node(number) for number in range(1_000, 1_200)]
    looked = []
    made, _ = agenda(*roots, is_claimed=lambda key: looked.append(key) is None)
    assert made.take(num_busy=0) == roots[0]
    assert len(looked) == MAX_PASSED
    assert len(drain(made)) == len(roots) - 1


def test_a_failed_node_takes_along_what_needs_it_and_nothing_else():
    made, events = agenda(BASE, ONE, TWO, OTHER)
    assert drain(made, failing=[ONE]) == [BASE, ONE, OTHER]
    assert made.num_left == 0
    (failure,) = made.failures
    assert (failure.node, failure.reason, failure.dependents) == (ONE, "oops", (TWO,))
    assert [(event.node, event.dependents) for event in events if event.what == "failed"] == [(ONE, (TWO,))]


def test_a_node_whose_parent_the_store_has_survives_a_failed_grandparent():
    made, _ = agenda(BASE, TWO)
    assert drain(made, failing=[BASE]) == [BASE, TWO]


def test_the_first_failure_ends_the_launch_under_fail_fast():
    made, _ = agenda(BASE, ONE, OTHER, fail_fast=True)
    with pytest.raises(NodesFailed, match="stopped at the first failure") as error:
        drain(made, failing=[ONE])
    assert [failure.node for failure in error.value.failures] == [ONE]


@pytest.mark.parametrize("kind", ["memory", "killed"])
def test_a_node_without_memory_is_tried_once_more_alone_and_then_fails(kind):
    made, events = agenda(BASE, ONE, OTHER)
    made.finish(made.take(num_busy=0))
    assert made.take(num_busy=0) == ONE
    made.fail(ONE, Problem(kind=kind, reason="no memory"))
    assert made.take(num_busy=0) == OTHER
    assert made.take(num_busy=1) is None
    made.finish(OTHER)
    assert made.take(num_busy=0) == ONE
    assert made.take(num_busy=1) is None
    made.fail(ONE, Problem(kind=kind, reason="no memory"))
    assert made.num_left == 0
    assert [failure.reason for failure in made.failures] == ["no memory (tried twice, the second time alone)"]
    assert [event.what for event in events].count("retrying") == 1


def test_a_node_whose_worker_is_lost_is_tried_again_at_once_and_fails_the_third_time():
    made, events = agenda(BASE, ONE, OTHER)
    made.finish(made.take(num_busy=0))
    for _ in range(2):
        assert made.take(num_busy=1) == ONE  # beside another one
        made.fail(ONE, Problem(kind="lost", reason="gone"))
    assert [event.reason for event in events if event.what == "retrying"] == ["gone; tried again at once"] * 2
    assert made.take(num_busy=1) == ONE
    made.fail(ONE, Problem(kind="lost", reason="gone"))
    assert [failure.reason for failure in made.failures] == ["gone (3 workers were lost at it)"]
    assert drain(made) == [OTHER]
    assert made.num_left == 0


def test_a_node_that_is_tried_alone_and_loses_its_worker_keeps_nobody_waiting():
    made, _ = agenda(ONE, OTHER)
    first = made.take(num_busy=0)
    made.fail(first, Problem(kind="killed", reason="killed"))
    second = made.take(num_busy=0)
    made.finish(second)
    assert made.take(num_busy=0) == first
    made.fail(first, Problem(kind="lost", reason="gone"))
    assert drain(made) == [first]


def test_nothing_runs_beside_a_node_that_is_tried_alone():
    made, _ = agenda(BASE, ONE, OTHER)
    assert made.take(num_busy=0) == BASE
    made.fail(BASE, Problem(kind="killed", reason="killed"))
    assert made.take(num_busy=0) == BASE
    assert made.take(num_busy=1) is None
    made.finish(BASE)
    assert made.take(num_busy=0) == ONE


@pytest.mark.parametrize(("kind", "error"), [("call", BadConfig), ("disk", RunFailed)])
def test_a_wrong_call_and_a_full_disk_end_the_launch(kind, error):
    made, _ = agenda(BASE, ONE)
    with pytest.raises(error, match="why"):
        made.fail(made.take(num_busy=0), Problem(kind=kind, reason="why"))


def full_disk():
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        raise RunFailed("the store cannot be written: No space left on device") from error


def test_exceptions_are_told_apart():
    with pytest.raises(RunFailed) as full:
        full_disk()
    kinds = {
        "call": BadConfig("no"),
        "memory": OutOfMemory("no"),
        "disk": full.value,
        "node": BadData("no"),
    }
    assert {kind: problem_of(error).kind for kind, error in kinds.items()} == {kind: kind for kind in kinds}
    assert not problem_of(BadData("no")).trace
    assert "KeyError" in problem_of(KeyError("x")).trace
    assert problem_of(KeyError("x" * 5000)).reason.endswith("...")


def test_a_death_is_named_by_its_signal():
    assert "signal 9 (SIGKILL), probably by the system" in problem_of_death(-9).reason
    assert "signal 11 (SIGSEGV)" in problem_of_death(-11).reason
    assert problem_of_death(-11).is_retried
    assert "exit code 3" in problem_of_death(3).reason
    assert not problem_of_death(3).is_retried


def test_reasons_in_results_have_no_paths():
    told = "FileNotFoundError: [Errno 2] No such file or directory: '/home/me/my data/x.json' (mine.py, line 3)"
    assert "/home" not in without_paths("cannot read /home/me/x.json, nor /a/b/")
    assert without_paths(told) == told.replace("/home/me/my data/", "")
    assert without_paths("1/2 of a/b is in https://x.org/y/z") == "1/2 of a/b is in https://x.org/y/z"
