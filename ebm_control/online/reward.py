"""What a plan is for where an environment names no goal: its reward, learned along the way."""

from __future__ import annotations

import numpy as np

from ebm_control.checks import require
from ebm_control.energies.costs import RewardCost
from ebm_control.energies.reward import RewardNetwork
from ebm_control.online.loop import OnlineLearning
from ebm_control.training.regression import seeded
from ebm_control.training.reward_fit import fit_reward


class LearnedReward:
    """A reward network that goes on learning from whatever was executed, once after each round.

    It is no part of a checkpoint: a run that is resumed fits it anew, to all there is.

    Args:
        updates: of a round.
        seed: of weights and batches.

    Attributes:
        error: root mean square error after the last round, in deviations of the first data's rewards.

    """

    def __init__(self, updates: int = 300, seed: int = 0) -> None:
        require(updates >= 1, "updates", given=updates, expected="at least 1")
        self.updates, self.seed = updates, seed
        self.error = float(np.nan)
        self._network: RewardNetwork | None = None
        self._step = -1

    def cost(self, learning: OnlineLearning) -> RewardCost:
        """The cost of a plan in this run, as it is now: made for `OnlineLearning(plan=...)`."""
        normalizer = learning.normalizer
        require(normalizer is not None, "learning", given="no data yet", expected="a run that has begun")
        assert normalizer is not None
        if self._network is None:
            with seeded(self.seed):
                self._network = RewardNetwork(normalizer.layout)
        if learning.progress.step != self._step:
            self._step = learning.progress.step
            data, seed = learning.experience.data, self.seed + self._step
            self.error = fit_reward(self._network, data, normalizer, self.updates, seed=seed)
        return RewardCost(normalizer.layout, self._network)
