"""Changes at test time without retraining: obstacles, goals, a speed limit, smoothness.

Energies and baselines are trained once, on random data of the open plane and of the maze without boxes. Each change is
a cost (the same one for every method) or another goal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ebm_control.data import RolloutBuffer
from ebm_control.energies import Energy, SmoothnessCost, SpeedCost, TrajectoryLayout
from ebm_control.planning import Guided, MPCAgent
from ebm_envs.maze import MazeEnv
from ebm_envs.oracles import maze_oracle, particle_oracle
from ebm_envs.point import MAX_STEP, segments_blocked
from experiments.planning import methods as m
from experiments.planning.problems import (
    PARTICLE,
    UNSEEN,
    UNSEEN_FIRST,
    Problem,
    box_cost,
    data_of,
    obstacle,
)
from experiments.planning.rows import Row, each_alone, episodes, measured, row

SPEED = 0.02  # largest displacement per axis and step under the speed limit; that of actions is 0.05
TOLERANCE = 1.05  # steps of up to this factor of the limit count as within the limit
HALF = 25  # steps before the goal moves
MAZE_STEPS = 80
SPEED_WEIGHT = 1e6
SPEED_MARGIN = 0.97  # penalties are soft and samplers noisy, so plans have a slightly lower limit
SMOOTHNESS_WEIGHT = 1e3
Path = NDArray[np.float64]


class MovedGoal(gym.Wrapper[Any, Any, Any, Any]):
    """The goal jumps to the reset option `then`, `(2,)`, after `HALF` steps; the last of these has the old reward."""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        given = dict(options or {})
        self.then, self.taken = np.asarray(given.pop("then"), np.float64), 0
        return self.env.reset(seed=seed, options=given)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, *rest = self.env.step(action)
        self.taken += 1
        if self.taken == HALF:
            self.unwrapped.goal = self.then.copy()  # type: ignore[attr-defined]
            observation = {**observation, "desired_goal": self.then.copy()}
        return observation, *rest


@dataclass(frozen=True)
class MovedGoals(Problem):
    """A problem with episodes whose goal jumps halfway."""

    def make(self) -> gym.Env[Any, Any]:
        return MovedGoal(super().make())


def _apart(rng: np.random.Generator, place: Path, least: float, most: float) -> Path:
    """A random position whose L∞ distance from `place` is between `least` and `most`."""
    while True:
        other = rng.uniform(-0.9, 0.9, 2)
        if least <= np.abs(other - place).max() <= most:
            return other


def moved(i: int) -> dict[str, Any]:
    """A start, a goal and the goal after the jump, each reachable from the previous one in half an episode."""
    rng = np.random.default_rng([8000, i])
    start = rng.uniform(-0.9, 0.9, 2)
    goal = _apart(rng, start, 0.3, 1.0)
    return {"start": start, "goal": goal, "then": _apart(rng, goal, 0.3, 1.0)}


def far(i: int) -> dict[str, Any]:
    """A start and a goal at a distance of 15 to 40 steps at the speed limit."""
    rng = np.random.default_rng([8100, i])
    start = rng.uniform(-0.9, 0.9, 2)
    return {"start": start, "goal": _apart(rng, start, 15 * SPEED, 40 * SPEED)}


@lru_cache(maxsize=64)
def maze_obstacle(i: int) -> dict[str, Any]:
    """A random start and goal in the maze, and a box in the middle of the oracle's path that leaves a passage.

    The path takes 20 to 50 steps; start and goal are still connected if the box is 0.04 larger on all sides. Its
    corners are at whole moves, like those of the walls, which keeps the oracle's grid small.
    """
    rng = np.random.default_rng([8200, i])
    env = MazeEnv()
    env.reset(seed=int(rng.integers(2**31)))
    while True:
        start, goal = env.sample_free(2)
        if np.abs(start - goal).sum() < 20 * MAX_STEP:
            continue
        way = maze_oracle(start, goal, steps=50).states
        arrived = np.flatnonzero(np.abs(way - goal).sum(-1) < 1e-6)
        if len(arrived) == 0 or arrived[0] < 20:
            continue
        for _ in range(5):
            middle = way[rng.integers(arrived[0] // 3, 2 * arrived[0] // 3 + 1)]
            half = rng.uniform(0.08, 0.14, 2)
            low, high = (np.round(corner / MAX_STEP) * MAX_STEP for corner in (middle - half, middle + half))
            ends = np.stack([start, goal])
            clear = ((ends < low - 0.1) | (ends > high + 0.1)).any(-1).all()
            if clear and joined(start, goal, low - 0.04, high + 0.04):
                return {"start": start, "goal": goal, "obstacles": [(low, high)]}


def joined(start: Path, goal: Path, low: Path, high: Path) -> bool:
    """Whether a path through the maze connects `start` and `goal`, `(2,)`, round a box, on a grid of 0.02."""
    axis = np.linspace(-0.98, 0.98, 99)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    boxes = np.concatenate([MazeEnv.walls, [(low, high)]])
    parts, _ = ndimage.label(~segments_blocked(grid, grid, boxes))
    here, there = (
        parts[tuple(np.rint((place + 0.98) / 0.02).astype(int).clip(0, 98))] for place in (start, goal)
    )
    return bool(here == there and here > 0)


def _boxed(start: Path, goal: Path, options: dict[str, Any]) -> float:
    return maze_oracle(start, goal, MAZE_STEPS, options["obstacles"]).return_


def _halves(start: Path, goal: Path, options: dict[str, Any]) -> float:
    """Return of the best first half, then the best second half from its end: the jump is unknown beforehand.

    Not quite an upper bound: a slower agent may by chance be nearer to the second goal.
    """
    first = particle_oracle(start, options["goal"], HALF)
    return first.return_ + particle_oracle(first.states[-1], options["then"], HALF).return_


def _slowly(start: Path, goal: Path, options: dict[str, Any]) -> float:
    """Return of moving each axis straight to the goal at the speed limit, over 50 steps."""
    left = np.abs(goal - start) - SPEED * np.arange(1, 51)[:, None]
    return -float(np.maximum(left, 0).sum())


MAZE_BOX = Problem(
    "Maze, unseen box",
    "ebm/Maze-v0",
    (0, 1),
    0.05,
    _boxed,
    maze_obstacle,
    arguments={"max_episode_steps": MAZE_STEPS},
)
MOVED = MovedGoals("Particle, goal moved halfway", "ebm/Particle-v0", (0, 1), 0.05, _halves, moved)
SLOW = Problem("Particle, speed limit", "ebm/Particle-v0", (0, 1), 0.05, _slowly, far)
COMPOSED = replace(UNSEEN, name="Particle, box and smoothness")


def over_limit(observations: Path) -> NDArray[np.bool_]:
    """Mask `(T, N)` of the steps of paths `(T + 1, N, 2)` that exceed the limit on some axis."""
    return np.abs(np.diff(observations, axis=0)).max(-1) > TOLERANCE * SPEED


def jerkiness(observations: Path) -> float:
    """Mean over steps and episodes of the squared second difference of positions `(T + 1, N, 2)`."""
    return float(np.square(np.diff(observations, n=2, axis=0)).sum(-1).mean())


def slow_limit(trained: m.Trained) -> torch.Tensor:
    """The speed limit `(obs_dim,)` in the units of the plan."""
    return (SPEED / trained.model.normalizer.obs_std).float()


def slowed(trained: m.Trained) -> Problem:
    """The problem `SLOW` with the limit as a cost of this model's plans."""
    return replace(SLOW, further=lambda layout: slowness(layout, slow_limit(trained)))


