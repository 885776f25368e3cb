"""Spaces and goals of an environment, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from gymnasium.spaces import Box

from ebm_control.checks import InputError, require
from ebm_control.data.actions import FlatActions
from ebm_control.data.adapt import adapt, require_data_of
from ebm_control.data.environments import EnvLike, action_box, make_env, observation_box
from ebm_control.data.goals import goal_space, require_goal_coordinates
from ebm_control.data.normalizer import Normalizer
from ebm_control.online import FrontierGoals

PLACE = 0.07  # size of a place to explore, as a share of the range of goals


@dataclass(frozen=True)
class World:
    """Spaces of an environment.

    Attributes:
        states: space of flat observations.
        action: space of flat actions.
        goal: space of goals, which refer to the observation coordinates `index`; None without goals.
        index: see `goal`.
        native: spaces of the environment itself, as arguments of an agent.
        searched: whether plans are searched for without gradients by default.
        env: the environment, adapted and closed.

    """

    states: Box
    action: Box
    goal: Box | None
    index: tuple[int, ...]
    native: Mapping[str, Any]
    searched: bool
    env: gym.Env[Any, Any]

    @classmethod
    def of(
        cls,
        make: EnvLike,
        name: str,
        index: tuple[int, ...],
        history: int = 1,
    ) -> World:
        """Spaces of the environment that `make` makes, called `name`.

        Args:
            make: see `make_env`.
            name: its name.
            index: observation coordinates of the goal.
            history: see `adapt`.

        Raises:
            InputError: no such environment, spaces without vectors, or goals that refer to coordinates other than
                `index`.

        """
        own = make_env(make)
        env = adapt(own, history)
        states, action, goal = (
            observation_box(env.observation_space),
            action_box(env.action_space),
            goal_space(env),
        )
        if goal is not None:
            require_goal_coordinates(env, index)
        env.close()
        native: dict[str, Any] = {"action_space": action}
        if env is not own:
            native = {"action_space": own.action_space, "observation_space": own.observation_space}
        searched = (isinstance(action, FlatActions) and action.discrete) or history > 1
        return cls(states, action, goal, index, native, searched, env)

    def frontier(self, place: float | None, seed: int) -> FrontierGoals:
        """Exploration goals next to visited places, with places of raw width `place`."""
        if self.goal is None:
            raise InputError(
                "explore: expected an environment with goals, to head for places, got one without"
            )
        if place is None:
            require(
                self.goal.is_bounded(),
                "place",
                given=None,
                expected="the size of a place to explore, as goals have no bounds here",
            )
        size = torch.as_tensor(PLACE * (self.goal.high - self.goal.low) if place is None else place)
        bounds = (self.goal.low, self.goal.high)
        return FrontierGoals(self.states.shape[0], self.index, size, *bounds, seed=seed)

    def require_model(self, normalizer: Normalizer) -> None:
        """Raise `InputError` unless the model's observations and actions are those of this environment."""
        require_data_of(self.env, normalizer)
