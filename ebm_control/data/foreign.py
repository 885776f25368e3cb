"""Recognises files of rollouts in formats other than that of `RolloutBuffer` and names them in errors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from ebm_control.checks import InputError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY = b"\x93NUMPY"
_MOST = 12  # greatest number of keys in a message
_ADVICE = (
    "such files are not read yet: cut the arrays into episodes, of one more observation than actions each, and add "
    "each by RolloutBuffer(obs_dim, act_dim).add_episode(observations, actions, rewards, terminated), then save"
)


def require_rollouts(path: Path) -> None:
    """Raise `InputError` if a file is of another kind than `RolloutBuffer.save` writes; the message names the kind.

    Damaged files and files of an unknown kind pass; the code that reads them reports the error.
    """
    with path.open("rb") as file:
        begin = file.read(len(_HDF5))
    if begin == _HDF5:
        raise _refused(path, "an HDF5 file", _hdf5_keys(path))
    if begin.startswith(_NPY):
        raise _refused(path, "a .npy file of one array", ())
    if begin.startswith(b"PK"):
        try:
            with np.load(path, allow_pickle=False) as archive:
                keys = list(archive.files)
        except Exception:  # readers of a damaged file raise all kinds of errors
            return
        if not {"format", "steps", "observations", "actions"} <= set(keys):
            raise _refused(path, "an npz file", keys)


def _refused(path: Path, kind: str, keys: Sequence[str]) -> InputError:
    named = f" with the keys {list(keys[:_MOST])}{' and others' if len(keys) > _MOST else ''}" if keys else ""
    return InputError(
        f"path: expected a file that RolloutBuffer.save wrote, got {path}, {kind}{named}{_like(keys)}; {_ADVICE}"
    )


def _like(keys: Sequence[str]) -> str:
    """The collection that files with such keys usually come from."""
    if {"observations", "actions"} <= set(keys) and {"terminals", "timeouts"} & set(keys):
        return ", as D4RL and OGBench have it"
    if "data" in keys or any(key.startswith("data/demo") for key in keys):
        return ", as robomimic has it"
    if any(key.startswith("episode_") for key in keys):
        return ", as Minari has it (load the whole dataset by its id)"
    return ""


def _hdf5_keys(path: Path) -> list[str]:
    """Top-level names of an HDF5 file; none if h5py is not installed or cannot read it."""
    try:
        with import_module("h5py").File(path, "r") as file:
            return [str(key) for key in file]
    except (ImportError, OSError, RuntimeError):
        return []
