"""What tests of several folders share."""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
FORMS: dict[str, Callable[[Tensor], Any]] = {
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "array": lambda x: x.numpy(),
    "big-endian array": lambda x: x.numpy().astype(">f8"),
    "reversed view": lambda x: x.flip(0).numpy()[::-1],
    "list": lambda x: x.tolist(),
    "with a gradient": lambda x: x.clone().requires_grad_(),
}
"""The same figures in every form that a caller may have them in."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


class Zero(nn.Module):
    """No tilt: the base is the energy. `outputs` energies of an image, or one for every position."""

    def __init__(self, outputs: int | None = None) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return 0 * x[..., :1] if self.outputs is None else x.new_zeros(len(x), self.outputs)


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, all through containers of tensors and numbers."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def assert_equal_up_to_rounding(
    found: Tensor | np.ndarray | float, expected: Tensor | np.ndarray | float, ulps: int = 32
) -> None:
    """Two ways to the same figures: another batch size, another layout, one sum or two, a row alone.

    Kernels choose the order of their sums by the shape, the strides and the instruction set of the processor,
    so that last bits differ from machine to machine. The tolerance is `ulps` roundings of the largest figure.
    The same way taken twice (a seed, a resumed run) has equal bits and is not compared by this.
    """
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=ulps * torch.finfo(expected.dtype).eps * scale)


def lines_of(call: Callable[[], object]) -> int:
    """Lines of Python that a call runs: a figure of its cost that no other process changes."""
    count, before = 0, sys.gettrace()

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@contextmanager
def full_disk(kind: str, folder: Path, room: int = 60_000) -> Iterator[None]:
    """Within it about `room` bytes can be written in `folder`: on a real small disk, or by a limit on files.

    A disk takes the right to mount one; the limit works for any user.
    """
    if kind == "file size limit":
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room // 2, old[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        return
    filler = folder / "filler"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize
    filler.write_bytes(bytes(free - room))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[None]:
    """A file system of its own at `folder`; skips the test where mounting is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# Importing torch takes seconds: one process does it, and every other is forked from it. The optimisers import
# `torch._dynamo` when they are first made.
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["ebm_control.cli.dispatch", "torch._dynamo", "tests.helpers"])


class Forked:
    """Code that runs as the whole of a process, as `python -c code arguments` but for the seconds of imports.

    Signals, exit status and output are those of an interpreter; `atexit` is not reached. With a `session` of its
    own it leads a group of processes, which can be sent a signal as a whole.
    """

    def __init__(self, code: str, *arguments: str, cwd: Path = ROOT, session: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        for path in self._streams:
            path.touch()
        given = (code, arguments, cwd, dict(os.environ), self._streams, session)
        self._process = _server.Process(target=_become, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def read(self) -> tuple[str, str]:
        """What has been written to stdout and stderr."""
        return tuple(path.read_text() for path in self._streams)

    def communicate(self, timeout: float = 200) -> tuple[str, str]:
        """Wait for the end, and give what was written to stdout and stderr."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"still running after {timeout} s; so far {self.read()}")
        return self.read()


def _become(
    code: str,
    arguments: tuple[str, ...],
    cwd: Path,
    environment: dict[str, str],
    streams: list[Path],
    session: bool,
) -> None:
    if session:
        os.setsid()
    for number, path in zip((1, 2), streams, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    torch.set_num_threads(1)
    multiprocessing.set_start_method(
        None, force=True
    )  # that of an interpreter, not of whom it was forked from
    sys.argv = ["-c", *arguments]
    main = sys.modules["__main__"] = ModuleType(
        "__main__"
    )  # where workers look for what they are sent by name
    exec(compile(code, "<code>", "exec"), main.__dict__)
