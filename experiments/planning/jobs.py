"""Jobs: for each part and seed its data, trainings and episodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from ebm_control.data import Normalizer
from ebm_control.energies import BoundCost
from ebm_control.planning import PlannedNegatives, run_episodes
from ebm_control.samplers import Langevin, Linear
from ebm_envs import arm7
from experiments.planning import methods as m
from experiments.planning.changes import changes
from experiments.planning.problems import (
    ARM,
    MAZE_PAIRS,
    MAZES,
    PARTICLE,
    REACHER,
    REACHER_GOALS,
    UNSEEN,
    UNSEEN_FIRST,
    Problem,
    data_of,
    obstacle,
)
from experiments.planning.rows import Row, each_alone, measured, row

ARM_LANGEVIN = m.Search("Langevin", Langevin(20, Linear(0.2, 0.01), noise=0.0, adapt="rms"))


def particle(seed: int, quick: bool) -> list[Row]:
    data = data_of(PARTICLE.env, seed)
    trained = m.energy(data, seed, base_updates=1500)
    methods = [m.energy_method(PARTICLE, trained, seed=seed)]
    fine, coarse = m.fine_and_coarse(data, seed)
    for name, inverse in (("closed form", None), ("learned", m.learned), ("least squares", m.least_squares)):
        planner = f"Langevin, states, inverse dynamics {name}"
        methods.append(m.guided_method(PARTICLE, fine, None, data, planner, inverse=inverse, seed=seed))
    rows = [measured(PARTICLE, method, seed, 2) for method in methods]
    count = 4 if quick else 8
    first = UNSEEN_FIRST + count * seed
    boxes = np.array([obstacle(first + i)["obstacles"] for i in range(count)])
    for planner, sight in ((m.COARSE_TO_FINE, coarse), ("ablation: fine alone", None)):
        knowing = [
            m.guided_method(UNSEEN, fine, sight, data, planner, boxes=box, quantile=0.995, seed=seed)
            for box in boxes
        ]
        found = each_alone(UNSEEN, (method.agent for method in knowing), seed, first)
        rows.append(row(UNSEEN, knowing[0], seed, found))
    for fit in (m.feed_forward, m.ensemble):
        baseline = fit(data, seed, True)
        for search in (m.BY_MPPI,) if quick else m.SEARCHES:
            rows.append(measured(PARTICLE, m.search_method(PARTICLE, baseline, search, seed=seed), seed, 2))
            method = m.search_method(UNSEEN, baseline, search, boxes=boxes, horizon=25, seed=seed)
            rows.append(measured(UNSEEN, method, seed, count, first))
    return rows


def maze(seed: int, quick: bool) -> list[Row]:
    data = data_of("ebm/Maze-v0", seed)
    fine, coarse = m.fine_and_coarse(data, seed)
    rows = []
    for problem in MAZES:
        method = m.guided_method(problem, fine, coarse, data, seed=seed)
        rows.append(measured(problem, method, seed, 1))
        method = m.guided_method(problem, fine, None, data, "ablation: fine alone", seed=seed)
        rows.append(measured(problem, method, seed, 1))
    method = m.guided_method(MAZE_PAIRS, fine, coarse, data, seed=seed)
    rows.append(measured(MAZE_PAIRS, method, seed, 8 if quick else 20))
    baseline = m.ensemble(data, seed, True)
    for problem in MAZES:
        method = m.search_method(problem, baseline, m.BY_MPPI, horizon=25, seed=seed)
        rows.append(measured(problem, method, seed, 1))
    return rows


def ablations(seed: int, quick: bool) -> list[Row]:
    """Rows of the S-shaped maze with one part of the training removed or added at a time."""
    problem = MAZES[1]
    data = data_of(problem.env, seed)
    limit = m.largest_displacement(problem.make(), Normalizer.fit(data.observations, data.actions))
    variants: dict[str, dict[str, Any]] = {
        "without a base measure": {"model": {"base": "none"}},
        "without Fourier features": {"model": {"frequencies": 0}},
        "with random negatives": {"random_negatives": 128},
        "with plans as negatives": {
            "planned": lambda model: PlannedNegatives(
                m.states_planner(model, problem, limit), count=128, seed=seed
            )
        },
    }
    rows = []
    for name, variant in variants.items():
        fine, coarse = m.fine_and_coarse(data, seed, **variant)
        method = m.guided_method(problem, fine, coarse, data, f"ablation: {name}", seed=seed)
        rows.append(measured(problem, method, seed, 1))
    return rows


def reacher(seed: int, quick: bool) -> list[Row]:
    data = data_of(REACHER.env, seed)
    trained = m.energy(data, seed, quick=quick)
    rows = []
    for problem, count in ((REACHER, 10), (REACHER_GOALS, 10 if quick else 20)):
        rows.append(measured(problem, m.energy_method(problem, trained, seed=seed), seed, count))
    for fit in (m.feed_forward,) if quick else (m.feed_forward, m.ensemble):
        baseline = fit(data, seed, quick)
        for search in m.SEARCHES:
            method = m.search_method(REACHER, baseline, search, horizon=8, seed=seed)
            rows.append(measured(REACHER, method, seed, 10))
    return rows


def arm(seed: int, quick: bool) -> list[Row]:
    data = data_of(ARM.env, seed)
    given: dict[str, Any] = {"horizon": 15, "seed": seed}
    trained, forward = m.energy(data, seed), m.feed_forward(data, seed)
    inside = kept_inside(trained)
    methods = [
        m.search_method(inside, trained, ARM_LANGEVIN, chains=2, **given),
        m.search_method(kept_inside(forward), forward, ARM_LANGEVIN, chains=2, **given),
    ]
    if not quick:
        methods += [
            m.search_method(kept_inside(forward), forward, m.BY_MPPI, **given),
            m.energy_method(inside, trained, steps=60, step_size=0.2, chains=4, **given),
        ]
    return [measured(ARM, method, seed, 4 if quick else 10) for method in methods]


def arm_ensemble(seed: int, quick: bool) -> list[Row]:
    """Rows of the ensemble on Arm7, as wide as the energy's base; its 5 networks make every search slow."""
    trained = m.ensemble(data_of(ARM.env, seed), seed, hidden=(256, 256), updates=6000)
    rows = []
    for search, horizon in ((m.BY_MPPI, 15), (m.BY_CEM, 10)):
        method = m.search_method(kept_inside(trained), trained, search, horizon=horizon, seed=seed)
        rows.append(measured(ARM, method, seed, 4 if quick else 10))
    return rows


