"""Commands and calls in separate processes, forked from one that has already imported everything.

A new interpreter needs seconds for imports, which is too long for thousands of tries. Forked processes do not cover
signals that arrive during imports.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
ROOM = 8 << 30  # extra bytes of address space: a damaged size must not exhaust the machine's memory
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Ending:
    """End of a process.

    Attributes:
        code: exit status; minus the signal's number if a signal ended it.
        said: standard output.
        complained: standard error.
        hung: whether it was killed because it did not end in time.

    """

    code: int
    said: str
    complained: str
    hung: bool = False


class Running:
    """A call that runs in a process with its own session.

    Args:
        call: the call; `SystemExit` and exceptions end the process as they would end an interpreter.
        largest_file: maximum size of a file in bytes, as on a disk that fills up; None for no limit.

    """

    def __init__(self, call: Callable[[], object], largest_file: int | None = None) -> None:
        ready, ready_in = os.pipe()
        out, out_in = os.pipe()
        err, err_in = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become(call, (ready_in, out_in, err_in), largest_file)
        for end in (ready_in, out_in, err_in):
            os.close(end)
        os.read(ready, 1)
        os.close(ready)
        self._pipes: dict[int, list[bytes]] = {out: [], err: []}
        self._open = set(self._pipes)

    def wait(self, seconds: float) -> bool:
        """Whether the process ends within `seconds`; its output is read meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            for end in select.select(list(self._open), [], [], min(0.02, max(left, 0)))[0]:
                self._read(end)
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
            if left <= 0:
                return False

    def send(self, what: signal.Signals) -> None:
        """Send a signal; safe even if the process has ended, as it has not been reaped."""
        os.kill(self.pid, what)

    def end(self, seconds: float) -> Ending:
        """Wait, kill the rest of its session, and return its ending."""
        hung = not self.wait(seconds)
        kill_session(self.pid)
        _, status = os.waitpid(self.pid, 0)
        for end in tuple(self._open):
            while end in self._open and select.select([end], [], [], 0)[0]:
                self._read(end)
            os.close(end) if end in self._open else None
        out, err = (b"".join(parts).decode(errors="replace") for parts in self._pipes.values())
        return Ending(os.waitstatus_to_exitcode(status), out, err, hung)

    def _read(self, end: int) -> None:
        content = os.read(end, 65536)
        if content:
            self._pipes[end].append(content)
        else:
            self._open.discard(end)
            os.close(end)


def run(call: Callable[[], object], seconds: float = 120.0, largest_file: int | None = None) -> Ending:
    """Run a call in its own process to its end."""
    return Running(call, largest_file).end(seconds)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress output and warnings within the block."""
    with open(os.devnull, "w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield


def kill_session(leader: int) -> None:
    """Kill a process and the workers that it started."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def isolated(
    work: Callable[[T], Any], items: Sequence[T], seconds: float, died: Callable[[T, str], Any]
) -> Iterator[Any]:
    """Results of `work` for each item, in separate processes: a crash or hang affects only its own item.

    Args:
        work: returns a result that can be pickled.
        items: the items, in order.
        seconds: time limit per item.
        died: builds the result of an item whose process crashed or hung, from the item and the reason.

    """
    first = 0
    while first < len(items):
        end, end_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            _work_off(work, items[first:], end_in)
        os.close(end_in)
        while first < len(items):
            result = _receive(end, seconds)
            if isinstance(result, str):
                kill_session(pid)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                yield died(items[first], result if result == "hangs" else f"the process died ({status})")
                first += 1
                pid = 0
                break
            yield result[0]
            first += 1
        os.close(end)
        if pid:
            os.waitpid(pid, 0)


def _become(call: Callable[[], object], ends: tuple[int, int, int], largest_file: int | None) -> NoReturn:
    """Body of the child process: set streams, signals and limits, run the call, exit with its status."""
    code = 1
    try:
        os.setsid()
        ready, out, err = ends
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        os.write(ready, b".")
        code = _status_of(call)
    finally:
        os._exit(code)


def _status_of(call: Callable[[], object]) -> int:
    """Exit status of a call, as an interpreter would return it."""
    code = 0
    try:
        call()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    threading._shutdown()  # type: ignore[attr-defined]
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _work_off(work: Callable[[T], Any], items: Sequence[T], end: int) -> NoReturn:
    """Body of a worker process: process the items and send each result."""
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        limit = _address_space() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for item in items:
            content = pickle.dumps((work(item),))
            os.write(end, struct.pack("<Q", len(content)))
            for first in range(0, len(content), 65536):
                os.write(end, content[first : first + 65536])
    finally:
        os._exit(0)


def _receive(end: int, seconds: float) -> tuple[Any] | str:
    """The next result, or the reason why there is none: "ends" or "hangs"."""
    content, wanted, deadline = b"", 8, time.monotonic() + seconds
    while True:
        if not select.select([end], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return "hangs"
        part = os.read(end, wanted - len(content))
        if not part:
            return "ends"
        content += part
        if len(content) == 8 and wanted == 8:
            wanted = 8 + struct.unpack("<Q", content)[0]
        if len(content) == wanted and wanted > 8:
            return pickle.loads(content[8:])


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
