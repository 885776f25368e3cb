"""The folder of a run: settings, events, checkpoints, figures and a summary."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ebm_control.checks import InputError, require
from ebm_control.locks import locked
from ebm_control.training.checkpoint import remove_checkpoints, remove_files
from ebm_control.training.logger import SUFFIX

SETTINGS, SUMMARY, LOCK = "settings.json", "summary.json", ".lock"


class RunFolder:
    """`settings.json`, `events/`, `checkpoints/`, `figures/` and `summary.json` under one path; a context manager.

    Within the block this process has the folder to itself. Settings and summary do not overwrite files of another
    command or of the user, and a folder that cannot be written to raises before the work. A block that fails before it
    has written a file leaves the folder as it was, without settings, or removes it if it did not exist.

    Args:
        path: created if it does not exist.
        settings: the command's dataclass, written when the block begins.

    Raises:
        InputError: no folder can be created at `path`, another process is using it, or it has the settings or the
            summary of another command.
        OSError: the folder is not writable.

    """

    def __init__(self, path: Path | str, settings: object) -> None:
        self.path, self._settings, self._open = Path(path), settings, ExitStack()
        self._before = _Before(self.path)

    def __enter__(self) -> RunFolder:
        self._before = _Before(self.path)
        try:
            return self._entered()
        except Exception:
            self._before.remove_folders()
            raise

    def _entered(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.figures.mkdir(exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"out: expected a folder, got {error.filename} ({error.strerror})") from error
        with ExitStack() as open_:
            open_.enter_context(_named(self.path))
            open_.enter_context(locked(self.path / LOCK, "out"))
            open_.push(self._failed)
            open_.callback(self._leave_no_empty_folder)
            self._require_own()
            self.write_json(SETTINGS, {"command": type(self._settings).__name__} | plain(self._settings))
            self._open = open_.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._open.__exit__(kind, error, trace)
        finally:
            if isinstance(error, Exception):
                self._before.remove_folders()

    @property
    def figures(self) -> Path:
        """Folder of the plots."""
        return self.path / "figures"

    def clear(self) -> None:
        """Remove only the checkpoints and events of an earlier run of the same command."""
        remove_checkpoints(self.path / "checkpoints")
        events = self.path / "events"
        for folder in (*(path for path in events.glob("*") if path.is_dir()), events):
            remove_files(folder, [path.name for path in folder.glob(f"events.out.tfevents.*{SUFFIX}")])

    def write_json(self, name: str, content: object) -> Path:
        """Write a JSON file atomically."""
        path = self.path / name
        with whole_file(path) as draft:
            draft.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        return path

    def summarise(self, summary: Mapping[str, Any]) -> Path:
        """Write `summary.json`."""
        return self.write_json(SUMMARY, plain(summary))

    def _require_own(self) -> None:
        """Raise `InputError` if settings or summary of another command would be overwritten."""
        settings, summary = self.path / SETTINGS, self.path / SUMMARY
        known = read_settings(self.path)
        if known is None:
            taken = [path.name for path in (settings, summary) if path.exists()]
            require(
                not taken,
                "out",
                given=f"{self.path}, where {' and '.join(taken)} would be overwritten, which no run here wrote",
                expected="a new folder or one of an earlier run",
            )
            return
        name = type(self._settings).__name__
        require(
            known.get("command", name) == name,
            "out",
            given=f"{self.path}, which is one of {known.get('command')}",
            expected=f"a new folder or one of an earlier run of {name}",
        )
        require(
            not summary.is_dir(), "out", given=f"a folder at {summary}", expected="no folder of that name"
        )

    def _failed(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            self._before.restore_settings()

    def _leave_no_empty_folder(self) -> None:
        with suppress(OSError):
            self.figures.rmdir()


class _Before:
    """Contents of a folder before a run, restored if the run has written nothing but its settings.

    Args:
        path: the folder, which may not exist.

    """

    def __init__(self, path: Path) -> None:
        self.path, self.settings = path, path / SETTINGS
        self.paths = set(path.rglob("*"))
        self.missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        self.content = self.settings.read_bytes() if self.settings.is_file() else None

    def restore_settings(self) -> None:
        """Restore the earlier settings, or remove the run's; called while the folder is locked."""
        new = {path for path in self.path.rglob("*") if path.is_file()} - self.paths
        if new - {self.settings, self.path / LOCK}:
            return  # the run has written files, so its settings stay
        with suppress(OSError):
            if self.content is None:
                if self.settings in new:
                    self.settings.unlink()
            elif self.settings.read_bytes() != self.content:
                with whole_file(self.settings) as draft:
                    draft.write_bytes(self.content)

    def remove_folders(self) -> None:
        """Remove folders that are new and empty."""
        new = {path for path in self.path.rglob("*") if path.is_dir()} - self.paths
        for folder in (*sorted(new, reverse=True), *self.missing):
            with suppress(OSError):  # not empty
                folder.rmdir()


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Add the folder's name to errors without a file name, such as those of full disks."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.add_note(f"while writing to {folder}")
        raise


def read_settings(folder: Path) -> dict[str, Any] | None:
    """Settings of an earlier run in `folder`; None if there are none, or the file is not from this program.

    Raises:
        InputError: the settings are damaged.

    """
    path = folder / SETTINGS
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(
            f"out: expected settings of an earlier run in {path}, got what cannot be read ({error}); "
            "restore it, or choose another folder"
        ) from error
    # All commands have an `out`; settings of other tools are unlikely to.
    return known if isinstance(known, dict) and "out" in known else None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path with the same suffix to write to, which replaces `path` when the block succeeds.

    A block that fails or is stopped leaves no partial file, and does not change an existing one.
    """
    draft = path.with_name(f".draft_{os.getpid()}_{path.name}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """JSON-safe form of settings and results."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor) or hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON has no NaN
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
