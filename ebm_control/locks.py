"""Locks that let only one process at a time write to a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ebm_control.checks import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_held: set[int] = set()


def _close_in_child() -> None:
    """Release the parent's locks in a child process: a worker that outlives a killed parent would keep them."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` during the block; no other process or block can hold it meanwhile.

    The lock belongs to the operating system: it ends with the process, and a file left by a killed process locks
    nothing. The file contains the id of the process that holds it and is removed at the end of the block. If the
    system or the file system has no such locks (Windows, some network drives), nothing is locked.

    Args:
        path: the lock file; its folder is created if it does not exist.
        what: name of the argument for the folder, used in the message.

    Raises:
        InputError: another process, or another block of this one, holds the lock.
        OSError: the lock file cannot be written.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = _acquire(path, what)
    _held.add(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        if descriptor in _held:  # False in a forked process
            _held.remove(descriptor)
            # Removed while the lock is held, so that no process can take a lock on the removed file and rely on it.
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _acquire(path: Path, what: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise InputError(
                f"{what}: expected a folder that no other process writes to, got {path.parent}, "
                f"which process {holder if holder.isdecimal() else '(unknown)'} is using"
            ) from None
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                os.close(descriptor)
                raise
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # the last holder removed the file after it was opened here


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
