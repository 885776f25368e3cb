"""What changes at test time while nothing is retrained: obstacles, goals, a speed limit, smoothness.

Energies and baselines are trained once, on random data of the open plane and of the bare maze. What changes comes
as a cost (the same one for every method) or as another goal.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from experiments.planning.rows import Row, episodes, row, together

SPEED = 0.02  # largest displacement per axis and step under the speed limit; actions could do 0.05
TOLERANCE = 1.05  # a step of up to this many limits keeps the limit
HALF = 25  # steps before the goal moves
MAZE_STEPS = 80
SPEED_WEIGHT = 1e6
SPEED_MARGIN = 0.97  # a penalty is soft and a sampler jitters: plans are held to a little less
SMOOTHNESS_WEIGHT = 1e3
Path = NDArray[np.float64]


class MovedGoal(gym.Wrapper[Any, Any, Any, Any]):
    """The goal jumps to the reset option `then`, `(2,)`, after `HALF` steps; that step's reward is the old goal's."""

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
    """Episodes whose goal jumps halfway."""

    def make(self) -> gym.Env[Any, Any]:
        return MovedGoal(super().make())


def _apart(rng: np.random.Generator, place: Path, least: float, most: float) -> Path:
    """A place whose larger coordinate distance from `place` lies within `least` and `most`."""
    while True:
        other = rng.uniform(-0.9, 0.9, 2)
        if least <= np.abs(other - place).max() <= most:
            return other


def moved(i: int) -> dict[str, Any]:
    """A start, a goal and the goal after the jump, each within reach of the one before in half an episode."""
    rng = np.random.default_rng([8000, i])
    start = rng.uniform(-0.9, 0.9, 2)
    goal = _apart(rng, start, 0.3, 1.0)
    return {"start": start, "goal": goal, "then": _apart(rng, goal, 0.3, 1.0)}


def far(i: int) -> dict[str, Any]:
    """A start and a goal that the speed limit reaches in 15 to 40 steps."""
    rng = np.random.default_rng([8100, i])
    start = rng.uniform(-0.9, 0.9, 2)
    return {"start": start, "goal": _apart(rng, start, 15 * SPEED, 40 * SPEED)}


@lru_cache(maxsize=64)
def maze_obstacle(i: int) -> dict[str, Any]:
    """A pair of random places in the maze and a box in the middle of the oracle's way that leaves a passage.

    The way takes 20 to 50 steps; with the box 0.04 larger all round, the two places are still joined. Its corners
    lie at whole moves, as those of the walls do, which keeps the oracle's grid small.
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
    """Whether a way leads through the maze from `start` to `goal`, `(2,)`, round a box: on a grid of 0.02."""
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
    """Best first half, then the best second half from where that one ends: nobody knows of the jump before it.

    Not quite an upper bound: who lags behind may by chance be nearer to the second goal.
    """
    first = particle_oracle(start, options["goal"], HALF)
    return first.return_ + particle_oracle(first.states[-1], options["then"], HALF).return_


def _slowly(start: Path, goal: Path, options: dict[str, Any]) -> float:
    """Each axis straight to the goal at the limit, 50 steps."""
    left = np.abs(goal - start) - SPEED * np.arange(1, 51)[:, None]
    return -float(np.maximum(left, 0).sum())


MAZE_BOX = Problem(
    "Maze, unseen box",
    "ebm/Maze-v0",
    (0, 1),
    0.05,
    _boxed,
    maze_obstacle,
    arguments=(("max_episode_steps", MAZE_STEPS),),
)
MOVED = MovedGoals("Particle, goal moved halfway", "ebm/Particle-v0", (0, 1), 0.05, _halves, moved)
SLOW = Problem("Particle, speed limit", "ebm/Particle-v0", (0, 1), 0.05, _slowly, far)
COMPOSED = replace(UNSEEN, name="Particle, box and smoothness")


def over_limit(observations: Path) -> NDArray[np.bool_]:
    """Whether each step `(T, N)` of paths `(T + 1, N, 2)` is faster than the limit on some axis."""
    return np.abs(np.diff(observations, axis=0)).max(-1) > TOLERANCE * SPEED


def jerkiness(observations: Path) -> float:
    """Mean over steps and episodes of the squared second difference of positions `(T + 1, N, 2)`."""
    return float(np.square(np.diff(observations, n=2, axis=0)).sum(-1).mean())


