"""The planning problems: environments, random data, costs, and oracles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from ebm_control.data import Normalizer, RolloutBuffer, collect, collect_mujoco
from ebm_control.energies import BoxObstacle, Energy, GoalCost, TrajectoryLayout
from ebm_envs import arm7, reacher
from ebm_envs.oracles import arm7_oracle, maze_oracle, particle_oracle, reacher_oracle

TRANSITIONS = 100_000
START = (-0.85, -0.85)  # in the maze
UNSEEN_FIRST = 1000  # settings were chosen on problems 0 to 15


@dataclass(frozen=True)
class Problem:
    """A planning problem.

    Attributes:
        name: name in the table.
        env: Gymnasium id.
        options: reset options of episode i.
        arguments: arguments of the environment.
        goal_index: observation coordinates of the goal.
        success: largest final distance that counts as success.
        oracle: best return from an observed start to a goal, given the options.
        reward_unit: reward lost per step and unit of distance.
        norm: norm of the distance to the goal, see `GoalCost`.
        further: an additional cost, such as a speed limit, from the layout of the plan.
        gamma: discount of reinforcement learning; 0.98 for episodes of 50 steps, 0.99 for longer ones.
        evaluation: number of evaluation episodes of a policy.

    """

    name: str
    env: str
    goal_index: tuple[int, ...]
    success: float
    oracle: Callable[[NDArray[Any], NDArray[Any], dict[str, Any]], float]
    options: Callable[[int], dict[str, Any]] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reward_unit: float = 1.0
    norm: str = "l1"
    further: Callable[[TrajectoryLayout], Energy] | None = None
    gamma: float = 0.98
    evaluation: int = 20

    def make(self) -> gym.Env[Any, Any]:
        return gym.make(self.env, **self.arguments)

    @property
    def action_space(self) -> gym.spaces.Box:
        space = self.make().action_space
        assert isinstance(space, gym.spaces.Box)
        return space

    def goal_cost(self, layout: TrajectoryLayout) -> Energy:
        goal = 20 * GoalCost(layout, self.goal_index, norm=self.norm, smooth=0.02)
        return goal if self.further is None else goal + self.further(layout)


def data_of(env: str, seed: int, transitions: int = TRANSITIONS) -> RolloutBuffer:
    """Random transitions, with starts spread over the state space."""
    starts = {REACHER.env: reacher.spread_starts, ARM.env: arm7.spread_starts}.get(env)
    if starts is not None:
        return collect_mujoco(env, transitions, episode_length=50, seed=seed, threads=1, starts=starts)
    return collect(
        lambda: gym.make(env, start="random", max_episode_steps=50), transitions, seed=seed, progress=False
    )


def _reacher(start: NDArray[Any], goal: NDArray[Any], options: dict[str, Any]) -> float:
    return reacher_oracle(start, goal).return_


def _arm(start: NDArray[Any], goal: NDArray[Any], options: dict[str, Any]) -> float:
    return arm7_oracle(start[:14], goal, methods=("pursuit", "ilqr")).return_


def _maze(start: NDArray[Any], goal: NDArray[Any], options: dict[str, Any]) -> float:
    return maze_oracle(start, goal).return_


def _particle(start: NDArray[Any], goal: NDArray[Any], options: dict[str, Any]) -> float:
    return particle_oracle(start, goal, obstacles=options.get("obstacles")).return_


def obstacle(i: int) -> dict[str, Any]:
    """A start, a goal at least 0.8 away and a box in between that is not in the data; `i` seeds all three."""
    rng = np.random.default_rng(7000 + i)
    while True:
        start, goal = rng.uniform(-0.9, 0.9, (2, 2))
        half = rng.uniform(0.12, 0.2, 2)
        middle = (start + goal) / 2
        clear = np.abs(start - middle).max() > half.max() + 0.1
        if np.abs(start - goal).max() >= 0.8 and clear and np.abs(middle).max() < 0.6:
            return {"start": start, "goal": goal, "obstacles": [(middle - half, middle + half)]}


def box_cost(normalizer: Normalizer, boxes: NDArray[Any]) -> Energy:
    """Unseen boxes `(N, M, 2, 2)` of N problems as a term of the energy, with a margin of 0.02."""
    corners = torch.as_tensor(boxes, dtype=torch.float64)
    scaled = normalizer.normalize_observations(corners).float()
    margin = float(0.02 / normalizer.obs_std.max())
    return 400 * BoxObstacle(scaled, (0, 1), margin=margin, between=3)


PARTICLE = Problem(
    "Particle",
    "ebm/Particle-v0",
    (0, 1),
    0.05,
    _particle,
    arguments={"start": (0.0, 0.0), "goal": (0.5, 0.5)},
)
UNSEEN = Problem("Particle, unseen box", PARTICLE.env, (0, 1), 0.05, _particle, obstacle)
REACHER = Problem("Reacher", reacher.ENV, (0, 1), reacher.SUCCESS, _reacher, arguments={"goal": reacher.GOAL})
REACHER_GOALS = replace(REACHER, name="Reacher, random goals", arguments={"goal": "random"})
ARM = Problem(
    "Arm7",
    "ebm/Arm7-v0",
    (14, 15, 16),
    0.05,
    _arm,
    arguments={"goal": "random"},
    reward_unit=10.0,
    norm="l2",
    gamma=0.99,
    evaluation=100,
)
MAZE_PAIRS = Problem(
    "Maze, random pairs",
    "ebm/Maze-v0",
    (0, 1),
    0.05,
    _maze,
    arguments={"start": "random", "goal": "random"},
    gamma=0.99,
)
MAZES = [
    replace(MAZE_PAIRS, name=f"Maze, {name}", arguments={"start": START, "goal": goal})
    for name, goal in (("one bend", (-0.45, 0.8)), ("S", (0.7, -0.8)))
]
PROBLEMS = {"particle": PARTICLE, "reacher": REACHER, "maze-bend": MAZES[0], "maze-s": MAZES[1], "arm7": ARM}
"""Problems of reinforcement learning, by their names on its command line and in its records."""
