from __future__ import annotations

import signal
import threading

import pytest

from ctbench.machine.interrupts import INTERRUPTS, Interrupted, deferring, interruptible

pytestmark = pytest.mark.usefixtures("no_signal_ignored")


@pytest.mark.parametrize("number", INTERRUPTS)
def test_a_signal_raises_and_the_handlers_of_before_are_put_back(number):
    before = [signal.getsignal(each) for each in INTERRUPTS]
    with interruptible() as handler, pytest.raises(Interrupted) as stop:
        signal.raise_signal(number)
    assert stop.value.number == handler.number == number
    assert [signal.getsignal(each) for each in INTERRUPTS] == before


def look_and_raise_again(seen):
    with deferring() as interrupt:
        seen.append(interrupt.number)
        signal.raise_signal(signal.SIGTERM)
        seen.append(interrupt.number)
        signal.raise_signal(signal.SIGINT)


def test_the_first_signal_waits_for_a_deferring_block_and_the_second_does_not():
    seen: list[int] = []
    with interruptible(), pytest.raises(Interrupted) as stop:
        look_and_raise_again(seen)
    assert seen == [0, signal.SIGTERM]
    assert stop.value.number == signal.SIGINT


def interrupted_block(*, fails):
    with deferring():
        signal.raise_signal(signal.SIGTERM)
        if fails:
            raise ValueError("of the block")


@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_that_a_deferring_block_ignores_is_raised_when_it_ends(fails):
    with interruptible(), pytest.raises(Interrupted) as stop:
        interrupted_block(fails=fails)
    assert isinstance(stop.value.__cause__, ValueError) == fails


def test_a_block_without_a_signal_ends_as_it_would():
    with interruptible(), deferring():
        pass
    with pytest.raises(ValueError, match="own"), interruptible(), deferring():
        raise ValueError("its own")


def test_a_handler_that_acts_once_ignores_the_second_signal():
    with interruptible(once=True) as handler:
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert handler.number == signal.SIGTERM


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as handler:
            signal.raise_signal(signal.SIGHUP)
        assert handler.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_a_handler_of_ours_nothing_is_deferred():
    with deferring() as interrupt:
        with pytest.raises(KeyboardInterrupt):
            signal.default_int_handler(signal.SIGINT, None)
        assert interrupt.number == 0


def test_other_threads_install_nothing():
    found = []

    def install():
        with interruptible(), deferring() as interrupt:
            found.append((signal.getsignal(signal.SIGTERM), interrupt.number))

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    assert found == [(signal.getsignal(signal.SIGTERM), 0)]