def slow_limit(trained: m.Trained) -> torch.Tensor:
    """The speed limit `(obs_dim,)` in the units of the plan."""
    return (SPEED / trained.model.normalizer.obs_std).float()


def slowed(trained: m.Trained) -> Problem:
    """`SLOW` with the limit as a cost of the plans of this model."""
    return replace(SLOW, further=lambda layout: slowness(layout, slow_limit(trained)))


def slowness(layout: TrajectoryLayout, limit: torch.Tensor) -> Energy:
    return SPEED_WEIGHT * SpeedCost(layout, SPEED_MARGIN * limit)


def smooth(layout: TrajectoryLayout) -> Energy:
    return SMOOTHNESS_WEIGHT * SmoothnessCost(layout, order=2)


def with_terms(
    agent: MPCAgent,
    problem: Problem,
    fine: m.Trained,
    limit: torch.Tensor,
    terms: Energy,
    seed: int,
    steps: float = 1.0,
) -> MPCAgent:
    """The agent of states alone with other costs and another speed limit; its guide, if it has one, stays.

    `steps` scales Langevin's: a hard limit is kept no better than to the last of them.
    """
    planner: Any = m.states_planner(fine.model, problem, limit, terms)
    scale = tuple((4 * steps * limit).tolist())
    planner.sampler, planner.first = (replace(s, scale=scale) for s in (planner.sampler, planner.first))
    if isinstance(agent.planner, Guided):
        guided = agent.planner
        planner = Guided(planner, guided.guide, guided.sees, guided.reached, guided.lookahead, guided.index)
    return MPCAgent(
        planner,
        agent.normalizer,
        agent.action_space,
        inverse_dynamics=agent.inverse_dynamics,
        seed=seed,
    )


@dataclass(frozen=True)
class Models:
    """All that is trained, once, on random data of the open plane."""

    data: RolloutBuffer
    fine: m.Trained
    coarse: m.Trained
    energy: m.Trained
    baselines: dict[str, m.Trained]

    @classmethod
    def of(cls, seed: int, quick: bool) -> Models:
        data = data_of(PARTICLE.env, seed)
        updates = 500 if quick else 1000
        baselines = {"feed-forward": m.feed_forward(data, seed, True)}
        if not quick:
            baselines["ensemble of 5"] = m.ensemble(data, seed, True)
        return cls(
            data,
            m.joint(data, seed, 1, updates=updates),
            m.joint(data, seed, 4, updates=updates),
            m.energy(data, seed, base_updates=1500),
            baselines,
        )


def maze_box(seed: int, quick: bool) -> list[Row]:
    """A box in the corridor that no data knew of."""
    data, env = data_of(MAZE_BOX.env, seed), MAZE_BOX.make()
    fine, coarse = (m.joint(data, seed, gap) for gap in (1, 4))
    count = 2 if quick else 4
    first = count * seed
    boxes = np.array([maze_obstacle(first + i)["obstacles"] for i in range(count)])
    parts = []
    for i in range(count):
        agent = m.guided_agent(MAZE_BOX, fine, coarse, data, env, boxes=boxes[i], seed=seed)
        parts.append(episodes(MAZE_BOX, agent, 1, seed, first=first + i))
    found = together(parts)
    rows = [row(MAZE_BOX, "EBM", "coarse to fine, closed form", seed, [fine, coarse], found)]
    if quick:
        return rows
    baseline = m.ensemble(data, seed, True)
    space: Any = env.action_space
    agent = m.search_agent(MAZE_BOX, baseline, space, "MPPI", boxes=boxes, horizon=25, seed=seed)
    searched = episodes(MAZE_BOX, agent, count, seed, first=first, oracle=False)
    searched["oracle"] = found["oracle"]
    return [*rows, row(MAZE_BOX, "ensemble of 5", "MPPI, actions", seed, [baseline], searched)]


