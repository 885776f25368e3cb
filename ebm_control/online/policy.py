"""What policies beside the model have in common: units, the signature of Stable-Baselines3, and their data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data import Normalizer, RolloutBuffer
from ebm_control.data.actions import FlatActions
from ebm_control.data.environments import plain_observation
from ebm_control.energies.base import Energy
from ebm_control.planning.shooting import Dynamics
from ebm_control.tensors import as_array

Rated = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # rewards and probabilities of an end


class PlanPolicy(ABC):
    """A policy and a value of states that are learned beside the model: plans begin with one and end with the other.

    Attributes:
        normalizer: present units of states and actions; None before `begin`.
        discount: weight of a reward relative to that one step earlier.
        updates: updates per environment step, see `count`.

    """

    normalizer: Normalizer | None = None
    discount: float
    updates: float
    chooses: bool = False
    _generator: torch.Generator

    @abstractmethod
    def begin(self, normalizer: Normalizer, action_space: Box, unit: float) -> None:
        """Build untrained networks; rewards are divided by `unit`."""

    @abstractmethod
    def heed(self, normalizer: Normalizer) -> None:
        """Take and return states and actions in the units of `normalizer` from now on, which grow during a run."""

    @abstractmethod
    def act(self, states: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions `(..., act_dim)` for states `(..., obs_dim)`: the mean ones without a generator, else samples."""

    @abstractmethod
    def value(self, states: Tensor) -> Tensor:
        """Values `(...)` of states `(..., obs_dim)`, in the environment's units of reward."""

    @abstractmethod
    def learn(
        self, data: RolloutBuffer, updates: int, dynamics: Dynamics | None = None, rated: Rated | None = None
    ) -> None:
        """Train on executed transitions and, where a policy does, on imagined ones of `dynamics`."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints; empty before `begin`."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any], action_space: Box) -> None:
        """Restore what `state_dict` returned."""

    def count(self, steps: int) -> int:
        """Number of updates after `steps` environment steps."""
        return round(self.updates * steps)

    def cost(self) -> Energy | None:
        """Cost of plans that are unlike the policy, in multiples of the unit of reward; None for none."""
        return None

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[Any], None]:
        """Actions of the policy alone, in the environment's units, with the signature of Stable-Baselines3's policies.

        Args:
            observation: `(obs_dim,)` or `(N, obs_dim)`.
            state: not used.
            episode_start: not used.
            deterministic: take the mean actions; else sample.

        """
        require(self.normalizer is not None, "predict", given="no data yet", expected="a run that has begun")
        assert self.normalizer is not None
        width, named = self.normalizer.layout.obs_dim, isinstance(observation, dict)
        known = not named or "observation" in observation
        raw = as_array("observation", plain_observation(observation)) if known else np.zeros(0)
        require(
            raw.ndim in (1, 2) and raw.shape[-1] == width,
            "observation",
            given=f"shape {raw.shape}" if known else "a dictionary",
            expected=f"shape ({width},) or (N, {width}); with dictionaries or a history act by the agent, which plans",
        )
        states = self.normalizer.normalize_observations(torch.from_numpy(np.atleast_2d(raw))).float()
        chosen = self.act(states, None if deterministic else self._generator)
        actions = self.normalizer.denormalize_actions(chosen).numpy()
        if self.chooses:
            actions = actions.argmax(axis=-1)
        return (actions[0] if raw.ndim == 1 else actions), None


def one_choice(action_space: Box) -> bool:
    """Whether an action is one choice, whose coordinates are one-hot."""
    return isinstance(action_space, FlatActions) and len(action_space.choices) == len(action_space.parts) == 1


def executed(data: RolloutBuffer, normalizer: Normalizer) -> list[Tensor]:
    """Executed transitions: normalised states, actions and next states, raw rewards `(N,)` and ends `(N,)`."""
    states, actions, after = (torch.from_numpy(part) for part in data.transitions())
    rewards = np.concatenate([episode.rewards for episode in data.episodes()])
    ended: NDArray[np.float64] = np.concatenate(
        [np.append(np.zeros(len(e) - 1), float(e.terminated)) for e in data.episodes()]
    )
    first, second = (normalizer.normalize_observations(part).float() for part in (states, after))
    taken = normalizer.normalize_actions(actions).float()
    return [first, taken, second, torch.from_numpy(rewards).float(), torch.from_numpy(ended).float()]
