"""What is run: for each part and seed its data, trainings and episodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ebm_control.baselines import BaselineSettings, fit_baseline
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
from experiments.planning.rows import Row, episodes, row, together

COSTLY, COSTLY_SEEDS = ("ablations", "ensemble"), 2  # parts that have fewer seeds, and how many
BASELINES = {"feed-forward": m.feed_forward, "ensemble of 5": m.ensemble}


def run(
    problem: Problem,
    method: str,
    planner: str,
    seed: int,
    trained: Sequence[m.Trained],
    agent: Any,
    count: int,
    **options: Any,
) -> Row:
    """The row of `count` episodes."""
    return row(problem, method, planner, seed, trained, episodes(problem, agent, count, seed, **options))


def particle(seed: int, quick: bool) -> list[Row]:
    data, env = data_of("ebm/Particle-v0", seed), PARTICLE.make()
    space: Any = env.action_space
    trained = m.energy(data, seed, base_updates=1500)
    agent = m.energy_agent(PARTICLE, trained, space, seed=seed)
    rows = [run(PARTICLE, "EBM", "Langevin, states and actions", seed, [trained], agent, 2)]
    fine, coarse = (m.joint(data, seed, gap) for gap in (1, 4))
    for kind in ("closed form", "learned", "least squares"):
        agent = m.guided_agent(PARTICLE, fine, coarse, data, env, inverse=kind, guided=False, seed=seed)
        planner = f"Langevin, states, inverse dynamics {kind}"
        rows.append(run(PARTICLE, "EBM", planner, seed, [fine], agent, 2))
    count = 4 if quick else 8
    first = UNSEEN_FIRST + count * seed
    boxes = np.array([obstacle(first + i)["obstacles"] for i in range(count)])
    for name, guided in (("coarse to fine, closed form", True), ("ablation: fine alone", False)):
        parts = []
        for i in range(count):
            agent = m.guided_agent(
                UNSEEN, fine, coarse, data, env, guided=guided, boxes=boxes[i], quantile=0.995, seed=seed
            )
            parts.append(episodes(UNSEEN, agent, 1, seed, first=first + i))
        rows.append(row(UNSEEN, "EBM", name, seed, [fine, coarse] if guided else [fine], together(parts)))
    for name, fit in BASELINES.items():
        baseline = fit(data, seed, True)
        for search in m.SEARCHES:
            if quick and search == "CEM":
                continue
            planner = f"{search}, actions"
            agent = m.search_agent(PARTICLE, baseline, space, search, seed=seed)
            rows.append(run(PARTICLE, name, planner, seed, [baseline], agent, 2))
            agent = m.search_agent(UNSEEN, baseline, space, search, boxes=boxes, horizon=25, seed=seed)
            rows.append(run(UNSEEN, name, planner, seed, [baseline], agent, count, first=first))
    return rows


def maze(seed: int, quick: bool) -> list[Row]:
    data, env = data_of("ebm/Maze-v0", seed), MAZES[0].make()
    space: Any = env.action_space
    fine, coarse = (m.joint(data, seed, gap) for gap in (1, 4))
    planner, both = "coarse to fine, closed form", [fine, coarse]
    rows = []
    for problem in MAZES:
        agent = m.guided_agent(problem, fine, coarse, data, env, seed=seed)
        rows.append(run(problem, "EBM", planner, seed, both, agent, 1))
        agent = m.guided_agent(problem, fine, coarse, data, env, guided=False, seed=seed)
        rows.append(run(problem, "EBM", "ablation: fine alone", seed, [fine], agent, 1))
    agent = m.guided_agent(MAZE_PAIRS, fine, coarse, data, env, seed=seed)
    rows.append(run(MAZE_PAIRS, "EBM", planner, seed, both, agent, 8 if quick else 20))
    baseline = m.ensemble(data, seed, True)
    for problem in MAZES:
        agent = m.search_agent(problem, baseline, space, "MPPI", horizon=25, seed=seed)
        rows.append(run(problem, "ensemble of 5", "MPPI, actions", seed, [baseline], agent, 1))
    return rows


def ablations(seed: int, quick: bool) -> list[Row]:
    """The S with one part of the training left out, or put in, at a time."""
    problem = MAZES[1]
    data, env = data_of("ebm/Maze-v0", seed), problem.make()
    limit = m.largest_displacement(env, Normalizer.fit(data.observations, data.actions))
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
        fine, coarse = (m.joint(data, seed, gap, **variant) for gap in (1, 4))
        agent = m.guided_agent(problem, fine, coarse, data, env, seed=seed)
        rows.append(run(problem, "EBM", f"ablation: {name}", seed, [fine, coarse], agent, 1))
    return rows


def reacher(seed: int, quick: bool) -> list[Row]:
    data = data_of("ebm/Reacher-v0", seed)
    space: Any = REACHER.make().action_space
    trained = m.energy(data, seed, quick=quick)
    rows = []
    for problem, count in ((REACHER, 10), (REACHER_GOALS, 10 if quick else 20)):
        agent = m.energy_agent(problem, trained, space, seed=seed)
        rows.append(run(problem, "EBM", "Langevin, states and actions", seed, [trained], agent, count))
    for name, fit in BASELINES.items():
        if quick and name != "feed-forward":
            continue
        baseline = fit(data, seed, quick)
        for search in m.SEARCHES:
            agent = m.search_agent(REACHER, baseline, space, search, horizon=8, seed=seed)
            rows.append(run(REACHER, name, f"{search}, actions", seed, [baseline], agent, 10))
    return rows


def arm(seed: int, quick: bool) -> list[Row]:
    data = data_of("ebm/Arm7-v0", seed)
    space: Any = ARM.make().action_space
    count = 4 if quick else 10
    langevin: dict[str, Any] = {"horizon": 15, "chains": 2, "seed": seed}

    def found(method: str, planner: str, trained: m.Trained, agent: Any) -> Row:
        return run(ARM, method, planner, seed, [trained], agent, count)

    trained = m.energy(data, seed)
    agent = m.energy_agent(
        kept_inside(trained), trained, space, steps=20, step_size=0.2, shooting=True, **langevin
    )
    rows = [found("EBM", "Langevin, actions", trained, agent)]
    forward, sampler = m.feed_forward(data, seed), Langevin(20, Linear(0.2, 0.01), noise=0.0, adapt="rms")
    agent = m.search_agent(kept_inside(forward), forward, space, "", sampler=sampler, **langevin)
    rows.append(found("feed-forward", "Langevin, actions", forward, agent))
    if quick:
        return rows
    agent = m.search_agent(kept_inside(forward), forward, space, "MPPI", horizon=15, seed=seed)
    rows.append(found("feed-forward", "MPPI, actions", forward, agent))
    collocation: dict[str, Any] = langevin | {"chains": 4}
    agent = m.energy_agent(kept_inside(trained), trained, space, steps=60, step_size=0.2, **collocation)
    return [*rows, found("EBM", "Langevin, states and actions", trained, agent)]


def arm_ensemble(seed: int, quick: bool) -> list[Row]:
    """The ensemble on Arm7, as wide as the energy's base: 5 networks in every search take their time."""
    data = data_of("ebm/Arm7-v0", seed)
    space: Any = ARM.make().action_space
    settings = BaselineSettings("ensemble", hidden=(256, 256), updates=6000, seed=seed)
    fitted = fit_baseline(data, settings, progress=False)
    trained = m.Trained(fitted, fitted.training.seconds)
    rows = []
    for search, horizon in (("MPPI", 15), ("CEM", 10)):
        agent = m.search_agent(kept_inside(trained), trained, space, search, horizon=horizon, seed=seed)
        rows.append(
            run(ARM, "ensemble of 5", f"{search}, actions", seed, [trained], agent, 4 if quick else 10)
        )
    return rows


