"""What is known of rollouts that were read from a file: format, named parts of the observations, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DatasetInfo:
    """Where rollouts were read from; `str` of it is one line.

    Args:
        path: file, folder or Minari id.
        format: name of the format, see `read`.
        parts: columns of each named array in the observations, in the order in which they were concatenated. With
            `rows = rollouts.observations`, `rows[:, info.parts["object"]]` is the array called "object".
        rewards: whether rewards were recorded in all episodes.
        left_out: number of transitions left out, by reason; empty if none.
        skipped: observation arrays that were not read because they are images or videos, with their shapes.
        metadata: what else the file says: `env_args` of robomimic, `info.json` of LeRobot.

    """

    path: str
    format: str
    parts: Mapping[str, slice]
    rewards: bool
    left_out: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        columns = ", ".join(f"{name} {part.start}:{part.stop}" for name, part in self.parts.items())
        rewards = "with rewards" if self.rewards else "rewards not recorded"
        return f"{self.path}: read as {self.format}; observation columns {columns}; {rewards}"
