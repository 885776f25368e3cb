"""Files of robomimic (Mandlekar et al. 2021): HDF5 with one group for each demonstration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import InputError, require
from ebm_control.data.error_lines import prefixed
from ebm_control.data.readers.arrays import Arrays, Hdf5, opened
from ebm_control.data.readers.gather import Gathering, Rows, continues, spans
from ebm_control.data.readers.parts import columns, flags, one_per_row, side_by_side
from ebm_control.data.rollout_buffer import RolloutBuffer

_STATES = "states"


def read_robomimic(
    path: Path, keys: Sequence[str] | None, periods: Sequence[float], split: str | None
) -> tuple[RolloutBuffer, str]:
    """Rollouts from `data/demo_N/{obs,next_obs,actions,rewards,dones}`, in the order of N.

    A demonstration is an episode. It is `terminated` if its last `dones` is 1; earlier ones do not end it. Without
    `next_obs` the last action of each demonstration is left out.

    Args:
        path: the file.
        keys: arrays of `obs` that make up the observation, in this order; "states" alone takes the simulator's states.
            None takes all arrays of one number or vector per step, in alphabetical order, and leaves out images.
        periods: periods of the observation coordinates.
        split: filter key under `mask`, such as "train"; None for all demonstrations.

    Returns:
        The rollouts, and a message about what was left out.

    Raises:
        InputError: arrays or demonstrations are missing or do not fit.

    """
    gathering = Gathering(path, periods)
    with opened(path) as arrays:
        if not isinstance(arrays, Hdf5):
            raise InputError(f"path: expected an HDF5 file with the group data, got {path}, an npz file")
        demos = _demos(arrays, split)
        chosen, skipped = _chosen(arrays, demos[0], keys)
        parts: dict[str, slice] = {}
        for demo in demos:
            found = _add(gathering, arrays, demo, chosen)
            same = not parts or found == parts
            require(same, demo, given=f"columns {found}", expected=f"those of {demos[0]}, {parts}")
            parts = found
        metadata = {"env_args": arrays.attribute("data", "env_args")}
    return gathering.finish("robomimic", parts, skipped=skipped, metadata=metadata)


def _demos(arrays: Arrays, split: str | None) -> list[str]:
    """Names of the demonstrations, by their number."""
    there = arrays.names("data")
    names = there
    if split is not None:
        splits = arrays.names("mask") if arrays.has("mask") else []
        known = f"one of {splits}" if splits else "None: the file has no group mask"
        require(split in splits, "split", given=repr(split), expected=known)
        raw = np.atleast_1d(arrays.array(f"mask/{split}")).tolist()
        names = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in raw]
        absent = sorted(set(names) - set(there))
        require(not absent, f"mask/{split}", given=f"{absent[:3]}", expected="names of groups in data")
        twice = len(set(names)) < len(names)
        require(not twice, f"mask/{split}", given="a name twice", expected="different names")
    require(bool(names), "data", given="no demonstrations", expected="groups such as demo_0")
    return sorted(names, key=lambda name: ([int(n) for n in re.findall(r"\d+", name)], name))


def _chosen(
    arrays: Arrays, demo: str, keys: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Names of the arrays to read, and those that are left out, with their shapes."""
    if keys is not None:
        return tuple(keys), {}
    group = f"data/{demo}/obs"
    require(
        arrays.has(group),
        "keys",
        given="None",
        expected='("states",), the simulator\'s states: the file has no observations '
        "(robomimic's dataset_states_to_obs.py writes them)",
    )
    shapes = {name: arrays.shape(f"{group}/{name}") for name in sorted(arrays.names(group))}
    vectors = tuple(name for name, shape in shapes.items() if len(shape) in (1, 2) and shape != (-1,))
    skipped = {name: shape for name, shape in shapes.items() if name not in vectors}
    given = f"in {group} only {skipped}"
    require(bool(vectors), "keys", given=given, expected="arrays of one number or vector per step")
    return vectors, skipped


def _add(gathering: Gathering, arrays: Arrays, demo: str, keys: Sequence[str]) -> dict[str, slice]:
    """Add a demonstration; returns the columns of its arrays."""
    base = f"data/{demo}"
    names = _places(arrays, base, keys)
    observations, parts = side_by_side({key: arrays.array(name) for key, name in names.items()})
    steps = len(observations)
    following = {key: f"{base}/next_obs/{key}" for key in keys}
    after = None
    with prefixed(base):
        require(steps > 0, "obs", given="no rows", expected="at least one")
        if all(arrays.has(name) for name in following.values()):
            after = side_by_side({key: arrays.array(name) for key, name in following.items()})[0]
            fits = after.shape == observations.shape
            require(fits, "next_obs", given=f"{after.shape}", expected=f"shape {observations.shape}")
        actions = columns("actions", arrays.array(f"{base}/actions"))
        given = {"actions": len(actions)}
        samples = arrays.attribute(base, "num_samples") if isinstance(arrays, Hdf5) else None
        if samples is not None:
            given["num_samples"] = int(samples)
        for name, count in given.items():
            require(count == steps, name, given=count, expected=f"{steps}, as many as observations")
        rewards = _numbers(arrays, base, "rewards", steps)
        dones = arrays.has(f"{base}/dones") and flags("dones", arrays.array(f"{base}/dones"), steps)[-1]
    _add_pieces(gathering, base, (observations, after, actions, rewards), bool(dones))
    return parts


def _add_pieces(
    gathering: Gathering,
    where: str,
    arrays: tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any], NDArray[Any] | None],
    done: bool,
) -> None:
    """Add the rows of a demonstration, cut where its observations do not go on."""
    observations, after, actions, rewards = arrays
    border = np.zeros(len(observations), dtype=bool)
    if after is not None:
        border[:-1] = ~continues(observations, after)
    for start, stop in spans(border):
        rows = Rows(
            where=where if start == 0 else f"{where}, rows from {start}",
            observations=observations[start:stop],
            actions=actions[start:stop],
            rewards=None if rewards is None else rewards[start:stop],
            last=None if after is None else after[stop - 1],
            terminated=done and stop == len(observations),
        )
        gathering.add(rows, cut=start > 0)


def _places(arrays: Arrays, base: str, keys: Sequence[str]) -> Mapping[str, str]:
    """Place of each array; "states" lies outside of the observations."""
    return {
        key: f"{base}/{key}"
        if key == _STATES and not arrays.has(f"{base}/obs/{key}")
        else f"{base}/obs/{key}"
        for key in keys
    }


def _numbers(arrays: Arrays, base: str, name: str, steps: int) -> NDArray[np.float64] | None:
    """Numbers of a demonstration, one per step; None if it has none."""
    if not arrays.has(f"{base}/{name}"):
        return None
    return one_per_row(name, arrays.array(f"{base}/{name}"), steps)