def slowness(layout: TrajectoryLayout, limit: torch.Tensor) -> Energy:
    return SPEED_WEIGHT * SpeedCost(layout, SPEED_MARGIN * limit)


def smooth(layout: TrajectoryLayout) -> Energy:
    return SMOOTHNESS_WEIGHT * SmoothnessCost(layout, order=2)


def with_terms(
    method: m.Method,
    problem: Problem,
    planner: str,
    limit: torch.Tensor,
    terms: Energy,
    seed: int,
    steps: float = 1.0,
) -> m.Method:
    """The method over states only, with other costs and another speed limit; its guide, if any, is kept."""
    old, guided = method.agent, method.agent.planner
    plans: Any = m.states_planner(method.trained[0].model, problem, limit, terms, steps=steps)
    if isinstance(guided, Guided):
        plans = Guided(
            plans, guided.guide, guided.line_of_sight, guided.reached, guided.lookahead, guided.index
        )
    agent = MPCAgent(
        plans, old.normalizer, old.action_space, inverse_dynamics=old.inverse_dynamics, seed=seed
    )
    return replace(method, planner=planner, agent=agent)


@dataclass(frozen=True)
class Models:
    """All models, each trained once on random data of the open plane."""

    data: RolloutBuffer
    fine: m.Trained
    coarse: m.Trained
    energy: m.Trained
    baselines: tuple[m.Trained, ...]

    @classmethod
    def of(cls, seed: int, quick: bool) -> Models:
        data = data_of(PARTICLE.env, seed)
        fine, coarse = m.fine_and_coarse(data, seed, updates=500 if quick else 1000)
        energy = m.energy(data, seed, base_updates=1500)
        fits = (m.feed_forward,) if quick else (m.feed_forward, m.ensemble)
        return cls(data, fine, coarse, energy, tuple(fit(data, seed, True) for fit in fits))

    def planning(self, problem: Callable[[m.Trained], Problem], seed: int) -> list[m.Method]:
        """The energy over states and actions, and each baseline over actions; `problem` may depend on the model."""
        searches = (m.search_method(problem(one), one, m.BY_MPPI, seed=seed) for one in self.baselines)
        return [m.energy_method(problem(self.energy), self.energy, seed=seed), *searches]


