"""Base class of the goal environments: goals, reset options, checks and rewards by distance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def wrap(x: ArrayLike, periods: ArrayLike) -> Array:
    """`x` modulo `periods`, in `[-period/2, period/2)`; coordinates with period 0 are not changed."""
    x, periods = np.asarray(x, dtype=np.float64), np.asarray(periods, dtype=np.float64)
    wrapped = np.mod(x + periods / 2, np.where(periods > 0, periods, 1.0)) - periods / 2
    return np.where(periods > 0, wrapped, x)


def checked_vector(argument: str, value: ArrayLike, space: spaces.Box) -> Array:
    """`value` as a float64 vector inside `space`.

    Raises:
        ValueError: wrong type, wrong shape, or a value outside `space`; the message names `argument`.

    """
    try:
        vector = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{argument}: expected {space.shape[0]} numbers, got {value!r}") from None
    if vector.shape != space.shape:
        raise ValueError(f"{argument}: expected shape {space.shape}, got shape {vector.shape}")
    if not np.all((vector >= space.low) & (vector <= space.high)):
        raise ValueError(
            f"{argument}: expected numbers from {space.low.tolist()} to {space.high.tolist()}, "
            f"got {vector.tolist()}"
        )
    return vector


def require_random(argument: str, value: str) -> None:
    """Raise `ValueError` unless the string given instead of numbers is "random"."""
    if value != "random":
        raise ValueError(f"{argument}: expected numbers or 'random', got {value!r}")


def box_space(low: ArrayLike, high: ArrayLike) -> spaces.Box:
    """Float64 Box between two vectors."""
    return spaces.Box(np.asarray(low, np.float64), np.asarray(high, np.float64), dtype=np.float64)


class GoalEnv(gym.Env[dict[str, Array], NDArray[Any]], ABC):
    """A goal environment whose reward is minus `reward_scale` times the distance to the goal after the move.

    Observations are dicts of float64 vectors: `observation`, `achieved_goal`, `desired_goal`. Episodes end only by
    the registered step limit. `info` has `distance` and `is_success` (distance at most `success_distance`).

    Args:
        observation: space of `observation`.
        goal: space of the goals.
        max_action: bound of each action coordinate; larger actions are clipped.
        render_mode: None or "rgb_array".
        actions: number of action coordinates.

    Attributes:
        observation_periods: period of each observation coordinate, 0 if it is not periodic.
        goal_periods: the same for goals.

    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}  # type: ignore[misc]
    options: ClassVar[frozenset[str]] = frozenset({"start", "goal"})
    success_distance: ClassVar[float] = 0.05
    reward_scale: ClassVar[float] = 1.0
    observation_periods: tuple[float, ...]
    goal_periods: tuple[float, ...]

    def __init__(
        self,
        observation: spaces.Box,
        goal: spaces.Box,
        max_action: float,
        render_mode: str | None,
        actions: int = 2,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode: expected None or 'rgb_array', got {render_mode!r}")
        self.render_mode = render_mode
        self.goal_space = goal
        self.observation_space: spaces.Dict[Any] = spaces.Dict(  # type: ignore[assignment]
            {"observation": observation, "achieved_goal": goal, "desired_goal": goal}
        )
        self.max_action = max_action
        self.action_space: spaces.Box = spaces.Box(
            -max_action, max_action, shape=(actions,), dtype=np.float32
        )
        self.goal: Array
        self.trace: list[Array] = []  # positions in this episode, for drawing

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: seeds `np_random`.
            options: any of the keys in `self.options`; they replace the constructor's arguments for this episode.

        Returns:
            Observation and info.

        Raises:
            ValueError: unknown key, wrong shape, or a start or goal outside its space or inside an obstacle.

        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(set(options) - self.options):
            raise ValueError(f"options: expected keys among {sorted(self.options)}, got {unknown}")
        self._begin(options)
        self.trace = [self._place()]
        return self._observation(), self._info()

    def step(
        self, action: NDArray[Any] | Sequence[float]
    ) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Take `action` (actions,), clipped to the action space; the reward is that of the state it leads to.

        Raises:
            ValueError: an action of another shape or with non-finite values.

        """
        vector = np.asarray(action, dtype=np.float64)
        if vector.shape != self.action_space.shape or not np.all(np.isfinite(vector)):
            raise ValueError(f"action: expected {self.action_space.low.size} finite numbers, got {action!r}")
        self._advance(np.clip(vector, -self.max_action, self.max_action))
        self.trace.append(self._place())
        info = self._info()
        return self._observation(), -self.reward_scale * info["distance"], False, False, info

    def distance(self, achieved: ArrayLike, desired: ArrayLike) -> Array:
        """L1 distance of goals `(..., goals) -> (...)`; periodic coordinates take the shorter way round."""
        difference = np.asarray(achieved, np.float64) - np.asarray(desired, np.float64)
        return np.asarray(np.abs(wrap(difference, self.goal_periods)).sum(axis=-1))

    def compute_reward(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None) -> Array:
        """Reward (...) of `achieved_goal` for `desired_goal`, both (..., goals); `info` is ignored."""
        return -self.reward_scale * self.distance(achieved_goal, desired_goal)

    def _observation(self) -> dict[str, Array]:
        return {
            "observation": self._state(),
            "achieved_goal": self._achieved(),
            "desired_goal": self.goal.copy(),
        }

    def _info(self) -> dict[str, Any]:
        distance = float(self.distance(self._achieved(), self.goal))
        return {"distance": distance, "is_success": distance <= self.success_distance}

    @abstractmethod
    def _begin(self, options: Mapping[str, Any]) -> None:
        """Set the state and `self.goal` for a new episode."""

    @abstractmethod
    def _advance(self, action: Array) -> None:
        """Move the state by one step under a clipped action (actions,)."""

    @abstractmethod
    def _state(self) -> Array:
        """The observation vector, as a new array."""

    @abstractmethod
    def _achieved(self) -> Array:
        """The goal that the current state achieves, as a new array."""

    @abstractmethod
    def _place(self) -> Array:
        """The current point of the drawn trace, (2,) or (3,)."""
