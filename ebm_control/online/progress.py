"""How far a run of online learning is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpisodeEnd:
    """An episode that came to its end while learning.

    Attributes:
        step: single environment steps taken by then.
        return_: sum of rewards.
        last_reward: of its last step.

    """

    step: int
    return_: float
    last_reward: float


@dataclass
class Progress:
    """What a run has seen and done so far, beside its experience."""

    step: int = 0
    rounds: int = 0
    next_round: int = 0
    effort: float = 1.0
    episodes: list[EpisodeEnd] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON gives it back: an episode is a list of its step, return and last reward."""
        return asdict(self) | {"episodes": [list(astuple(episode)) for episode in self.episodes]}

    @classmethod
    def from_plain(cls, known: Mapping[str, Any]) -> Progress:
        """Where a run was that wrote `plain`."""
        return cls(**{**known, "episodes": [EpisodeEnd(*episode) for episode in known["episodes"]]})
