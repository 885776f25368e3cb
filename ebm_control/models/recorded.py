"""A few of the rewards that data hold, by which a reward that somebody writes down is checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebm_control.checks import InputError, require_shape
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.seeds import stream

Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
_NAMES = ("states", "actions", "after", "rewards")
COUNT = 512  # transitions that are remembered
CORRELATION = 0.8  # below it a reward is another one than was recorded
SCALE = 2.0  # ratio of standard deviations beyond which it is in other units


@dataclass(frozen=True, eq=False)
class RecordedRewards:
    """Transitions in the environment's units, and the rewards that were received for them.

    Attributes:
        states: `(N, obs_dim)` float64.
        actions: `(N, act_dim)`.
        after: `(N, obs_dim)` the states that followed.
        rewards: `(N,)`.

    """

    states: Tensor
    actions: Tensor
    after: Tensor
    rewards: Tensor

    @classmethod
    def of(cls, buffer: RolloutBuffer, seed: int = 0) -> RecordedRewards | None:
        """At most `COUNT` transitions of the data, drawn at random; None where rewards are missing or all the same."""
        parts = [episode.rewards for episode in buffer.episodes()]
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        rewards = np.concatenate(known)
        index = np.sort(stream(seed, "recorded rewards").permutation(len(rewards))[:COUNT])
        if np.ptp(rewards[index]) == 0:
            return None
        columns = (*buffer.transitions(), rewards)
        return cls(*(torch.from_numpy(np.asarray(column, np.float64)[index]) for column in columns))

    def to_dict(self) -> dict[str, Tensor]:
        """The tensors by name, as a checkpoint's state holds them."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RecordedRewards | None:
        """Those of a saved model's state; None where it has none."""
        found = state.get("recorded")
        return None if found is None else cls(**{name: found[name] for name in _NAMES})

    def agreement(self, reward: Reward) -> tuple[float, float]:
        """Correlation of a reward with those recorded, and its standard deviation over theirs.

        Args:
            reward: maps states `(N, 1, obs_dim)`, actions `(N, 1, act_dim)` and next states to `(N, 1)`.

        Raises:
            InputError: the reward fails, or gives anything but one number per transition.

        """
        states, actions, after = (part[:, None] for part in (self.states, self.actions, self.after))
        try:
            with torch.no_grad():
                value = torch.as_tensor(reward(states, actions, after)).double()
        except Exception as error:  # somebody else's code may fail in any way
            raise InputError(
                f"reward: expected a function of states (N, 1, {states.shape[-1]}), actions (N, 1, "
                f"{actions.shape[-1]}) and next states, got one that fails on them ({type(error).__name__}: {error})"
            ) from error
        require_shape("reward(...)", value, (len(states), 1))
        value, recorded = value[:, 0], self.rewards
        spread = float(value.std() / recorded.std())
        if spread == 0:
            return 0.0, 0.0
        return float(torch.corrcoef(torch.stack([value, recorded]))[0, 1]), spread

    def compare(self, reward: Reward) -> None:
        """Warn where a reward disagrees with those recorded; it may be meant to.

        Raises:
            InputError: see `agreement`.

        """
        correlation, scale = self.agreement(reward)
        if correlation >= CORRELATION and 1 / SCALE <= scale <= SCALE:
            return
        warnings.warn(
            f"reward: its correlation with the rewards in the data is {correlation:.2f} and its standard deviation "
            f"{scale:.2g} times theirs, over {len(self.rewards)} transitions; plans are for the reward given",
            stacklevel=3,
        )
