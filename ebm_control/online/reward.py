"""Learned reward and termination, for environments without a goal or with episodes that end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ebm_control.checks import require, require_number
from ebm_control.data import Normalizer
from ebm_control.energies.costs import RewardCost
from ebm_control.models.reward import EndNetwork, KnownReward, LearnedReturn, RewardNetwork
from ebm_control.models.reward_fit import fit_ends, fit_reward
from ebm_control.training.regression import seeded

if TYPE_CHECKING:
    from ebm_control.online.loop import OnlineLearning

BEGIN = 5  # times the updates in the first round, and in the first one in new units


class LearnedReward:
    """A reward network that is trained on the executed transitions, once after each round.

    If episodes terminate (other than by a time limit), termination is learned too, and plans earn rewards only until
    then: see `LearnedReturn`. Neither is part of a checkpoint: a resumed run fits them again, to all its data.

    Args:
        updates: updates per round, of each network.
        seed: seed of weights and batches.
        known: the reward as a function of states `(..., obs_dim)`, actions and next states in the environment's units,
            if it is known; only termination is then learned.
        barrier: weight of the logit of an end as a cost of every step, see `LearnedReturn`; 0 for none.

    Attributes:
        error: root mean square error after the last round, in stds of the first data's rewards.
        ends: number of terminated episodes in the data of the last round.

    """

    def __init__(
        self,
        updates: int = 300,
        seed: int = 0,
        known: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        barrier: float = 0.0,
    ) -> None:
        require_number("updates", updates, 1, whole=True)
        require_number("seed", seed, 0, whole=True)
        require_number("barrier", barrier, 0)
        self.updates, self.seed, self.known, self.barrier = updates, seed, known, barrier
        self.error, self.ends, self.mean, self.unit = float(np.nan), 0, 0.0, 1.0
        self._units: Normalizer | None = None
        self._step = -1

    def fit(self, learning: OnlineLearning) -> None:
        """Fit the networks to the data of a run; once per round, however often it is called."""
        normalizer = learning.normalizer
        require(normalizer is not None, "learning", given="no data yet", expected="a run that has begun")
        assert normalizer is not None
        if normalizer is not self._units:
            with seeded(self.seed):
                layout = normalizer.layout
                known = None if self.known is None else KnownReward(normalizer, self.known)
                self._reward = RewardNetwork(layout) if known is None else known
                self._ends = EndNetwork(layout)
            self._units, self._step = normalizer, -1
        if learning.progress.step == self._step:
            return
        first, self._step = self._step == -1, learning.progress.step
        data, seed = learning.experience.data, self.seed + self._step
        updates = self.updates * (BEGIN if first else 1)
        if isinstance(self._reward, RewardNetwork):
            self.error = fit_reward(self._reward, data, normalizer, updates, seed=seed)
            self.mean, self.unit = float(self._reward.mean), float(self._reward.std)
        elif first:
            rewards = np.concatenate([episode.rewards for episode in data.episodes()])
            self.mean, self.unit = float(rewards.mean()), float(rewards.std()) or 1.0
        self.ends = fit_ends(self._ends, data, normalizer, updates, seed=seed)

    def cost(
        self, learning: OnlineLearning, value: Callable[[Tensor], Tensor] | None = None, discount: float = 1.0
    ) -> RewardCost:
        """Cost from the present networks, for the plans of `OnlinePlanner` in this run; see `LearnedReturn`."""
        self.fit(learning)
        assert self._units is not None
        ends = self._ends if self.ends else None
        about = {"mean": self.mean, "unit": self.unit, "barrier": self.barrier}
        total = LearnedReturn(self._reward, ends, value, discount, **about)
        return RewardCost(self._units.layout, total)

    def rated(self, states: Tensor, actions: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards `(...)` in the environment's units and probabilities of an end, in the units of the trajectory."""
        return self._reward.raw(states, actions, after), self._ends.probability(states, actions, after)
