"""Errors of the readers of damaged files, in one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ebm_control.checks import InputError
from ebm_control.extras import MissingExtraError


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn any error of the readers of damaged files, which may have many lines, into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({said(error)})") from error


@contextmanager
def prefixed(where: str) -> Iterator[None]:
    """Put `where` before the message of an `InputError`, but for a missing package, which is no fault of the data."""
    try:
        yield
    except MissingExtraError:
        raise
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def said(error: Exception) -> str:
    """Type and message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
