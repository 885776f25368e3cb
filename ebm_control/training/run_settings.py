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


def checkpoint_to_resume(settings: Any, folder: Path | None, resume: bool) -> Path | None:
    """The newest checkpoint of a run's folder, or None where the run is new.

    Raises:
        InputError: there is one although `resume` is False, or it is of other settings.
        CheckpointError: it is not sound.

    """
    found = None if folder is None else latest_checkpoint(folder / "checkpoints")
    require(
        resume or found is None, "folder", given=f"{found}", expected="none with checkpoints, or resume=True"
    )
    if found is None:
        return None
    before, now = load_checkpoint(found).settings.get("train", {}), plain(settings)
    changed = sorted(name for name in now if before.get(name) != now[name] and name != "checkpoint_every")
    require(
        not changed,
        "settings",
        given={name: now[name] for name in changed},
        expected=f"those that {found} began with, { ({name: before.get(name) for name in changed}) }",
    )
    return found
