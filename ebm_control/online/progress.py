"""Progress of a run of online learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpisodeEnd:
    """An episode that ended during online learning.

    Attributes:
        step: total environment steps when it ended.
        return_: sum of rewards.
        last_reward: reward of its last step.

    """

    step: int
    return_: float
    last_reward: float


@dataclass
class Progress:
    """Counters and episodes of a run so far, without its experience."""

    step: int = 0
    rounds: int = 0
    next_round: int = 0
    effort: float = 1.0
    episodes: list[EpisodeEnd] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """JSON-safe form: an episode is a list of its step, return and last reward."""
        return asdict(self) | {"episodes": [list(astuple(episode)) for episode in self.episodes]}

    @classmethod
    def from_plain(cls, known: Mapping[str, Any]) -> Progress:
        """Restore the progress from the result of `plain`."""
        return cls(**{**known, "episodes": [EpisodeEnd(*episode) for episode in known["episodes"]]})
