"""Spaces and goals of an environment, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gymnasium.spaces import Box

from ebm_control.checks import InputError, require
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

    """

    states: Box
    action: Box
    goal: Box | None
    index: tuple[int, ...]

    @classmethod
    def of(cls, make: EnvLike, name: str, index: tuple[int, ...]) -> World:
        """Spaces of the environment that `make` makes, called `name`.

        Raises:
            InputError: no such environment, spaces other than flat Boxes, or goals that refer to coordinates other
                than `index`.

        """
        env = make_env(make)
        states, action, goal = (
            observation_box(env.observation_space),
            action_box(env.action_space),
            goal_space(env),
        )
        if goal is not None:
            require_goal_coordinates(env, index)
        env.close()
        return cls(states, action, goal, index)

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
        """Raise `InputError` unless the model's observations and actions fit those of this environment."""
        known = normalizer.obs_mean.numel(), normalizer.act_mean.numel()
        here = self.states.shape[0], self.action.shape[0]
        require(
            known == here,
            "env",
            given=f"{here[0]} and {here[1]}",
            expected=f"{known[0]} observation and {known[1]} action coordinates, which the model was trained on",
        )
