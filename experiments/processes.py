"""Jobs on every core, ended with the program however it ends, and programs that end with one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Any

import torch
from rich.console import Console

from ebm_control.checks import InputError
from ebm_control.interrupts import exit_status, termination_raises
from ebm_control.provenance import usable_cores


@contextmanager
def workers(patience: float = 0.0) -> Iterator[ProcessPoolExecutor]:
    """One process a core, one thread each; where the block is left by an exception they are ended.

    What is under way then is told so (`stopping`) and has `patience` seconds to save what it has.
    """
    # A forked process cannot use a GPU that its parent has looked at.
    context = multiprocessing.get_context("spawn" if torch.accelerator.is_available() else None)
    others, stop = set(multiprocessing.active_children()), context.Event()
    with ProcessPoolExecutor(
        usable_cores(), mp_context=context, initializer=_begin, initargs=(stop,)
    ) as pool:
        try:
            yield pool
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            _end([child for child in multiprocessing.active_children() if child not in others], patience)
            raise


def whole(future: Future[Any]) -> bool:
    """Whether a job has been done without an error."""
    return future.done() and not future.cancelled() and future.exception() is None


def stopping() -> bool:
    """Whether the program that this process works for is to end: for jobs that can save what they have."""
    return _stop is not None and _stop.is_set()


_stop: Event | None = None


def _begin(stop: Event) -> None:
    """Of each process: signals are the parent's to handle, and where the parent is killed nobody waits for results."""
    global _stop
    _stop = stop
    for number in (signal.SIGINT, signal.SIGTERM):  # both may be sent to the whole group
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end(processes: list[Any], patience: float) -> None:
    try:
        until = time.monotonic() + patience
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
    finally:
        # Not by SIGTERM: one that was forked a moment ago still has its parent's way to take it, and would say so.
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def as_program(main: Callable[[], object]) -> None:
    """Run `main`; bad input and errors of the system end it with one line and 2, Ctrl-C with 130, SIGTERM with 143."""
    try:
        with termination_raises():
            main()
    except (InputError, OSError) as error:
        _say("error", error)
        sys.exit(2)
    except KeyboardInterrupt as error:
        _say("stopped", error)
        sys.exit(exit_status(error))


def _say(what: str, error: BaseException) -> None:
    line = " ".join(f"{what}: {error}".split()) if str(error) else what
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)