def maze_box(seed: int, quick: bool) -> list[Row]:
    """Rows of a box in the corridor that is not in the training data."""
    data = data_of(MAZE_BOX.env, seed)
    fine, coarse = m.fine_and_coarse(data, seed)
    count = 2 if quick else 4
    first = count * seed
    boxes = np.array([maze_obstacle(first + i)["obstacles"] for i in range(count)])
    methods = [m.guided_method(MAZE_BOX, fine, coarse, data, boxes=box, seed=seed) for box in boxes]
    found = each_alone(MAZE_BOX, (method.agent for method in methods), seed, first)
    rows = [row(MAZE_BOX, methods[0], seed, found)]
    if quick:
        return rows
    baseline = m.ensemble(data, seed, True)
    method = m.search_method(MAZE_BOX, baseline, m.BY_MPPI, boxes=boxes, horizon=25, seed=seed)
    searched = episodes(MAZE_BOX, method.agent, count, seed, first=first, oracle=False)
    return [*rows, row(MAZE_BOX, method, seed, searched | {"oracle": found["oracle"]})]


def moved_goal(models: Models, seed: int, count: int) -> list[Row]:
    """Rows of a goal that changes after half of the episode."""
    methods = models.planning(lambda trained: MOVED, seed)
    return [measured(MOVED, method, seed, count, count * seed) for method in methods]


def speed_limit(models: Models, seed: int, count: int) -> list[Row]:
    """Rows of a limit of `SPEED` per axis and step, as a cost; success requires reaching the goal within the limit."""
    plain = m.guided_method(SLOW, models.fine, None, models.data, seed=seed)
    limit = slow_limit(models.fine)
    terms, planner = slowness(models.fine.model.layout, limit), "Langevin, states, closed form"
    rows, states = [], with_terms(plain, SLOW, planner, limit, terms, seed, steps=0.25)
    for method in (states, *models.planning(slowed, seed)):
        found = episodes(SLOW, method.agent, count, seed, first=count * seed)
        over = over_limit(found["observations"])
        found["solved"] = (np.array(found["solved"]) & ~over.any(0)).tolist()
        rows.append(row(SLOW, method, seed, found, {"steps_over_limit": float(over.mean())}))
    return rows


def composed(models: Models, seed: int, count: int) -> list[Row]:
    """Rows of dynamics, a box and smoothness together, and of the same without smoothness."""
    first = UNSEEN_FIRST + count * seed
    boxes = np.array([obstacle(first + i)["obstacles"] for i in range(count)])
    fine, normalizer = models.fine, models.fine.model.normalizer
    limit = m.largest_displacement(COMPOSED.make(), normalizer)
    without = [
        m.guided_method(
            COMPOSED,
            fine,
            models.coarse,
            models.data,
            "coarse to fine, without smoothness",
            boxes=box,
            quantile=0.995,
            goal=20.0,  # as in every other plan with smoothness
            seed=seed,
        )
        for box in boxes
    ]
    planner, extra = "coarse to fine, with smoothness", smooth(fine.model.layout)
    smoothed = [
        with_terms(method, COMPOSED, planner, limit, box_cost(normalizer, box) + extra, seed)
        for method, box in zip(without, boxes, strict=True)
    ]
    runs = [
        (methods[0], each_alone(COMPOSED, (method.agent for method in methods), seed, first, oracle=not i))
        for i, methods in enumerate((without, smoothed))
    ]
    for kind, problem in (("without", COMPOSED), ("with", replace(COMPOSED, further=smooth))):
        method = m.search_method(problem, models.baselines[0], m.BY_MPPI, boxes=boxes, horizon=25, seed=seed)
        method = replace(method, planner=f"{method.planner}, {kind} smoothness")
        runs.append((method, episodes(problem, method.agent, count, seed, first=first, oracle=False)))
    oracle = {"oracle": runs[0][1]["oracle"]}
    return [
        row(COMPOSED, method, seed, found | oracle, {"jerkiness": jerkiness(found["observations"])})
        for method, found in runs
    ]


def changes(seed: int, quick: bool) -> list[Row]:
    """Rows of every change, for one seed."""
    models = Models.of(seed, quick)
    rows = maze_box(seed, quick) + moved_goal(models, seed, 4 if quick else 8)
    rows += speed_limit(models, seed, 4 if quick else 8)
    return rows + composed(models, seed, 4)