def kept_inside(trained: m.Trained) -> Problem:
    """Arm7 with costs against joints within 0.1 rad of their limits, or fast.

    The goal leaves most joints free, and small errors of a model push them to the corners, where it is poor.
    """
    rows = np.zeros((2, 17))
    rows[:, : arm7.JOINTS] = arm7.LIMITS.T + np.array([[0.1], [-0.1]])
    low, high = trained.model.normalizer.normalize_observations(torch.from_numpy(rows)).float()
    angles, speeds = list(range(arm7.JOINTS)), list(range(arm7.JOINTS, 2 * arm7.JOINTS))
    costs = 30 * BoundCost(low[angles], high[angles], angles)
    costs = costs + 0.3 * BoundCost(low[speeds], high[speeds], speeds)
    return replace(ARM, further=lambda layout: costs)


JOBS: dict[str, Callable[[int, bool], list[Row]]] = {
    "particle": particle,
    "changes": changes,
    "maze": maze,
    "reacher": reacher,
    "arm": arm,
    "ablations": ablations,
    "ensemble": arm_ensemble,
}


def timings(batches: Sequence[int]) -> list[Row]:
    """Milliseconds of one call of the planner for each number of start states, warm-started, compiled, one thread.

    Time does not depend on how well a model is trained, so a few updates do.
    """
    rows: list[Row] = []
    for problem in (PARTICLE, REACHER) if batches else ():
        data = data_of(problem.env, 0)
        trained = m.energy(data, 0, base_updates=500, updates=20)
        space: Any = problem.make().action_space
        for starts in batches:
            agent = m.energy_agent(problem, trained, space, engine="compile")
            environments = [problem.make() for _ in range(starts)]
            began = time.perf_counter()
            run_episodes(agent, environments, seed=0)  # the first calls compile
            first = time.perf_counter() - began
            seconds = run_episodes(agent, environments, seed=1).seconds[1:]
            rows.append(
                {
                    "env": problem.name,
                    "method": "EBM",
                    "planner": "Langevin, states and actions",
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
