"""Recognises files of rollouts in formats other than that of `RolloutBuffer`, by their content."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from ebm_control.checks import InputError
from ebm_control.extras import import_extra

OWN = {"format", "steps", "observations", "actions"}  # keys of a file that RolloutBuffer.save wrote
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY = b"\x93NUMPY"
_MOST = 12  # greatest number of keys in a message
_ADVICE = (
    "such files are not read: cut the arrays into episodes, of one more observation than actions each, and add "
    "each by RolloutBuffer(obs_dim, act_dim).add_episode(observations, actions, rewards, terminated), then save"
)
_WHOLE_MINARI = "Minari reads whole data sets: give the id, below MINARI_DATASETS_PATH"


def recognised(path: Path) -> str:
    """Name of the format of a file or folder, as `read` takes it.

    Files of flat arrays are "ogbench" if their keys are (`valids`, `masks`, or neither `rewards` nor `timeouts`), and
    "d4rl" otherwise.

    Raises:
        InputError: another kind of file or folder; the message says what it contains.
        MissingExtraError: an HDF5 file, but h5py is not installed.

    """
    if path.is_dir():
        if (path / "meta" / "info.json").is_file():
            return "lerobot"
        minari = any((path / inner).is_file() for inner in ("data/main_data.hdf5", "main_data.hdf5"))
        said = f"the folder of a Minari data set; {_WHOLE_MINARI}" if minari else "another folder"
        raise InputError(
            f"path: expected a file, or the folder of a LeRobot data set with meta/info.json, got {path}, {said}"
        )
    kind, keys = _content(path)
    if kind == "an HDF5 file":
        import_extra("h5py", "hdf5", "HDF5 files")
    name = _of_keys(keys, hdf5=kind == "an HDF5 file")
    if kind.startswith("an ") and name in ("", "minari"):
        advice = _WHOLE_MINARI if name else _ADVICE
        raise InputError(f"path: expected {_known()}, got {path}, {kind}{_named(keys)}; {advice}")
    if kind == "a .npy file of one array":
        raise InputError(f"path: expected {_known()}, got {path}, {kind}; {_ADVICE}")
    return name or "ebm-control"  # its reader says what is wrong with a damaged file


def require_rollouts(path: Path) -> None:
    """Raise `InputError` if a file is of another kind than `RolloutBuffer.save` writes; the message names the kind.

    Damaged files and files of an unknown kind pass; the code that reads them reports the error.
    """
    kind, keys = _content(path)
    if not kind or (keys and set(keys) >= OWN):
        return
    name = _of_keys(keys, hdf5=kind == "an HDF5 file")
    advice = {"": _ADVICE, "minari": _WHOLE_MINARI}.get(name, "read it with ebm_control.read(path)")
    like = f", as {name} has it" if name else ""
    raise InputError(
        f"path: expected a file that RolloutBuffer.save wrote, got {path}, {kind}{_named(keys)}{like}; {advice}"
    )


def _content(path: Path) -> tuple[str, list[str]]:
    """Kind of a file, "" if it is damaged or unknown, and the names of its top-level arrays and groups."""
    with path.open("rb") as file:
        begin = file.read(len(_HDF5))
    if begin == _HDF5:
        return "an HDF5 file", _hdf5_keys(path)
    if begin.startswith(_NPY):
        return "a .npy file of one array", []
    if begin.startswith(b"PK"):
        try:
            with np.load(path, allow_pickle=False) as archive:
                return "an npz file", list(archive.files)
        except Exception:  # readers of a damaged file raise all kinds of errors
            pass
    return "", []


def _of_keys(keys: Collection[str], *, hdf5: bool) -> str:
    """Name of the format that has such top-level keys, "" if none has."""
    found = set(keys)
    if not hdf5 and found >= OWN:
        return "ebm-control"
    if any(key.startswith("episode_") for key in keys):
        return "minari"
    if hdf5 and "data" in found:
        return "robomimic"
    if not found >= {"observations", "actions"}:
        return ""
    goals = {"valids", "masks"} & found or not {"rewards", "timeouts"} & found
    return "ogbench" if goals and "terminals" in found else "d4rl"


def _known() -> str:
    return "rollouts of ebm-control, D4RL, OGBench, robomimic or LeRobot"


def _named(keys: Sequence[str]) -> str:
    return f" with the keys {list(keys[:_MOST])}{' and others' if len(keys) > _MOST else ''}" if keys else ""


def _hdf5_keys(path: Path) -> list[str]:
    """Top-level names of an HDF5 file; none if h5py is not installed or cannot read it."""
    try:
        with import_module("h5py").File(path, "r") as file:
            return [str(key) for key in file]
    except (ImportError, OSError, RuntimeError):
        return []
