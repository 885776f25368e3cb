"""Settings of a run as its checkpoints keep them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ebm_control.checks import require
from ebm_control.training.checkpoint import latest_checkpoint, load_checkpoint


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back."""
    return dict(json.loads(json.dumps(asdict(settings))))


def checkpoint_to_resume(
    settings: Any, folder: Path | None, resume: bool, data: str | None = None
) -> Path | None:
    """The newest checkpoint of a run's folder, or None where the run is new.

    Args:
        settings: of the run.
        folder: of the run; None for a run that leaves nothing.
        resume: whether there may be one.
        data: name of the set that the run learns from, where it has one.

    Raises:
        InputError: there is one although `resume` is False, or it is of other settings or another set.
        CheckpointError: it is not sound.

    """
    found = None if folder is None else latest_checkpoint(folder / "checkpoints")
    require(
        resume or found is None, "folder", given=f"{found}", expected="none with checkpoints, or resume=True"
    )
    if found is None:
        return None
    known = load_checkpoint(found).settings
    require(data is None or known.get("data") == data, "data", given=data, expected=f"{known.get('data')}")
    before, now = known.get("train", {}), plain(settings)
    changed = sorted(name for name in now if before.get(name) != now[name] and name != "checkpoint_every")
    require(
        not changed,
        "settings",
        given={name: now[name] for name in changed},
        expected=f"those that {found} began with, { ({name: before.get(name) for name in changed}) }",
    )
    return found
