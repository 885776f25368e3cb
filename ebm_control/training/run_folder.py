"""Settings and data of a run as its checkpoints keep them."""

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
_UNITS = 1e-6  # relative difference of means and deviations that another order of summation may make


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back."""
    return dict(json.loads(json.dumps(asdict(settings))))


@dataclass(frozen=True)
class LearnedFrom:
    """Data that a run learns from, told from other data by their digest.

    Args:
        argument: name of the argument that they are.
        content: what they are, in words.
        digest: of all that a run reads of them.
        units: what stands in for the digest where a checkpoint has none, as those of early versions: entries of its
            settings by name, figures equal up to rounding; means and deviations, say.

    """

    argument: str
    content: str
    digest: str
    units: Mapping[str, Any]

    def kept(self) -> dict[str, Any]:
        """The entry of a checkpoint's settings."""
        return {_KEY: {"content": self.content, "digest": self.digest}}

    def require_same(self, known: Mapping[str, Any]) -> None:
        """Raise `InputError` unless a checkpoint of settings `known` is of a run on these data."""
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
    """The newest checkpoint of a run folder; None where there is none, or no folder.

    Raises:
        InputError: there is one although `resume` is False.
        CheckpointError: it is not whole.

    """
    found = None if folder is None else latest_checkpoint(folder / "checkpoints")
    how = "resume=True" if argument == "folder" else "--resume"
    require(resume or found is None, argument, given=f"{found}", expected=f"none with checkpoints, or {how}")
    return found


def checkpoint_to_resume(settings: Any, folder: Path | None, resume: bool, data: LearnedFrom) -> Path | None:
    """The newest checkpoint of a run's folder, or None where the run is new.

    Args:
        settings: of the run.
        folder: of the run; None for a run that leaves nothing.
        resume: whether there may be one.
        data: that the run learns from.

    Raises:
        InputError: there is one although `resume` is False, or it is of other settings or other data.
        CheckpointError: it is not sound, or not of a run of this kind.

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
    """Keep other processes from a run's folder, from before its data are looked at to its last checkpoint.

    Raises:
        InputError: another process is at work in it.

    """
    if folder is None:
        yield
        return
    with locked(folder / "checkpoints" / ".run.lock", "folder"):
        yield


def require_json(argument: str, value: Mapping[str, Any]) -> None:
    """Raise `InputError` unless a mapping can be written as JSON."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{argument}: expected figures, strings and containers of them, got {error}"
        ) from error
