"""Flags shared by commands that read rollouts: how a data set of others is read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ebm_control.checks import require, require_number
from ebm_control.data.readers import Format, read
from ebm_control.data.rollout_buffer import RolloutBuffer

_OWN = ("ebm-control", "minari")


@dataclass(kw_only=True)
class DataSettings:
    """Flags for reading data sets of D4RL, OGBench, robomimic and LeRobot, inherited by commands."""

    data_format: Format | None = None
    """Format of --data; default: recognised by the content."""
    data_keys: tuple[str, ...] = ()
    """Arrays of --data that make up the observation, in this order; default: those of the format."""
    data_split: str | None = None
    """Part of --data: a filter key of robomimic, or a split of LeRobot."""
    data_episode_steps: int | None = None
    """Step limit of the episodes in --data, for D4RL files that do not say where it cut them."""

    def check_data(self) -> None:
        """Raise `InputError` if a number is out of its range."""
        if self.data_episode_steps is not None:
            require_number("data_episode_steps", self.data_episode_steps, 1, whole=True)

    def load_data(self, data: str) -> RolloutBuffer:
        """Rollouts from a file, a folder or by a Minari id; says on stderr how a data set of others was read.

        Raises:
            InputError: `data` is none of these, or cannot be read with these flags.

        """
        missing = Path(data).suffix == ".npz" and not Path(data).exists()
        require(not missing, "data", given=f"{data}, which does not exist", expected="a file of rollouts")
        rollouts = read(
            data,
            self.data_format,
            keys=self.data_keys or None,
            split=self.data_split,
            max_episode_steps=self.data_episode_steps,
        )
        if rollouts.info is not None and rollouts.info.format not in _OWN:
            print(rollouts.info, file=sys.stderr)
        return rollouts
