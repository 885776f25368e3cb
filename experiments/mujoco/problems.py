"""The environments, the steps that a method has, and the bar that counts as good control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

import ebm_envs  # noqa: F401  (registers `ebm/...`)

ROBOTICS = "gymnasium_robotics:"


@dataclass(frozen=True)
class Problem:
    """An environment to be controlled after few steps.

    Attributes:
        env: Gymnasium id, with the package to import in front where it is needed.
        steps: environment steps of learning from nothing.
        bar: return, or success rate, of good control.
        success: whether the bar is a success rate.
        arguments: arguments of `gymnasium.make`.

    """

    env: str
    steps: int
    bar: float
    success: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The id without its package."""
        return self.env.split(":")[-1]

    def make(self) -> gym.Env[Any, Any]:
        """The environment as registered, with its time limit."""
        return gym.make(self.env, disable_env_checker=True, **self.arguments)


_ONCE = {"continuing_task": False}  # an episode of a maze ends at its goal
# From cheap to expensive, in the order in which they are run.
_ALL = (
    Problem("Pendulum-v1", 2_000, -170),
    Problem("InvertedPendulum-v5", 2_000, 950),
    Problem("CartPole-v1", 2_000, 475),
    Problem("Reacher-v5", 5_000, -4.5),
    Problem("InvertedDoublePendulum-v5", 10_000, 8_500),
    Problem("Swimmer-v5", 20_000, 100),
    Problem("Pusher-v5", 20_000, -28),
    Problem("HalfCheetah-v5", 30_000, 2_500),
    Problem("Hopper-v5", 50_000, 1_000),
    Problem("Walker2d-v5", 50_000, 800),
    Problem(f"{ROBOTICS}FetchReach-v4", 2_000, 0.98, success=True),
    Problem(f"{ROBOTICS}PointMaze_UMaze-v3", 50_000, 0.98, success=True, arguments=_ONCE),
    Problem(f"{ROBOTICS}PointMaze_Medium-v3", 50_000, 0.95, success=True, arguments=_ONCE),
    Problem(f"{ROBOTICS}PointMaze_Large-v3", 50_000, 0.9, success=True, arguments=_ONCE),
)
PROBLEMS = {problem.name: problem for problem in _ALL}
