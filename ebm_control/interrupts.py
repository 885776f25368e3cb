"""Defers Ctrl-C and SIGTERM to a point where a run can stop: between two updates, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_Handler = Callable[[int, FrameType | None], object]


class Terminated(KeyboardInterrupt):
    """SIGTERM within `termination_raises`; to be handled wherever Ctrl-C is."""


def exit_status(error: KeyboardInterrupt) -> int:
    """Exit status of a process that was ended by the signal behind `error`: 143 for SIGTERM, 130 for Ctrl-C."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def signal_name(error: KeyboardInterrupt) -> str:
    """Name of the signal behind `error`, for messages."""
    return "SIGTERM" if isinstance(error, Terminated) else "Ctrl-C"


@contextmanager
def termination_raises() -> Iterator[None]:
    """SIGTERM raises `Terminated` within the block. For programs; a library leaves the signal unchanged.

    Outside the main thread this does nothing, because Python handles no signals there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer SIGINT and SIGTERM to the end of the block, so that its work is completed.

    At the end the previous handler is called: Python's own raises `KeyboardInterrupt` there, in the `with` statement. A
    second signal while one is deferred is not deferred, so that a block that hangs can be stopped. A signal without a
    handler in Python (by default SIGTERM, which ends the process) is left unchanged, as are all signals outside the
    main thread. Blocks may be nested; the outermost one counts.
    """
    if threading.current_thread() is not threading.main_thread() or _Deferred.current is not None:
        yield
        return
    deferred = _Deferred()
    try:
        deferred.begin()
        yield
    finally:
        deferred.end()


def signal_waits() -> bool:
    """Whether a signal has come within the current block of `uninterrupted`, so that loops can end early."""
    return _Deferred.current is not None and _Deferred.current.waiting is not None


class _Deferred:
    """Signal handlers that store the first signal; once closed they only pass signals on."""

    current: _Deferred | None = None

    def __init__(self) -> None:
        self.before: dict[int, _Handler] = {}
        self.waiting: tuple[int, FrameType | None] | None = None

    def begin(self) -> None:
        _Deferred.current = self
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self.before[number] = handler
                signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _Deferred.current is self and self.waiting is None:
            self.waiting = (number, frame)
            return
        self.waiting = None
        self.before[number](number, frame)

    def end(self) -> None:
        _Deferred.current = None
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.waiting is not None:
            number, frame = self.waiting
            self.before[number](number, frame)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
