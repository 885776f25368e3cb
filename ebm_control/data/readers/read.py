"""`read`: rollouts from a file or folder of any format that is known here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from ebm_control.checks import require, require_number, shown
from ebm_control.data.dataset_info import DatasetInfo
from ebm_control.data.error_lines import one_line, prefixed
from ebm_control.data.foreign import recognised
from ebm_control.data.minari_io import from_minari
from ebm_control.data.readers.d4rl import read_d4rl
from ebm_control.data.readers.lerobot import read_lerobot
from ebm_control.data.readers.ogbench import read_ogbench
from ebm_control.data.readers.parts import checked_keys
from ebm_control.data.readers.robomimic import read_robomimic
from ebm_control.data.rollout_buffer import RolloutBuffer

Format = Literal["ebm-control", "d4rl", "ogbench", "robomimic", "lerobot", "minari"]
_FILES = (".npz", ".hdf5", ".h5", ".npy", ".parquet")
# Which formats take which argument.
_TAKE = {
    "keys": ("d4rl", "ogbench", "robomimic", "lerobot"),
    "split": ("robomimic", "lerobot"),
    "max_episode_steps": ("d4rl",),
    "periods": ("d4rl", "ogbench", "robomimic", "lerobot", "minari"),
}


def read(
    path: str | Path,
    format: Format | None = None,
    *,
    keys: Sequence[str] | None = None,
    split: str | None = None,
    max_episode_steps: int | None = None,
    periods: Sequence[float] | None = None,
) -> RolloutBuffer:
    """Read rollouts from a file or folder; the format is recognised by the content.

    Every transition whose next observation is recorded is read, and no other. What is left out, and why, is counted in
    one warning and in `info` of the result. Nothing is unpickled, and links to other files are not followed.

    Args:
        path: an npz or HDF5 file of D4RL or OGBench, an HDF5 file of robomimic, the folder of a LeRobot data set, a
            file of `RolloutBuffer.save`, or the id of a Minari data set.
        format: name of the format; None recognises it. `info.format` of the result says which it is.
        keys: names of the arrays that make up the observation, side by side in this order. None takes `observations`,
            of robomimic and LeRobot all vectors in alphabetical order. `info.parts` says where each is.
        split: part of the data that the file names, such as "train"; for robomimic (filter keys) and LeRobot.
        max_episode_steps: step limit of the environment, for D4RL files in which nothing else shows where it cut.
        periods: period of each observation coordinate, 0 if it is not periodic. None takes what the format records
            (ebm-control, Minari), else none.

    Returns:
        Rollouts, with `info`, a `DatasetInfo`. Rewards that the file does not have are None, not 0.

    Raises:
        InputError: nothing there, an unknown format, a damaged file, arrays that are missing or do not fit, or an
            argument that the format does not take.
        MissingExtraError: h5py (extra `hdf5`) or pyarrow (extra `lerobot`) is needed and not installed.

    """
    chosen = checked_keys(keys)
    _check(path, format, max_episode_steps)
    with one_line(f"path: expected whole rollouts, got {path}"):
        name = format or _format_of(path)
    given = {"keys": chosen, "split": split, "max_episode_steps": max_episode_steps, "periods": periods}
    for argument, value in given.items():
        of = ", ".join(_TAKE[argument])
        taken = value is None or name in _TAKE[argument]
        require(taken, argument, given=shown(value), expected=f"None for {name}; {of} take it")
    if name in ("ebm-control", "minari"):
        return _own(path, name, periods)
    place = Path(path)
    require(place.exists(), "path", given=f"{place}, which does not exist", expected="a file or folder")
    columns = () if periods is None else periods
    readers: dict[str, Callable[[], tuple[RolloutBuffer, str]]] = {
        "d4rl": lambda: read_d4rl(place, chosen, columns, max_episode_steps),
        "ogbench": lambda: read_ogbench(place, chosen, columns),
        "robomimic": lambda: read_robomimic(place, chosen, columns, split),
        "lerobot": lambda: read_lerobot(place, chosen, columns, split),
    }
    with one_line(f"path: expected whole rollouts of {name}, got {place}"), prefixed(f"{place}, as {name}"):
        rollouts, left_out = readers[name]()
    if left_out:
        warnings.warn(f"{place}, as {name}: {left_out}", stacklevel=2)
    return rollouts


def _check(path: str | Path, format: Format | None, max_episode_steps: int | None) -> None:
    """Raise `InputError` if one of these arguments of `read` is of the wrong kind."""
    if max_episode_steps is not None:
        require_number("max_episode_steps", max_episode_steps, 1, whole=True)
    require(isinstance(path, str | Path), "path", given=shown(path), expected="a path or a Minari id")
    known = format is None or format in get_args(Format)
    require(known, "format", given=shown(format), expected=f"one of {', '.join(get_args(Format))}")


def _format_of(path: str | Path) -> str:
    """The format of what is there; of what is not, "minari" if it may be an id."""
    place = Path(path)
    if place.exists():
        return recognised(place)
    expected = "a file or folder of rollouts, or the id of a Minari data set"
    require(place.suffix not in _FILES, "path", given=f"{place}, which does not exist", expected=expected)
    return "minari"


def _own(path: str | Path, name: str, periods: Sequence[float] | None) -> RolloutBuffer:
    """Rollouts of `RolloutBuffer.save`, or of Minari."""
    minari = name == "minari"
    rollouts = from_minari(str(path), periods=periods) if minari else RolloutBuffer.load(path)
    rewards = all(episode.rewards is not None for episode in rollouts.episodes())
    parts = {"observation" if minari else "observations": slice(0, rollouts.obs_dim)}
    rollouts.info = DatasetInfo(str(path), name, parts, rewards)
    return rollouts
