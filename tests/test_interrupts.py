"""Signals that wait for the end of a block."""

import signal
import threading

import pytest

from ebm_control.interrupts import Terminated, exit_status, signal_waits, termination_raises, uninterrupted
from tests.helpers import Forked

SIGNALS = pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)


@pytest.fixture(autouse=True)
def handlers():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with termination_raises():
        yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def block(*numbers, done):
    """Raise signals in turn, and keep what was reached."""
    with uninterrupted():
        for number in numbers:
            signal.raise_signal(number)
            done.append(number)


@SIGNALS
def test_a_signal_waits_for_the_end_of_the_block(number, error):
    done = []
    with pytest.raises(error):
        block(number, done=done)
    assert done == [number]


@SIGNALS
def test_handlers_are_as_before_after_a_block(number, error):
    before = signal.getsignal(number)
    with uninterrupted():
        assert signal.getsignal(number) != before
    assert signal.getsignal(number) == before
    with pytest.raises(error), uninterrupted():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
    with pytest.raises(error):
        signal.raise_signal(number)


@SIGNALS
def test_a_second_signal_does_not_wait(number, error):
    done = []
    with pytest.raises(error):
        block(signal.SIGINT, number, done=done)
    assert done == [signal.SIGINT]


def test_nested_blocks_wait_for_the_outermost():
    done = []

    def outer():
        with uninterrupted():
            block(signal.SIGINT, done=done)
            done.append("after the inner block")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == [signal.SIGINT, "after the inner block"]


def test_a_signal_is_not_lost_where_the_block_fails():
    def failing():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("of the block")

    with pytest.raises(KeyboardInterrupt) as caught:
        failing()
    assert isinstance(caught.value.__context__, ValueError)


def test_signals_that_are_ignored_or_end_the_process_are_left_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_the_command_line_sigterm_ends_the_process_at_once():
    code = (
        "import signal\n"
        "from ebm_control.interrupts import uninterrupted\n"
        "with uninterrupted(): signal.raise_signal(signal.SIGTERM); print('on')"
    )
    done = Forked(code)
    assert done.communicate()[0] == ""
    assert done.returncode == -signal.SIGTERM


def test_other_threads_have_no_signals_to_put_off():
    failures = []

    def work():
        try:
            with termination_raises(), uninterrupted():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


def test_exit_status_is_that_of_shells():
    assert exit_status(KeyboardInterrupt()) == 130
    assert exit_status(Terminated()) == 143


@SIGNALS
def test_a_loop_within_a_block_can_end_early(number, error):
    def loop(seen):
        with uninterrupted():
            for step in range(5):
                seen.append(signal_waits())
                if signal_waits():
                    break
                if step == 2:
                    signal.raise_signal(number)

    seen = []
    with pytest.raises(error):
        loop(seen)
    assert seen == [False, False, False, True]
    assert not signal_waits()
