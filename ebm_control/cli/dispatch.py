"""Dispatch of `ebm-control`, with a one-line message for every error that a user can fix."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated

import rich
import torch
import tyro
from rich.console import Console
from rich.markup import escape

from ebm_control.checks import InputError
from ebm_control.cli.commands import Collect, Predict, Train, use_threads
from ebm_control.cli.continual import Continual
from ebm_control.cli.demo import Demo
from ebm_control.cli.images import Images
from ebm_control.cli.online import Online
from ebm_control.cli.plan import Plan
from ebm_control.interrupts import exit_status, signal_name, termination_raises
from ebm_control.progress import lines_meanwhile
from ebm_control.training.checkpoint import CheckpointError, one_line
from ebm_control.training.guard import DivergenceError

Command = (
    Annotated[Collect, tyro.conf.subcommand("collect")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Online, tyro.conf.subcommand("online")]
    | Annotated[Images, tyro.conf.subcommand("images")]
    | Annotated[Continual, tyro.conf.subcommand("continual")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


BROKEN_PIPE = 141  # exit status of a process whose reader has closed the pipe, as shells show it
CORES = 4  # for the networks of images


def dispatch(arguments: Sequence[str]) -> None:
    """Parse the arguments, run the command and print its summary.

    Errors of input, files or memory exit with status 2 and one line; Ctrl-C exits with 130 and one line, SIGTERM with
    143 and one line.
    """
    try:
        with termination_raises(), _one_error_alone():
            try:
                _run(arguments)
            finally:
                sys.stdout.flush()  # a closed pipe raises here, not at the end of the process
    except KeyboardInterrupt as stop:
        _say(f"stopped by {signal_name(stop)}", stop)
        sys.exit(exit_status(stop))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except (InputError, CheckpointError, DivergenceError) as error:
        _say(f"error: {error}", error)
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        _say(f"error: {place}{error.strerror or error}", error)
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        _say(f"error: memory: expected enough of it, got {one_line(error)}; ask for less at once", error)
    else:
        return
    sys.exit(2)


def _run(arguments: Sequence[str]) -> None:
    command = tyro.cli(
        Command,
        prog="ebm-control",
        description="Energy-based models for control: collect rollouts, train an energy, predict, plan, learn online; "
        "images by the same sampler; classes that arrive one task at a time. "
        "`ebm-control --version` prints the version.",
        args=arguments,
    )
    rich.reconfigure(stderr=True)  # for progress bars: stdout has only the summary
    use_threads(CORES if isinstance(command, Images | Continual) else 1)
    with lines_meanwhile(f"ebm-control {type(command).__name__.lower()}"):
        summary = command.run()
    if not isinstance(command, Demo):
        Console().print_json(data={k: v for k, v in summary.items() if isinstance(v, int | float | str)})


@contextmanager
def _one_error_alone() -> Iterator[None]:
    """Hide file errors of threads and finalisers: they follow from the error that ends the command."""
    in_threads, in_finalisers = threading.excepthook, sys.unraisablehook

    def of_thread(found: threading.ExceptHookArgs) -> None:
        if not issubclass(found.exc_type, OSError):
            in_threads(found)

    def of_finaliser(found: sys.UnraisableHookArgs) -> None:
        if not isinstance(found.exc_value, OSError):
            in_finalisers(found)

    threading.excepthook, sys.unraisablehook = of_thread, of_finaliser
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = in_threads, in_finalisers


def _say(words: str, error: BaseException) -> None:
    """Print one line on stderr: `words`, and the notes attached to the error."""
    line = " ".join("; ".join([words, *getattr(error, "__notes__", [])]).split())
    head, _, rest = line.partition(":") if line.startswith("error:") else ("", "", line)
    with suppress(OSError):  # stderr may be closed
        mark = f"[bold red]{head}:[/]" if head else ""
        Console(stderr=True).print(f"{mark}{escape(rest)}", highlight=False, soft_wrap=True)


def _is_of_memory(error: BaseException) -> bool:
    # Torch has an exception class for out of memory on a device; on the CPU only the message shows it.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
