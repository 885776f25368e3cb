"""Exploration without a goal: how many steps until nearly all places were visited.

Maze: 20 x 20 cells, from the corner, one long episode of random actions, four side by side of methods that learn, all
steps counted. Arm7: voxels of 10 cm that the fingertip visits.
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
from ebm_control.baselines.disagreement import DisagreementCost
from ebm_control.data.occupancy import Occupancy
from ebm_control.online import FrontierGoals, OnlineLearning, OnlineSettings, planner_of
from ebm_control.online.frontier import Goals
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
    """Where there is something to explore.

    Attributes:
        problem: whose environment and goal coordinates.
        make: an environment whose episodes go on and on.
        grid: an empty grid of places.
        mask: those that count.
        width: of a place to `FrontierGoals`.
        low: corner of the box of goals.
        high: the other one.
        steps: at most, of a method that learns.
        random_steps: at most, of random actions.
        horizon: of the plans.

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
    """The maze or the arm."""
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
    """Counts the places that observations visit, and hands on to whatever sets goals."""

    def __init__(self, place: Place, goals: Goals | None) -> None:
        self.place, self.goals = place, goals
        self.grid = place.grid()
        self.curve: list[tuple[int, float]] = []
        self.steps = 0
        self.enough: int | None = None

    def __call__(self, observations: Array, fresh: NDArray[np.bool_]) -> Array | None:
        """See `Goals`."""
        self.see(observations)
        return None if self.goals is None else self.goals(observations, fresh)

    def see(self, observations: Array) -> None:
        """One more step of every environment."""
        self.grid.visit(observations[:, list(self.place.problem.goal_index)])
        share = self.visited
        if self.steps % 100 == 0:
            self.curve.append((self.steps, share))
        if self.enough is None and self.place.mask is not None and share >= ENOUGH:
            self.enough = self.steps
        self.steps += len(observations)

    @property
    def visited(self) -> float:
        """Share of the cells, or their number where it is not known which can be visited."""
        mask = self.place.mask
        return float(self.grid.visited.sum()) if mask is None else self.grid.fraction(mask)

    @property
    def done(self) -> bool:
        """Whether nearly all cells were visited."""
        return self.enough is not None


def exploration(name: str, method: Method, seed: int, quick: bool) -> list[Row]:
    """One row: steps until 95 % of the cells were visited (None: not within the run), and the curve."""
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
    """Actions drawn uniformly, one long episode."""
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
    """Goals at the frontier, or actions on whose outcome the members of an ensemble disagree most."""
    to_frontier = method.explores == "frontier"
    watched = Watched(place, frontier(place, seed) if to_frontier else None)
    space: Any = place.make().action_space

    def curious(learner: Model, step: int) -> Planner:
        assert isinstance(learner, Baseline)
        assert isinstance(learner.dynamics, Ensemble)
        cost = DisagreementCost(learner.dynamics)
        return planner_of(learner, cost, place.horizon, action_space=space)

    learning = explorer(
        place, method, seed, 600 if quick else place.steps, watched, None if to_frontier else curious
    )
    learning.run(report=lambda step, run: watched.done)
    return watched


def rewarded(place: Place, seed: int, quick: bool) -> Watched:
    """SAC with a bonus for places of the same grid."""
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
    """Goals next to where something has been, and spells of random actions once nothing is new."""
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
    """A run that explores, all models planning over actions; `plan` where it is not towards goals."""
    return OnlineLearning(
        place.make,
        learner_of(method, seed, steps),
        plan or planners(place.problem, place.make().action_space, place.horizon, shooting=True),
        # Side by side they head for different places; noise frees one that leans against a wall.
        replace(
            OnlineSettings(
                steps=steps,
                environments=ENVIRONMENTS,
                warm_up=100,
                growth=0.3,
                rows=1,
                noise=NOISE,
                seed=seed,
            ),
            **changes,
        ),
        goals=goals,
        progress=False,
    )
