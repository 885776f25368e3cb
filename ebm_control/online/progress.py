"""How far a run of online learning is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        """As JSON gives it back."""
        return vars(self) | {"episodes": [(e.step, e.return_, e.last_reward) for e in self.episodes]}

    def take_up(self, known: Mapping[str, Any]) -> None:
        """Go on from what `plain` gave."""
        self.step, self.rounds, self.next_round = (int(known[n]) for n in ("step", "rounds", "next_round"))
        self.effort = float(known["effort"])
        self.episodes = [EpisodeEnd(int(s), float(r), float(last)) for s, r, last in known["episodes"]]