def moved_goal(models: Models, seed: int, count: int) -> list[Row]:
    """Another goal after half of the episode."""
    env = MOVED.make()
    space: Any = env.action_space
    agents: list[tuple[str, str, m.Trained, MPCAgent]] = [
        (
            "EBM",
            "Langevin, states and actions",
            models.energy,
            m.energy_agent(MOVED, models.energy, space, seed=seed),
        )
    ]
    for name, trained in models.baselines.items():
        agents.append(
            (name, "MPPI, actions", trained, m.search_agent(MOVED, trained, space, "MPPI", seed=seed))
        )
    return [
        row(MOVED, name, planner, seed, [trained], episodes(MOVED, agent, count, seed, first=count * seed))
        for name, planner, trained, agent in agents
    ]


def speed_limit(models: Models, seed: int, count: int) -> list[Row]:
    """At most `SPEED` an axis and step, as a cost; success is to arrive and to have kept the limit all along."""
    env = SLOW.make()
    space: Any = env.action_space
    plain = m.guided_agent(SLOW, models.fine, models.coarse, models.data, env, guided=False, seed=seed)
    limit = slow_limit(models.fine)
    terms = slowness(models.fine.model.layout, limit)
    states = with_terms(plain, SLOW, models.fine, limit, terms, seed, steps=0.25)
    both = m.energy_agent(slowed(models.energy), models.energy, space, seed=seed)
    agents: list[tuple[str, str, m.Trained, MPCAgent]] = [
        ("EBM", "Langevin, states, closed form", models.fine, states),
        ("EBM", "Langevin, states and actions", models.energy, both),
    ]
    for name, trained in models.baselines.items():
        agent = m.search_agent(slowed(trained), trained, space, "MPPI", seed=seed)
        agents.append((name, "MPPI, actions", trained, agent))
    rows = []
    for name, planner, trained, agent in agents:
        found = episodes(SLOW, agent, count, seed, first=count * seed)
        over = over_limit(found["observations"])
        found["solved"] = (np.array(found["solved"]) & ~over.any(0)).tolist()
        rows.append(
            row(SLOW, name, planner, seed, [trained], found, {"steps_over_limit": float(over.mean())})
        )
    return rows


def composed(models: Models, seed: int, count: int) -> list[Row]:
    """Dynamics, a box and smoothness together, and the same without smoothness."""
    env = COMPOSED.make()
    space: Any = env.action_space
    first = UNSEEN_FIRST + count * seed
    boxes = np.array([obstacle(first + i)["obstacles"] for i in range(count)])
    fine, layout = models.fine, models.fine.model.layout
    limit = m.largest_displacement(env, fine.model.normalizer)
    parts: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    for i in range(count):
        agent = m.guided_agent(
            COMPOSED,
            fine,
            models.coarse,
            models.data,
            env,
            boxes=boxes[i],
            quantile=0.995,
            goal=20.0,  # as in every other plan with smoothness
            seed=seed,
        )
        parts["without"].append(episodes(COMPOSED, agent, 1, seed, first=first + i))
        terms = box_cost(fine.model.normalizer, boxes[i]) + smooth(layout)
        agent = with_terms(agent, COMPOSED, fine, limit, terms, seed)
        parts["with"].append(episodes(COMPOSED, agent, 1, seed, first=first + i, oracle=False))
    found: dict[str, dict[str, Any]] = {kind: together(part) for kind, part in parts.items()}
    oracle = found["without"]["oracle"]
    rows = []

    def add(name: str, planner: str, trained: list[m.Trained], found: dict[str, Any]) -> None:
        extra = {"jerkiness": jerkiness(found["observations"])}
        rows.append(row(COMPOSED, name, planner, seed, trained, found | {"oracle": oracle}, extra))

    for kind, episode in found.items():
        add("EBM", f"coarse to fine, {kind} smoothness", [fine, models.coarse], episode)
    trained = models.baselines["feed-forward"]
    for kind, problem in (("without", COMPOSED), ("with", replace(COMPOSED, further=smooth))):
        agent = m.search_agent(problem, trained, space, "MPPI", boxes=boxes, horizon=25, seed=seed)
        searched = episodes(problem, agent, count, seed, first=first, oracle=False)
        add("feed-forward", f"MPPI, actions, {kind} smoothness", [trained], searched)
    return rows


def changes(seed: int, quick: bool) -> list[Row]:
    """Rows of every change, for one seed."""
    models = Models.of(seed, quick)
    rows = maze_box(seed, quick) + moved_goal(models, seed, 4 if quick else 8)
    rows += speed_limit(models, seed, 4 if quick else 8)
    return rows + composed(models, seed, 4)
