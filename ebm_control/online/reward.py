"""Learned reward and termination, for environments without a goal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ebm_control.checks import require, require_number
from ebm_control.data import Normalizer
from ebm_control.energies.costs import RewardCost
from ebm_control.models.reward import EndNetwork, RewardNetwork, RewardUntilEnd
from ebm_control.models.reward_fit import fit_ends, fit_reward
from ebm_control.training.regression import seeded

if TYPE_CHECKING:
    from ebm_control.online.loop import OnlineLearning


class LearnedReward:
    """A reward network that is trained on the executed transitions, once after each round.

    If episodes terminate (other than by a time limit), termination is learned too, and plans earn rewards only until
    then: see `RewardUntilEnd`. Neither is part of a checkpoint: a resumed run fits them again, to all its data.

    Args:
        updates: updates per round.
        seed: seed of weights and batches.

    Attributes:
        error: root mean square error after the last round, in stds of the first data's rewards.
        ends: number of terminated episodes in the data of the last round.

    """

    def __init__(self, updates: int = 300, seed: int = 0) -> None:
        require_number("updates", updates, 1, whole=True)
        require_number("seed", seed, 0, whole=True)
        self.updates, self.seed = updates, seed
        self.error, self.ends = float(np.nan), 0
        self._networks: tuple[RewardNetwork, EndNetwork] | None = None
        self._units: Normalizer | None = None
        self._step = -1

    def cost(self, learning: OnlineLearning) -> RewardCost:
        """Cost from the present reward network, for the plans of `OnlinePlanner` in this run."""
        normalizer = learning.normalizer
        require(normalizer is not None, "learning", given="no data yet", expected="a run that has begun")
        assert normalizer is not None
        if self._networks is None or normalizer is not self._units:
            with seeded(self.seed):
                self._networks = RewardNetwork(normalizer.layout), EndNetwork(normalizer.layout)
            self._units, self._step = normalizer, -1
        reward, ends = self._networks
        if learning.progress.step != self._step:
            self._step = learning.progress.step
            data, seed = learning.experience.data, self.seed + self._step
            self.error = fit_reward(reward, data, normalizer, self.updates, seed=seed)
            self.ends = fit_ends(ends, data, normalizer, self.updates, seed=seed)
        return RewardCost(normalizer.layout, RewardUntilEnd(reward, ends) if self.ends else reward)
