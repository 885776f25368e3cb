"""What is run: for each part and seed its data, trainings and episodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm_control.planning import run_episodes
from experiments.planning import methods as m
from experiments.planning.problems import (
    ARM,
    MAZE_PAIRS,
    MAZES,
    PARTICLE,
    REACHER,
    REACHER_GOALS,
    TRANSITIONS,
    UNSEEN,
    Problem,
    data_of,
    obstacle,
)

Row = dict[str, Any]
COSTLY_SEEDS = 2  # seeds that ablations and the ensemble on Arm7 are run for
BASELINES = {"feed-forward": m.feed_forward, "ensemble of 5": m.ensemble}


def episodes(
    problem: Problem, agent: Any, count: int, seed: int, first: int = 0, oracle: bool = True
) -> dict[str, Any]:
    """Returns, successes and times of `count` episodes from the same starts for every method."""
    environments = [problem.make() for _ in range(count)]
    begin = 10_000 + 1000 * seed

    def options(i: int) -> dict[str, Any]:
        return {} if problem.options is None else problem.options(first + i)

    outcome = run_episodes(agent, environments, seed=begin + first, options=options)
    best = (
        [
            problem.oracle(outcome.observations[0, i], np.asarray(goal_of(env)), options(i))
            for i, env in enumerate(environments)
        ]
        if oracle
        else []
    )
    return {
        "returns": outcome.returns.tolist(),
        "oracle": float(np.mean(best)) if best else None,
        "solved": (-outcome.last_rewards / problem.reward_unit <= problem.success).tolist(),
        "milliseconds": float(np.median(outcome.seconds) * 1e3),
    }


def goal_of(env: Any) -> NDArray[Any]:
    return np.asarray(env.unwrapped.goal)


def row(
    problem: Problem,
    method: str,
    planner: str,
    seed: int,
    trained: Sequence[m.Trained],
    found: dict[str, Any],
) -> Row:
    oracle = "not computed" if found["oracle"] is None else f"{found['oracle']:.2f}"
    print(
        f"{problem.name}, {method}, {planner}, seed {seed}: {np.mean(found['returns']):.2f} "
        f"(oracle {oracle}), success {np.mean(found['solved']):.2f}",
        flush=True,
    )
    return {
        "env": problem.name,
        "method": method,
        "planner": planner,
        "data": f"{TRANSITIONS:,} random transitions",
        "seed": seed,
        "episodes": len(found["returns"]),
        "return": float(np.mean(found["returns"])),
        "oracle": found["oracle"],
        "success": float(np.mean(found["solved"])),
        "env_steps": TRANSITIONS,
        "train_seconds": sum(t.seconds for t in trained),
        "batch_plan_ms_p50": found["milliseconds"],
    }


def together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Episodes that were run one at a time, as if run side by side."""
    return {
        "returns": [r for part in parts for r in part["returns"]],
        "oracle": float(np.mean([part["oracle"] for part in parts])),
        "solved": [s for part in parts for s in part["solved"]],
        "milliseconds": float(np.median([part["milliseconds"] for part in parts])),
    }


def particle(seed: int, quick: bool) -> list[Row]:
    data, env = data_of("ebm/Particle-v0", seed), PARTICLE.make()
    space: Any = env.action_space
    trained = m.energy(data, seed, base_updates=1500)
    rows = [
        row(
            PARTICLE,
            "EBM",
            "Langevin, states and actions",
            seed,
            [trained],
            episodes(PARTICLE, m.energy_agent(PARTICLE, trained, space, horizon=12, seed=seed), 2, seed),
        )
    ]
    fine, coarse = (m.joint(data, seed, gap) for gap in (1, 4))
    for kind in ("closed form", "learned", "least squares"):
        agent = m.guided_agent(PARTICLE, fine, coarse, data, env, inverse=kind, guided=False, seed=seed)
        rows.append(
            row(
                PARTICLE,
                "EBM",
                f"Langevin, states, inverse dynamics {kind}",
                seed,
                [fine],
                episodes(PARTICLE, agent, 2, seed),
            )
        )
    count = 4 if quick else 8
    boxes = [obstacle(count * seed + i)["obstacles"] for i in range(count)]
    parts = []
    for i in range(count):
        agent = m.guided_agent(
            UNSEEN, fine, coarse, data, env, boxes=np.array(boxes[i]), quantile=0.995, seed=seed
        )
        parts.append(episodes(UNSEEN, agent, 1, seed, first=count * seed + i))
    rows.append(row(UNSEEN, "EBM", "coarse to fine, closed form", seed, [fine, coarse], together(parts)))
    for name, fit in BASELINES.items():
        baseline = fit(data, seed, True)
        for search in m.SEARCHES:
            if quick and search == "CEM":
                continue
            agent = m.search_agent(PARTICLE, baseline, space, search, seed=seed)
            rows.append(
                row(
                    PARTICLE, name, f"{search}, actions", seed, [baseline], episodes(PARTICLE, agent, 2, seed)
                )
            )
            agent = m.search_agent(
                UNSEEN, baseline, space, search, boxes=np.array(boxes), horizon=25, seed=seed
            )
            rows.append(
                row(
                    UNSEEN,
                    name,
                    f"{search}, actions",
                    seed,
                    [baseline],
                    episodes(UNSEEN, agent, count, seed, first=count * seed),
                )
            )
    return rows


