"""Files of OGBench (Park et al. 2025): npz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ebm_control.checks import require
from ebm_control.data.readers.arrays import opened, require_name
from ebm_control.data.readers.flat import read_flat
from ebm_control.data.readers.gather import Gathering
from ebm_control.data.readers.parts import flags
from ebm_control.data.rollout_buffer import RolloutBuffer


def read_ogbench(
    path: Path, keys: Sequence[str] | None, periods: Sequence[float]
) -> tuple[RolloutBuffer, str]:
    """Rollouts from `observations`, `actions` and `terminals`, in any of OGBench's three layouts.

    - As downloaded: a trajectory's last row, where `terminals` is 1, has an observation and an action without a next
      observation. That action is left out.
    - Compact (`load_dataset(..., compact_dataset=True)`): the same rows with `valids`, 0 in a trajectory's last row.
    - Regular (`load_dataset(...)`): with `next_observations`, and `terminals` 1 at the last transition.

    `terminals` are the borders of trajectories: the environments do not terminate, so no episode is `terminated`.
    `masks` of single-task data say where the task's goal is reached; trajectories go on there, and so do episodes here.

    Args:
        path: the file.
        keys: arrays that make up the observation, such as `qpos` and `qvel`; None for `observations`.
        periods: periods of the observation coordinates.

    Returns:
        The rollouts, and a message about what was left out.

    Raises:
        InputError: arrays are missing or do not fit.

    """
    gathering = Gathering(path, periods)
    with opened(path) as arrays:
        flat = read_flat(arrays, keys)
        require_name(arrays, "terminals")
        ends = flags("terminals", arrays.array("terminals"), len(flat))
        require(bool(ends.any()), "terminals", given="no 1", expected="a 1 at the end of each trajectory")
        if arrays.has("valids"):
            ends = ~flags("valids", arrays.array("valids"), len(flat))
        flat.add_to(gathering, ends, np.zeros_like(ends), None)
    return gathering.finish("ogbench", flat.parts)
