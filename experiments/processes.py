"""Worker processes on every core that always end with the program, and one-line endings of programs."""

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
    """A pool with one single-threaded process per core; an exception in the block ends the processes.

    Running jobs are notified (`stopping`) and have `patience` seconds to save their work.
    """
    # A forked process cannot use a GPU if its parent has initialised CUDA.
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
    """Whether a job has finished without an error."""
    return future.done() and not future.cancelled() and future.exception() is None


def stopping() -> bool:
    """Whether the main program is about to end, for jobs that can save their work."""
    return _stop is not None and _stop.is_set()


_stop: Event | None = None


def _begin(stop: Event) -> None:
    """Set up a worker: signals are handled by the parent, and the worker exits if the parent is killed."""
    global _stop
    _stop = stop
    for number in (signal.SIGINT, signal.SIGTERM):  # both may be sent to the whole process group
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
        # Not by SIGTERM: a worker that was just forked still has its parent's handler, which prints a message.
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def as_program(main: Callable[[], object]) -> None:
    """Run `main`; bad input and system errors exit with one line and status 2, Ctrl-C with 130, SIGTERM with 143."""
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
