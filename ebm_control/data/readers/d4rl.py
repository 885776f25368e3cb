"""Files of D4RL (Fu et al. 2020): HDF5, or npz with the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ebm_control.checks import InputError
from ebm_control.data.readers.arrays import opened
from ebm_control.data.readers.flat import read_flat
from ebm_control.data.readers.gather import Gathering
from ebm_control.data.readers.parts import flags
from ebm_control.data.rollout_buffer import RolloutBuffer


def read_d4rl(
    path: Path, keys: Sequence[str] | None, periods: Sequence[float], max_episode_steps: int | None
) -> tuple[RolloutBuffer, str]:
    """Rollouts from `observations`, `actions`, `rewards`, `terminals`, `timeouts` and `next_observations`.

    An episode ends at a terminal, at a timeout, where `next_observations` differs from the next row's observation, and
    after `max_episode_steps` rows. Without `next_observations` the last action of an episode leads to an observation
    that the file does not have: it is left out. So is one whose next observation repeats the first of the following
    episode, which files made by shifting have.

    Args:
        path: the file.
        keys: arrays that make up the observation, None for `observations`; "infos/qpos" is one in a group.
        periods: periods of the observation coordinates.
        max_episode_steps: step limit of the environment. Needed if the file has neither `timeouts` nor
            `next_observations`.

    Returns:
        The rollouts, and a message about what was left out.

    Raises:
        InputError: arrays are missing or do not fit, or nothing says where episodes end.

    """
    gathering = Gathering(path, periods)
    with opened(path) as arrays:
        flat = read_flat(arrays, keys)
        terminals, timeouts = (
            flags(name, arrays.array(name), len(flat))
            if arrays.has(name)
            else np.zeros(len(flat), dtype=bool)
            for name in ("terminals", "timeouts")
        )
        if not arrays.has("timeouts") and flat.goes_on is None and max_episode_steps is None:
            raise InputError(
                "max_episode_steps: expected the step limit of the environment, as the file has neither timeouts nor "
                "next_observations that show where a limit cut episodes (if terminals mark every end: a number that no "
                "episode exceeds), got None"
            )
        flat.add_to(gathering, terminals | timeouts, terminals, max_episode_steps)
    return gathering.finish("d4rl", flat.parts)
