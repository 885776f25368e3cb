"""Checkpoints that survive crashes and are never unpickled.

A checkpoint is a folder `step_XXXXXXXX` with `weights.safetensors`, `settings.json`, `state.pt` (tensors and
plain containers, read with `weights_only=True`) and `manifest.json`, the others' SHA-256. It is written under
another name and renamed when complete, so a folder of that name is whole or was tampered with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from torch import Tensor

from ebm_control.checks import require

FORMAT = 1
_FILES = ("weights.safetensors", "settings.json", "state.pt")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or is not sound; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        weights: the model's tensors by name.
        settings: JSON-safe description from which the model is rebuilt.
        state: optimiser, buffers, generators, step: tensors, numbers, strings and containers of them.

    """

    weights: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    state: Mapping[str, Any]


def save_checkpoint(folder: Path | str, step: int, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Write a checkpoint and return its folder; older ones beyond `keep` go only once this one is safe.

    What a crash left half written in `folder` goes then too: a folder belongs to one run at a time.

    Raises:
        CheckpointError: it could not be written (a full disk, say) or `load_checkpoint` would refuse it.
            What was there before is untouched.

    """
    require(keep >= 1, "keep", given=keep, expected="at least 1")
    folder = Path(folder)
    final = folder / f"step_{step:08d}"
    draft = folder / f".draft_{step:08d}_{os.getpid()}"
    try:
        draft.mkdir(parents=True, exist_ok=True)
        # Copies, because safetensors takes no tensors that share memory, as those of `e + 0.5 * e` do.
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
        if (
            final.exists()
        ):  # a folder cannot be replaced in one step: aside first, gone once the new one is there
            final.rename(folder / f".draft_replaced_{step:08d}_{os.getpid()}")
        draft.rename(final)
        _sync_folder(folder)
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # torch: a failed write is a RuntimeError
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(
            f"{final}: could not be written ({error}); earlier checkpoints are untouched"
        ) from error
    older = [path for path in _steps(folder) if path.name < final.name]
    for left_over in (*older[: max(len(older) + 1 - keep, 0)], *folder.glob(".draft_*")):
        shutil.rmtree(left_over, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path | str) -> Path | None:
    """Folder of the newest checkpoint in `folder`, or None."""
    steps = _steps(Path(folder))
    return steps[-1] if steps else None


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint, or the newest in a folder of them, after checking every file against the manifest.

    Raises:
        CheckpointError: there is none, it is of another format, or a file is missing, truncated, changed or
            not what it claims to be.

    """
    path = Path(path)
    if not (path / "manifest.json").exists():
        found = latest_checkpoint(path)
        if found is None:
            raise CheckpointError(f"{path}: expected a checkpoint folder or a folder of them, found neither")
        path = found
    _verify(path)
    try:
        weights = load_weights((path / "weights.safetensors").read_bytes())
        settings = json.loads((path / "settings.json").read_text())
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: weights or settings are not readable ({error})") from error
    return Checkpoint(weights, settings, _load_state(path / "state.pt"))


def _load_state(file: Path, *, mmap: bool = False) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # bytes made up by someone else can fail in any way
        raise CheckpointError(
            f"{file}: expected tensors and plain containers only, refused to load it ({_first_line(error)})"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: expected a dictionary, got {type(state).__name__}")
    return state


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _verify(path: Path) -> None:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        digests = dict(manifest["sha256"])
        version = manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / 'manifest.json'}: not a manifest ({error})") from error
    if version != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT}, got {version}")
    for name in _FILES:
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file}: missing")
        if _digest(file) != digests.get(name):
            raise CheckpointError(f"{file}: truncated or changed since it was written (SHA-256 differs)")


def _steps(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step_*") if (p / "manifest.json").exists())


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