def kept_inside(trained: m.Trained) -> Problem:
    """Arm7 with costs for joints that are within 0.1 rad of their limits, or fast.

    The goal does not determine most joints, and small model errors push them to the limits, where the model is poor.
    """
    rows = np.zeros((2, 17))
    rows[:, : arm7.JOINTS] = arm7.LIMITS.T + np.array([[0.1], [-0.1]])
    low, high = trained.model.normalizer.normalize_observations(torch.from_numpy(rows)).float()
    angles, speeds = list(range(arm7.JOINTS)), list(range(arm7.JOINTS, 2 * arm7.JOINTS))
    costs = 30 * BoundCost(low[angles], high[angles], angles)
    costs = costs + 0.3 * BoundCost(low[speeds], high[speeds], speeds)
    return replace(ARM, further=lambda layout: costs)


@dataclass(frozen=True)
class Part:
    """A part of the table.

    Attributes:
        rows: computes the rows of a seed; quick: with fewer or shorter episodes.
        quick: whether it is part of a quick run.
        seeds: maximum number of seeds, for expensive parts; None for all.

    """

    rows: Callable[[int, bool], list[Row]]
    quick: bool = True
    seeds: int | None = None


PARTS = {
    "maze": Part(maze),
    "particle": Part(particle),
    "arm": Part(arm),
    "reacher": Part(reacher),
    "changes": Part(changes, quick=False),
    "ablations": Part(ablations, quick=False, seeds=2),
    "ensemble": Part(arm_ensemble, quick=False, seeds=2),
}


@dataclass(frozen=True)
class Job:
    """A part of the table for one seed."""

    name: str
    seed: int
    quick: bool


def jobs_of(parts: Iterable[str], seeds: Iterable[int], quick: bool) -> Iterator[Job]:
    """Jobs seed by seed, so that a run that is stopped has complete seeds."""
    for seed, name in product(seeds, parts):
        part = PARTS[name]
        if part.quick if quick else part.seeds is None or seed < part.seeds:
            yield Job(name, seed, quick)


def run(job: Job) -> list[Row]:
    """Rows of a part and seed."""
    return PARTS[job.name].rows(job.seed, job.quick)


def timings(batches: Sequence[int]) -> list[Row]:
    """Milliseconds per call of the planner for each number of start states: warm-started, compiled, on one thread.

    Times do not depend on how well a model is trained, so a few updates are enough.
    """
    rows: list[Row] = []
    for problem in (PARTICLE, REACHER) if batches else ():
        trained = m.energy(data_of(problem.env, 0), 0, base_updates=500, updates=20)
        for starts in batches:
            method = m.energy_method(problem, trained, engine="compile")
            environments = [problem.make() for _ in range(starts)]
            began = time.perf_counter()
            run_episodes(method.agent, environments, seed=0)  # the first calls compile
            first = time.perf_counter() - began
            seconds = run_episodes(method.agent, environments, seed=1).seconds[1:]
            rows.append(
                {
                    "env": problem.name,
                    "method": trained.name,
                    "planner": method.planner,
                    "engine": "compile",
                    "threads": 1,
                    "starts": starts,
                    "plan_ms_p50": float(np.quantile(seconds, 0.5) * 1e3),
                    "plan_ms_p95": float(np.quantile(seconds, 0.95) * 1e3),
                    "plans_per_second": float(starts / np.median(seconds)),
                    "first_episode_seconds": first,
                }
            )
            print(rows[-1], flush=True)
    return rows
