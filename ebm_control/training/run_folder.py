"""Checks that a checkpoint belongs to a run's settings and data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebm_control.checks import InputError, require
from ebm_control.locks import locked
from ebm_control.training.checkpoint import CheckpointError, latest_checkpoint, load_checkpoint

_KEY = "learned_from"
_UNITS = 1e-6  # relative difference of means and stds that another order of summation may cause


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass in the form in which JSON returns it."""
    return dict(json.loads(json.dumps(asdict(settings))))


@dataclass(frozen=True)
class LearnedFrom:
    """Training data of a run, identified by their digest.

    Args:
        argument: name of the argument that holds the data.
        content: description of the data.
        digest: digest of all data that a run reads.
        units: substitute for checkpoints of early versions, which have no digest: entries of their settings by name,
            for example means and stds, whose values must be equal up to rounding.

    """

    argument: str
    content: str
    digest: str
    units: Mapping[str, Any]

    def kept(self) -> dict[str, Any]:
        """The entry in a checkpoint's settings."""
        return {_KEY: {"content": self.content, "digest": self.digest}}

    def require_same(self, known: Mapping[str, Any]) -> None:
        """Raise `InputError` unless a checkpoint with settings `known` is of a run on these data."""
        before = known.get(_KEY)
        if isinstance(before, Mapping):
            same = dict(before) == self.kept()[_KEY]
            of = f"{before.get('content')}, digest {str(before.get('digest'))[:12]}"
        else:
            same = _close(known, self.units)
            of = f"known by their {' and '.join(self.units)}"
        if not same:
            raise InputError(
                f"{self.argument}: expected the data that the run began with ({of}), "
                f"got others ({self.content}, digest {self.digest[:12]}); "
                "resume with those, or begin a new run in another folder"
            )


def _close(before: Any, now: Any) -> bool:
    if isinstance(now, Mapping):
        return isinstance(before, Mapping) and all(_close(before.get(name), now[name]) for name in now)
    if isinstance(now, list):
        pairs = (
            zip(before, now, strict=False) if isinstance(before, list) and len(before) == len(now) else None
        )
        return pairs is not None and all(_close(a, b) for a, b in pairs)
    if isinstance(now, float):
        return isinstance(before, float | int) and abs(before - now) <= _UNITS * max(1.0, abs(now))
    return bool(before == now)


def newest_checkpoint(folder: Path | None, resume: bool, argument: str = "folder") -> Path | None:
    """The newest checkpoint of a run folder; None without a folder or without a checkpoint.

    Raises:
        InputError: there is one although `resume` is False.
        CheckpointError: it is incomplete.

    """
    found = None if folder is None else latest_checkpoint(folder / "checkpoints")
    how = "resume=True" if argument == "folder" else "--resume"
    require(resume or found is None, argument, given=f"{found}", expected=f"none with checkpoints, or {how}")
    return found


def checkpoint_to_resume(settings: Any, folder: Path | None, resume: bool, data: LearnedFrom) -> Path | None:
    """The newest checkpoint of a run's folder, or None for a new run.

    Args:
        settings: settings of the run.
        folder: folder of the run; None for a run that writes nothing.
        resume: whether a checkpoint may exist.
        data: training data of the run.

    Raises:
        InputError: there is one although `resume` is False, or it has other settings or other data.
        CheckpointError: it is damaged, or of another kind of run.

    """
    found = newest_checkpoint(folder, resume)
    if folder is None or found is None:
        return None
    known = load_checkpoint(found).settings
    before, now = known.get("train"), plain(settings)
    if not isinstance(before, Mapping) or not set(now) & set(before):
        raise CheckpointError(
            f"{found}: expected a checkpoint of this kind of training, got one without its settings"
        )
    changed = sorted(name for name in now if before.get(name) != now[name] and name != "checkpoint_every")
    require(
        not changed,
        "settings",
        given={name: now[name] for name in changed},
        expected=f"those that {found} began with, { ({name: before.get(name) for name in changed}) }",
    )
    data.require_same(known)
    return found


@contextmanager
def folder_of_one(folder: Path | None) -> Iterator[None]:
    """Lock a run's folder against other processes, from before its data are read to its last checkpoint.

    Raises:
        InputError: another process uses the folder.

    """
    if folder is None:
        yield
        return
    require(not folder.is_file(), "folder", given=f"{folder}", expected="a folder, not a file")
    with locked(folder / "checkpoints" / ".run.lock", "folder"):
        yield


def require_json(argument: str, value: Mapping[str, Any]) -> None:
    """Raise `InputError` unless a mapping can be written as JSON."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{argument}: expected numbers, strings and containers of them, got {error}"
        ) from error
