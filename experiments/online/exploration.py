"""Exploration without a goal: the number of steps until nearly all places are visited.

Maze: 20 x 20 cells, starting in the corner; one long episode for random actions, four in parallel for methods that
learn, with all steps counted. Arm7: voxels of 10 cm that the fingertip visits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ebm_control.baselines import Baseline, Ensemble
from ebm_control.control import planner_for
from ebm_control.online import FrontierGoals, OnlineLearning, OnlineSettings
from ebm_control.online.exploration.disagreement import DisagreementCost
from ebm_control.online.exploration.frontier import Goals
from ebm_control.online.exploration.occupancy import Occupancy
from ebm_control.online.learner import Model
from ebm_control.planning import Planner
from ebm_control.seeds import stream
from ebm_envs.point import segments_blocked
from experiments.online.bonus import CountBonus, counting_sac
from experiments.online.methods import Method, learner_of, planners
from experiments.planning.problems import ARM, MAZES, Problem

Row = dict[str, Any]
Array = NDArray[np.float64]
ENOUGH = 0.95
ENVIRONMENTS, NOISE = 4, 0.2


@dataclass(frozen=True)
class Place:
    """An exploration problem.

    Attributes:
        problem: planning problem with the environment and the goal coordinates.
        make: builds an environment with endless episodes.
        grid: an empty grid of places.
        mask: places that count; None if it is unknown which are reachable.
        width: size of a place for `FrontierGoals`.
        low: lower corner of the box of goals.
        high: upper corner of the box of goals.
        steps: maximum number of steps for methods that learn.
        random_steps: maximum number of steps for random actions.
        horizon: planning horizon.

    """

    problem: Problem
    make: Callable[[], gym.Env[Any, Any]]
    grid: Callable[[], Occupancy]
    mask: NDArray[np.bool_] | None
    width: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    steps: int
    random_steps: int
    horizon: int


@lru_cache
def place_of(name: str) -> Place:
    """The exploration problem of the maze or the arm, by name."""
    if name == "maze":
        problem = MAZES[1]
        grid = Occupancy([-1, -1], [1, 1], 20)
        walls = problem.make().unwrapped.walls  # type: ignore[attr-defined]
        free = ~segments_blocked(grid.centres, grid.centres, walls)
        return Place(
            problem,
            lambda: gym.make(problem.env, max_episode_steps=10**6),
            lambda: Occupancy([-1, -1], [1, 1], 20),
            free,
            0.12,
            (-1, -1),
            (1, 1),
            6000,
            60_000,
            6,
        )
    return Place(
        ARM,
        lambda: gym.make(ARM.env, max_episode_steps=10**6),
        lambda: Occupancy([-1] * 3, [1] * 3, 20),
        None,
        0.14,
        (-0.9,) * 3,
        (0.9,) * 3,
        6000,
        60_000,
        12,
    )


class Watched:
    """Counts the places that observations visit, and passes them on to the source of goals."""

    def __init__(self, place: Place, goals: Goals | None) -> None:
        self.place, self.goals = place, goals
        self.grid = place.grid()
        self.curve: list[tuple[int, float]] = []
        self.steps = 0
        self.enough: int | None = None

    def __call__(self, observations: Array, fresh: NDArray[np.bool_]) -> Array | None:
        """Count the places and return goals, see `Goals`; None without goals."""
        self.see(observations)
        return None if self.goals is None else self.goals(observations, fresh)

    def see(self, observations: Array) -> None:
        """Count one more step of every environment."""
        self.grid.visit(observations[:, list(self.place.problem.goal_index)])
        share = self.visited
        if self.steps % 100 == 0:
            self.curve.append((self.steps, share))
        if self.enough is None and self.place.mask is not None and share >= ENOUGH:
            self.enough = self.steps
        self.steps += len(observations)

    @property
    def visited(self) -> float:
        """Visited share of the cells, or their number if the reachable cells are unknown."""
        mask = self.place.mask
        return float(self.grid.visited.sum()) if mask is None else self.grid.fraction(mask)

    @property
    def done(self) -> bool:
        """Whether nearly all cells were visited."""
        return self.enough is not None


def exploration(name: str, method: Method, seed: int, quick: bool) -> list[Row]:
    """One row: steps until 95 % of the cells were visited (None if not within the run), and the curve."""
    place, began = place_of(name), time.perf_counter()
    if method.model is not None:
        watched = learned(place, method, seed, quick)
    else:
        watched = (rewarded if method.model_free else random_walk)(place, seed, quick)
    row: Row = {
        "part": f"exploration, {name}",
        "env": place.problem.env,
        "method": method.name,
        "seed": seed,
        "checkpoint": 0,
        "env_steps": watched.steps,
        "steps_to_95": watched.enough,
        "visited": watched.visited,
        "curve": watched.curve,
        "seconds": time.perf_counter() - began,
    }
    print({key: value for key, value in row.items() if key != "curve"}, flush=True)
    return [row]


def random_walk(place: Place, seed: int, quick: bool) -> Watched:
    """Exploration by uniformly random actions in one long episode."""
    watched, env = Watched(place, None), place.make()
    rng = stream(seed, "exploration actions")
    observation, _ = env.reset(seed=seed)
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    for _ in range(5000 if quick else place.random_steps):
        watched.see(observation["observation"][None])
        if watched.done:
            break
        observation, *_ = env.step(rng.uniform(low, high))
    return watched


def learned(place: Place, method: Method, seed: int, quick: bool) -> Watched:
    """Exploration with goals at the frontier, or by actions with the greatest disagreement of an ensemble."""
    to_frontier = method.explores == "frontier"
    watched = Watched(place, frontier(place, seed) if to_frontier else None)
    space: Any = place.make().action_space

    def curious(learner: Model, step: int) -> Planner:
        assert isinstance(learner, Baseline)
        assert isinstance(learner.dynamics, Ensemble)
        cost = DisagreementCost(learner.dynamics)
        return planner_for(learner, cost, place.horizon, action_space=space, preset="online")

    learning = explorer(
        place, method, seed, 600 if quick else place.steps, watched, None if to_frontier else curious
    )
    learning.run(report=lambda step, run: watched.done)
    return watched


def rewarded(place: Place, seed: int, quick: bool) -> Watched:
    """Exploration by SAC with a count bonus for places of the same grid."""
    watched, counts = Watched(place, None), Counter[tuple[int, ...]]()
    grid, index = place.grid(), list(place.problem.goal_index)
    size = (grid.high - grid.low) / grid.cells

    def cell(observation: NDArray[Any]) -> tuple[int, ...]:
        return tuple(np.floor((observation[index] - grid.low) / size).astype(int).tolist())

    counting_sac(
        lambda: CountBonus(place.make(), cell, counts, watched.see),
        ENVIRONMENTS,
        600 if quick else 2 * place.steps if place.mask is None else place.random_steps // 3,
        seed,
        lambda: watched.done,
    )
    return watched


def frontier(place: Place, seed: int, spell: int = 0) -> FrontierGoals:
    """Goals next to visited places, and phases of random actions once no place is new."""
    space: Any = place.make().observation_space["observation"]  # type: ignore[index]
    return FrontierGoals(
        space.shape[0],
        place.problem.goal_index,
        place.width,
        place.low,
        place.high,
        stalled=2,
        spell=spell,
        seed=seed,
    )


def explorer(
    place: Place,
    method: Method,
    seed: int,
    steps: int,
    goals: Goals,
    plan: Callable[[Model, int], Planner] | None = None,
    **changes: Any,
) -> OnlineLearning:
    """An exploring run in which every model plans over actions; `plan` replaces the planner towards goals."""
    return OnlineLearning(
        place.make,
        learner_of(method, seed, steps),
        plan or planners(place.problem, place.make().action_space, place.horizon, shooting=True),
        # Parallel environments head for different places; noise helps one that is stuck at a wall.
        replace(
            OnlineSettings(
                steps=steps,
                environments=ENVIRONMENTS,
                warm_up=100,
                growth=0.3,
                replan_every=1,
                noise=NOISE,
                seed=seed,
            ),
            **changes,
        ),
        goals=goals,
        progress=False,
    )
