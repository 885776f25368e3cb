"""A sample of the rewards in the data, with which a hand-written reward is compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebm_control.checks import InputError, require_finite, require_shape, require_tensor
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.seeds import stream
from ebm_control.tensors import outside_inference_mode

Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
_NAMES = ("states", "actions", "after", "rewards")
COUNT = 512  # transitions that are stored
CORRELATION = 0.8  # below this correlation a reward differs from the recorded one
SCALE = 2.0  # beyond this ratio of standard deviations a reward is in other units


@dataclass(frozen=True, eq=False)
class RecordedRewards:
    """Transitions in the environment's units and their recorded rewards.

    Attributes:
        states: `(N, obs_dim)` float64.
        actions: `(N, act_dim)`.
        after: `(N, obs_dim)` next states.
        rewards: `(N,)`.

    """

    states: Tensor
    actions: Tensor
    after: Tensor
    rewards: Tensor

    @classmethod
    def of(cls, buffer: RolloutBuffer, seed: int = 0) -> RecordedRewards | None:
        """Up to `COUNT` random transitions of the data; None if rewards are missing or the sample has no variation."""
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
        """The tensors by name, as they are stored in a checkpoint's state."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RecordedRewards | None:
        """The recorded rewards in a saved model's state; None if it holds none."""
        found = state.get("recorded")
        return None if found is None else cls(**{name: found[name] for name in _NAMES})

    def agreement(self, reward: Reward) -> tuple[float, float]:
        """Correlation of a reward with the recorded ones, and the ratio of its std to theirs.

        Args:
            reward: maps states `(N, 1, obs_dim)`, actions `(N, 1, act_dim)` and next states to `(N, 1)`.

        Raises:
            InputError: the reward fails, or does not return one finite number per transition, as a tensor.

        """
        value, _ = evaluated(reward, self.states, self.actions, self.after)
        require_finite("reward(...)", value)
        value, recorded = value.detach()[:, 0].double(), self.rewards
        spread = float(value.std() / recorded.std())
        if spread == 0:
            return 0.0, 0.0
        return float(torch.corrcoef(torch.stack([value, recorded]))[0, 1]), spread

    def compare(self, reward: Reward) -> None:
        """Warn if a reward disagrees with the recorded ones; the difference may be intended.

        Raises:
            InputError: see `agreement`.

        """
        correlation, scale = self.agreement(reward)
        if correlation >= CORRELATION and 1 / SCALE <= scale <= SCALE:
            return
        opposite = " (is its sign the opposite?)" if correlation < -CORRELATION else ""
        warnings.warn(
            f"reward: its correlation with the rewards in the data is {correlation:.2f}{opposite} and its standard "
            f"deviation {scale:.2g} times theirs, over {len(self.rewards)} transitions; plans are for the reward given",
            stacklevel=3,
        )


def evaluated(reward: Reward, *columns: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A reward's values `(N, 1)` with their graph, and the inputs `(N, 1, ...)` that they depend on.

    Args:
        reward: see `RecordedRewards.agreement`, also for the errors.
        columns: states `(N, obs_dim)`, actions `(N, act_dim)` and next states, in the environment's units.

    """
    # Planners ask for gradients: a reward that leaves torch fails here, not at the first action.
    inputs = states, actions, after = tuple(part[:, None].clone().requires_grad_() for part in columns)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            value = reward(states, actions, after)
    except Exception as error:  # user code may raise anything
        raise InputError(
            f"reward: expected a function of states (N, 1, {states.shape[-1]}), actions (N, 1, "
            f"{actions.shape[-1]}) and next states, got one that fails on them ({type(error).__name__}: {error})"
        ) from error
    require_tensor("reward(...)", value)
    require_shape("reward(...)", value, (len(states), 1))
    return value, inputs


@outside_inference_mode
def is_flat(reward: Reward, recorded: RecordedRewards | None, normalizer: Normalizer) -> bool:
    """Whether a reward has no gradient at any recorded transition; without any, at random ones in the data's units."""
    if recorded is not None:
        columns = recorded.states, recorded.actions, recorded.after
    else:
        generator, layout = torch.Generator().manual_seed(0), normalizer.layout
        drawn = (torch.randn(COUNT, layout.obs_dim + layout.act_dim, generator=generator) for _ in range(2))
        (states, actions), (after, _) = (normalizer.denormalize(x) for x in drawn)
        columns = states, actions, after
    value, inputs = evaluated(reward, *columns)
    if not value.requires_grad:
        return True
    slopes = torch.autograd.grad(value, inputs, torch.ones_like(value), allow_unused=True)
    return not any(slope is not None and bool((slope != 0).any()) for slope in slopes)
