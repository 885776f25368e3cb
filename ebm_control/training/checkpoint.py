"""Checkpoints that survive crashes and are never unpickled.

A checkpoint is a folder `step_XXXXXXXX` with `weights.safetensors`, `settings.json`, `state.pt` (tensors and
plain containers, read with `weights_only=True`) and `manifest.json`, the SHA-256 of the others. It is written under
another name and renamed when complete, so a folder of that name is complete unless someone changed it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from torch import Tensor

from ebm_control.checks import require_number
from ebm_control.training.renames import settings_now, state_now, weights_now

FORMAT = 1
_FILES = ("weights.safetensors", "settings.json", "state.pt")
_STEP = re.compile(r"step_(\d+)")
_DRAFT = re.compile(r"\.draft_(replaced_)?\d+_\d+")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or is damaged; the message names the file and the problem."""


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        weights: the model's tensors by name.
        settings: JSON-safe description from which the model is rebuilt.
        state: optimiser, buffers, generators and step, as tensors, numbers, strings and containers of them.

    """

    weights: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    state: Mapping[str, Any]


def save_checkpoint(folder: Path | str, step: int, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Write a checkpoint and return its folder; older ones beyond `keep` are removed once this one is safe.

    Incomplete checkpoints of a crash in `folder` are removed too, because a folder belongs to one run at a time. Other
    files stay, wherever they are.

    Raises:
        CheckpointError: it could not be written (for example, the disk is full) or `load_checkpoint` would refuse it.
            Existing checkpoints are untouched.

    """
    require_number("keep", keep, 1, whole=True)
    require_number("step", step, 0, whole=True)
    folder = Path(folder)
    final = folder / f"step_{step:08d}"
    draft = folder / f".draft_{step:08d}_{os.getpid()}"
    try:
        draft.mkdir(parents=True, exist_ok=True)
        # Copies, because safetensors refuses tensors that share memory, for example those of `e + 0.5 * e`.
        weights = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in checkpoint.weights.items()
        }
        _write(draft / "weights.safetensors", save_weights(weights))
        _write(draft / "settings.json", json.dumps(checkpoint.settings, indent=2).encode())
        with open(draft / "state.pt", "wb") as file:
            torch.save(dict(checkpoint.state), file)
            file.flush()
            os.fsync(file.fileno())
        _load_state(draft / "state.pt", mmap=True)
        digests = {name: _digest(draft / name) for name in _FILES}
        manifest = {"format": FORMAT, "step": step, "sha256": digests}
        _write(draft / "manifest.json", json.dumps(manifest, indent=2).encode())
        _sync_folder(draft)
        if final.exists():
            # A folder cannot be replaced in one step: move the old one aside and remove it when the new one is there.
            final.rename(folder / f".draft_replaced_{step:08d}_{os.getpid()}")
        draft.rename(final)
        _sync_folder(folder)
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # torch: a failed write is a RuntimeError
        _remove(draft)
        raise CheckpointError(
            f"{final}: could not be written ({one_line(error)}); earlier checkpoints are untouched"
        ) from error
    older = [path for path in _steps(folder) if (number_of(path) or 0) < step and _is_ours(path)]
    for left_over in (*older[: max(len(older) + 1 - keep, 0)], *_drafts(folder)):
        _remove(left_over)
    return final


def number_of(path: Path) -> int | None:
    """Number of updates or steps in the name of a checkpoint folder; None if it has another name."""
    named = _STEP.fullmatch(path.name)
    return None if named is None else int(named[1])