def maze(seed: int, quick: bool) -> list[Row]:
    data, env = data_of("ebm/Maze-v0", seed), MAZES[0].make()
    space: Any = env.action_space
    fine, coarse = (m.joint(data, seed, gap) for gap in (1, 4))
    rows = []
    for problem in MAZES:
        agent = m.guided_agent(problem, fine, coarse, data, env, seed=seed)
        rows.append(
            row(
                problem,
                "EBM",
                "coarse to fine, closed form",
                seed,
                [fine, coarse],
                episodes(problem, agent, 1, seed),
            )
        )
        agent = m.guided_agent(problem, fine, coarse, data, env, guided=False, seed=seed)
        rows.append(
            row(problem, "EBM", "ablation: fine alone", seed, [fine], episodes(problem, agent, 1, seed))
        )
    agent = m.guided_agent(MAZE_PAIRS, fine, coarse, data, env, seed=seed)
    rows.append(
        row(
            MAZE_PAIRS,
            "EBM",
            "coarse to fine, closed form",
            seed,
            [fine, coarse],
            episodes(MAZE_PAIRS, agent, 8 if quick else 20, seed),
        )
    )
    baseline = m.ensemble(data, seed, True)
    for problem in MAZES:
        agent = m.search_agent(problem, baseline, space, "MPPI", horizon=25, seed=seed)
        rows.append(
            row(
                problem, "ensemble of 5", "MPPI, actions", seed, [baseline], episodes(problem, agent, 1, seed)
            )
        )
    return rows if quick or seed >= COSTLY_SEEDS else rows + ablations(seed, data, env)


def ablations(seed: int, data: Any, env: Any) -> list[Row]:
    """The S without one part of the training at a time."""
    variants: dict[str, dict[str, Any]] = {
        "without random negatives": {"random_negatives": 0},
        "without a base measure": {"model": {"base": "none"}},
        "without Fourier features": {"model": {"frequencies": 0}},
    }
    rows = []
    for name, changes in variants.items():
        fine, coarse = (m.joint(data, seed, gap, **changes) for gap in (1, 4))
        agent = m.guided_agent(MAZES[1], fine, coarse, data, env, seed=seed)
        rows.append(
            row(
                MAZES[1], "EBM", f"ablation: {name}", seed, [fine, coarse], episodes(MAZES[1], agent, 1, seed)
            )
        )
    return rows


def reacher(seed: int, quick: bool) -> list[Row]:
    data = data_of("ebm/Reacher-v0", seed)
    space: Any = REACHER.make().action_space
    trained = m.energy(data, seed, quick=quick)
    rows = []
    for problem, count in ((REACHER, 10), (REACHER_GOALS, 10 if quick else 20)):
        agent = m.energy_agent(problem, trained, space, seed=seed)
        rows.append(
            row(
                problem,
                "EBM",
                "Langevin, states and actions",
                seed,
                [trained],
                episodes(problem, agent, count, seed),
            )
        )
    for name, fit in BASELINES.items():
        if quick and name != "feed-forward":
            continue
        baseline = fit(data, seed, quick)
        for search in m.SEARCHES:
            agent = m.search_agent(REACHER, baseline, space, search, horizon=8, seed=seed)
            rows.append(
                row(REACHER, name, f"{search}, actions", seed, [baseline], episodes(REACHER, agent, 10, seed))
            )
    return rows


def arm(seed: int, quick: bool) -> list[Row]:
    data = data_of("ebm/Arm7-v0", seed)
    space: Any = ARM.make().action_space
    trained = m.energy(data, seed)
    count = 4 if quick else 10
    agent = m.energy_agent(ARM, trained, space, steps=60, seed=seed)
    rows = [
        row(
            ARM,
            "EBM",
            "Langevin, states and actions",
            seed,
            [trained],
            episodes(ARM, agent, count, seed, oracle=seed == 0),
        )
    ]
    if quick or seed >= COSTLY_SEEDS:
        return rows
    baseline = m.ensemble(data, seed)
    for search in m.SEARCHES:
        agent = m.search_agent(ARM, baseline, space, search, horizon=15, seed=seed)
        rows.append(
            row(
                ARM,
                "ensemble of 5",
                f"{search}, actions",
                seed,
                [baseline],
                episodes(ARM, agent, count, seed, oracle=seed == 0),
            )
        )
    return rows


JOBS: dict[str, Callable[[int, bool], list[Row]]] = {
    "particle": particle,
    "maze": maze,
    "reacher": reacher,
    "arm": arm,
}


def timings(batches: Sequence[int] = (1, 64)) -> list[Row]:
    """Milliseconds of one call of the planner for each number of start states, warm-started, compiled, one thread.

    Time does not depend on how well a model is trained, so a few updates do.
    """
    rows = []
    for problem, horizon in ((PARTICLE, 12), (REACHER, 15)):
        data = data_of(problem.env, 0)
        trained = m.energy(data, 0, base_updates=500, updates=20)
        space: Any = problem.make().action_space
        for starts in batches:
            agent = m.energy_agent(problem, trained, space, horizon=horizon, engine="compile")
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
