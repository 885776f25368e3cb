"""Progress of long work: a bar on a terminal, otherwise one line per minute on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

INTERVAL = 60.0
"""Seconds between two lines."""

_under_way: list[Lines] = []  # only the last entry prints: the innermost work


class Lines:
    """Prints a line on stderr every `INTERVAL` seconds, from its own thread, between `start` and `stop`.

    Args:
        text: function that returns the text of a line; the time since `start` is appended.

    """

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start printing; a second call changes nothing."""
        if self._thread is None:
            self._began = time.monotonic()
            self._stopped.clear()
            self._thread = threading.Thread(target=self._print, name="progress", daemon=True)
            _under_way.append(self)
            self._thread.start()

    def stop(self) -> None:
        """Stop printing; without a `start` nothing happens."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None
            _under_way.remove(self)

    def _print(self) -> None:
        while not self._stopped.wait(INTERVAL):
            if _under_way[-1] is self:
                with suppress(OSError, ValueError):  # the reader may be gone, or stderr closed
                    print(
                        f"{self._text()}, {_duration(time.monotonic() - self._began)}",
                        file=sys.stderr,
                        flush=True,
                    )


class Bar(Progress):
    """A progress bar of rich; if its console is no terminal, lines on stderr instead (see `Lines`).

    Args:
        columns: columns of the bar; by default name, bar, count and remaining time.
        show: False shows neither a bar nor lines.
        transient: remove the bar at the end.

    """

    def __init__(self, *columns: ProgressColumn, show: bool = True, transient: bool = False) -> None:
        usual = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        super().__init__(*(columns or usual), disable=True, transient=transient)
        self.disable = not show or not self.on_terminal
        self._lines = Lines(self._text) if show and not self.on_terminal else None

    @property
    def on_terminal(self) -> bool:
        """Whether bars can be drawn."""
        return self.console.is_jupyter or is_terminal(self.console.file)

    def start(self) -> None:
        """Show the bar, or start the lines."""
        super().start()
        if self._lines is not None:
            self._lines.start()

    def stop(self) -> None:
        """Remove the bar, or stop the lines."""
        if self._lines is not None:
            self._lines.stop()
        super().stop()

    def _text(self) -> str:
        if not self.tasks:
            return "under way"
        task = self.tasks[-1]
        metrics = task.fields.get("metrics", "")
        count = f"{task.completed:,.0f}" + ("" if task.total is None else f" of {task.total:,.0f}")
        return ", ".join(part for part in (f"{task.description}: {count}", metrics) if part)


@contextmanager
def lines_meanwhile(name: str) -> Iterator[None]:
    """Lines on stderr during the block, if stderr is no terminal; those of a `Bar` inside take precedence."""
    lines = Lines(lambda: name)
    if not is_terminal(sys.stderr):
        lines.start()
    try:
        yield
    finally:
        lines.stop()


def is_terminal(stream: Any) -> bool:
    """Whether a stream is an open terminal."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