def latest_checkpoint(folder: Path | str) -> Path | None:
    """Folder of the newest checkpoint in `folder`, or None. Folders with other names are ignored.

    Raises:
        CheckpointError: the newest checkpoint is incomplete. Resuming from an older one would lose the updates
            since then.

    """
    steps = _steps(Path(folder))
    if not steps:
        return None
    newest = steps[-1]
    if not _is_checkpoint(newest):
        others = [path.name for path in steps if _is_checkpoint(path)]
        advice = f"to go on from {others[-1]}" if others else "to begin anew"
        raise CheckpointError(
            f"{newest}: expected a checkpoint, got a folder without manifest.json; move it elsewhere {advice}"
        )
    return newest


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints in `folder`, and the folder if it is then empty; nothing else."""
    for path in (*filter(_is_ours, _steps(folder)), *_drafts(folder)):
        _remove(path)
    remove_files(folder, ())


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files by name, and the folder if it is then empty; files that cannot be removed stay."""
    for name in names:
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def save_model(folder: Path | str, checkpoint: Checkpoint) -> Path:
    """Write a model that is not part of a run as the only checkpoint of `folder`, and return `folder`.

    A model saved there earlier is replaced in one step.

    Raises:
        CheckpointError: `folder` holds the checkpoints of a run, or writing failed; existing files are then
            untouched.

    """
    folder = Path(folder)
    of_a_run = [folder / "checkpoints", *[path for path in _steps(folder) if number_of(path)]]
    found = next((path for path in of_a_run if path.exists()), None)
    if found is not None:
        raise CheckpointError(
            f"{folder}: expected a folder for one model, got that of a run, with {found.name}"
        )
    save_checkpoint(folder, 0, checkpoint)
    return folder


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint after checking every file against its manifest.

    `path` is a checkpoint folder, a file in one, a folder of checkpoints or a run folder; of the latter two the newest.

    Raises:
        CheckpointError: no checkpoint, an unknown format, or a file that is missing, truncated, changed or not in its
            stated format.

    """
    path = Path(path)
    if path.is_file():
        if not (path.parent / "manifest.json").exists():
            raise CheckpointError(
                f"{path}: expected a checkpoint, a file in one or a folder, got another file"
            )
        path = path.parent
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if not (path / "manifest.json").exists():
        found = latest_checkpoint(path)
        if found is None:
            raise CheckpointError(f"{path}: expected a checkpoint folder or a folder of them, found neither")
        path = found
    try:
        _verify(path)
        weights = load_weights((path / "weights.safetensors").read_bytes())
        settings = json.loads((path / "settings.json").read_text())
    except OSError as error:
        raise CheckpointError(f"{path}: could not be read ({error})") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: weights or settings are not readable ({one_line(error)})") from error
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{path / 'settings.json'}: expected a dictionary, got {type(settings).__name__}"
        )
    state = state_now(_load_state(path / "state.pt"))
    return Checkpoint(weights_now(weights), settings_now(settings), state)


def _load_state(file: Path, *, mmap: bool = False) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # bytes from another source can raise anything
        raise CheckpointError(
            f"{file}: expected tensors and plain containers only, refused to load it ({one_line(error)})"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: expected a dictionary, got {type(state).__name__}")
    return state


def one_line(error: BaseException, longest: int = 300) -> str:
    """Message of an error on one line, truncated to `longest`; the type of the error if it has no message."""
    words = " ".join(str(error).split())
    return (words if len(words) <= longest else words[:longest] + " ...") or type(error).__name__


def _verify(path: Path) -> None:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        digests = dict(manifest["sha256"])
        version = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path / 'manifest.json'}: not a manifest ({one_line(error)})") from error
    if version != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT}, got {version}")
    for name in _FILES:
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file}: missing")
        if _digest(file) != digests.get(name):
            raise CheckpointError(f"{file}: truncated or changed since it was written (SHA-256 differs)")


def _steps(folder: Path) -> list[Path]:
    """Folders with names of checkpoints, in the order of their numbers."""
    numbers = {path: number_of(path) for path in folder.glob("step_*") if path.is_dir()}
    return sorted(
        (path for path, number in numbers.items() if number is not None), key=lambda p: numbers[p] or 0
    )


def _drafts(folder: Path) -> list[Path]:
    return [path for path in folder.glob(".draft_*") if _DRAFT.fullmatch(path.name)]


def _is_checkpoint(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def _is_ours(path: Path) -> bool:
    """Whether the folder has a manifest written by this module: only then may it be removed."""
    try:
        return set(json.loads((path / "manifest.json").read_text())["sha256"]) == set(_FILES)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _remove(path: Path) -> None:
    """Remove the files of a checkpoint or a draft, and its folder if nothing else is in it."""
    # The manifest is removed last: it marks the rest for removal if the process ends here.
    remove_files(path, (*_FILES, "manifest.json"))


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
