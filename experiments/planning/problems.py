"""The planning problems: environments, random data, costs, and what the true environment allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
START = (-0.85, -0.85)
UNSEEN_FIRST = 1000  # settings were chosen on problems 0 to 15
MAZE_GOALS = {"one bend": (-0.45, 0.8), "S": (0.7, -0.8)}


@dataclass(frozen=True)
class Problem:
    """Episodes of one kind.

    Attributes:
        name: as in the table.
        env: Gymnasium id.
        options: reset options of episode i.
        arguments: of the environment.
        goal_index: observation coordinates of the goal.
        success: largest final distance.
        oracle: best return from an observed start, towards a goal, given the options.
        reward_unit: reward lost a step and unit of distance.
        norm: of the goal's distance, as in `GoalCost`.
        further: a cost that the goal's comes with, a speed limit say, given the layout of the plan.

    """

    name: str
    env: str
    goal_index: tuple[int, ...]
    success: float
    oracle: Callable[[NDArray[Any], NDArray[Any], dict[str, Any]], float]
    options: Callable[[int], dict[str, Any]] | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    reward_unit: float = 1.0
    norm: str = "l1"
    further: Callable[[TrajectoryLayout], Energy] | None = None

    def make(self) -> gym.Env[Any, Any]:
        return gym.make(self.env, **dict(self.arguments))

    def goal_cost(self, layout: TrajectoryLayout) -> Energy:
        goal = 20 * GoalCost(layout, self.goal_index, norm=self.norm, smooth=0.02)
        return goal if self.further is None else goal + self.further(layout)


def data_of(env: str, seed: int) -> RolloutBuffer:
    """Random transitions, starts spread over the states."""
    if env == "ebm/Reacher-v0":
        return collect_mujoco(
            env, TRANSITIONS, episode_length=50, seed=seed, threads=1, starts=reacher.spread_starts
        )
    if env == "ebm/Arm7-v0":
        return collect_mujoco(
            env, TRANSITIONS, episode_length=50, seed=seed, threads=1, starts=arm7.spread_starts
        )
    return collect(
        lambda: gym.make(env, start="random", max_episode_steps=50), TRANSITIONS, seed=seed, progress=False
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
    """A start, a goal at least 0.8 away and a box in between that no data knew of; `i` seeds all three."""
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


PARTICLE = Problem("Particle", "ebm/Particle-v0", (0, 1), 0.05, _particle)
UNSEEN = Problem("Particle, unseen box", "ebm/Particle-v0", (0, 1), 0.05, _particle, obstacle)
REACHER = Problem("Reacher", "ebm/Reacher-v0", (0, 1), 0.1, _reacher, arguments=(("goal", (0.7, 0.5)),))
REACHER_GOALS = Problem(
    "Reacher, random goals", "ebm/Reacher-v0", (0, 1), 0.1, _reacher, arguments=(("goal", "random"),)
)
ARM = Problem("Arm7", "ebm/Arm7-v0", (14, 15, 16), 0.05, _arm, reward_unit=10.0, norm="l2")
MAZES = [
    Problem(
        f"Maze, {name}",
        "ebm/Maze-v0",
        (0, 1),
        0.05,
        _maze,
        arguments=(("start", START), ("goal", goal)),
    )
    for name, goal in MAZE_GOALS.items()
]
MAZE_PAIRS = Problem(
    "Maze, random pairs",
    "ebm/Maze-v0",
    (0, 1),
    0.05,
    _maze,
    arguments=(("start", "random"), ("goal", "random")),
)
