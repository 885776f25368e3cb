"""Sections about what plans lead to: returns next to oracles', pendulums with nothing tuned, memory of many plans."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from torch import Tensor

import ebm_control as ebm
from benchmarks.planning.contenders import COMPILED, DEFAULT, EAGER, default_agent, first_order_agent
from benchmarks.planning.rounds import Driver
from benchmarks.planning.sizes import Models, Size
from benchmarks.planning.timings import Part
from experiments.planning.jobs import kept_inside
from experiments.planning.problems import ARM, REACHER, Problem
from experiments.planning.rows import episodes

PENDULUM_STARTS = 10


def reacher_returns(models: Models) -> Part:
    """Returns on Reacher with a fixed goal, beside the oracle's from the same starts."""
    rows = _returns(models, lambda seed: REACHER, models.size.episodes)
    return {"returns": rows, "ratios": {"reacher_return": _mean(rows, "return")}}


def arm7_returns(models: Models) -> Part:
    """Returns and successes on Arm7 with random goals, beside the oracle's return."""
    rows = _returns(models, lambda seed: kept_inside(models.of(ARM, seed)), models.size.arm_episodes)
    figures = {"arm7_success": _mean(rows, "success"), "arm7_return": _mean(rows, "return")}
    return {"returns": rows, "ratios": figures}


def _returns(models: Models, problem_of: Callable[[int], Problem], count: int) -> list[dict[str, Any]]:
    """A row for each training seed and contender; first-order plans are the same with both engines."""
    rows = []
    for seed in range(models.size.seeds):
        problem = problem_of(seed)
        trained = models.of(problem, seed)
        agents = {DEFAULT: default_agent(problem, trained.model, seed=seed)}
        if models.size.first_order_returns:
            compiled = models.size.compiled_batches
            agent = first_order_agent(problem, trained, "compile" if compiled else "eager", seed)
            agents[COMPILED if compiled else EAGER] = agent
        for name, agent in agents.items():
            found = episodes(problem, agent, count, seed)
            rows.append(
                {
                    "problem": problem.name,
                    "contender": name,
                    "seed": seed,
                    "episodes": count,
                    "return": float(np.mean(found["returns"])),
                    "oracle": found["oracle"],
                    "success": float(np.mean(found["solved"])),
                }
            )
    return rows


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    return round(float(np.mean([row[name] for row in rows if row["contender"] == DEFAULT])), 4)


@dataclass(frozen=True)
class Pendulum:
    """An environment for the README's five lines.

    Attributes:
        env: Gymnasium id.
        make: builds it for episodes.
        reward: what to plan for, in the environment's units.
        horizon: steps ahead.

    """

    env: str
    make: Callable[[], gym.Env[Any, Any]]
    reward: Callable[[Tensor, Tensor, Tensor], Tensor]
    horizon: int


def _upright(s: Tensor, a: Tensor, s2: Tensor) -> Tensor:
    return s2[..., 0]


def _balanced(s: Tensor, a: Tensor, s2: Tensor) -> Tensor:
    """The README's reward."""
    return -(s2[..., 1] ** 2) - 0.1 * s2[..., 0] ** 2


SWING_UP = Pendulum("Pendulum-v1", lambda: gym.make("Pendulum-v1"), _upright, 20)
BALANCE = Pendulum(
    "InvertedPendulum-v5",
    lambda: gym.make("InvertedPendulum-v5", max_episode_steps=100),
    _balanced,
    10,
)


def pendulums(models: Models) -> Part:
    """Pendulum-v1 and InvertedPendulum-v5 from random transitions by the README's five lines; nothing is tuned."""
    if models.size.pendulum_transitions == 0:
        return {}
    seeds = range(models.size.seeds)
    rows = {
        pendulum.env: [pendulum_row(pendulum, seed, models.size) for seed in seeds]
        for pendulum in (SWING_UP, BALANCE)
    }
    swings, balances = rows[SWING_UP.env], rows[BALANCE.env]
    return {
        "pendulums": [*swings, *balances],
        "ratios": {
            "pendulum_mean": round(float(np.mean([row["mean"] for row in swings])), 2),
            "pendulum_worst": round(min(row["worst"] for row in swings), 2),
            "inverted_pendulum_least": round(min(row["worst"] for row in balances), 2),
        },
    }


def pendulum_row(pendulum: Pendulum, seed: int, size: Size) -> dict[str, Any]:
    """Collect, fit, plan and evaluate; mean and worst return over the starts."""
    rollouts = ebm.collect(pendulum.env, steps=size.pendulum_transitions, seed=seed, progress=False)
    settings = replace(size.pendulum_settings or ebm.TrainSettings(), seed=seed)
    model = ebm.fit(rollouts, settings, progress=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="reward")  # it is not the one that the environment gives
        agent = ebm.make_agent(
            model, pendulum.make(), reward=pendulum.reward, horizon=pendulum.horizon, seed=seed
        )
    found = ebm.evaluate(agent, pendulum.make, PENDULUM_STARTS, seed=seed)
    return {
        "env": pendulum.env,
        "seed": seed,
        "starts": PENDULUM_STARTS,
        "mean": round(found.mean, 3),
        "worst": round(float(found.returns.min()), 3),
        "p50_ms": round(1e3 * float(np.median(found.seconds)), 3),
    }


def memory(models: Models) -> Part:
    """Many plans in this process, with episodes one after another: resident memory, and plans that are not finite."""
    plans = models.size.plans
    early = min(1000, plans // 2)
    driver = Driver(default_agent(REACHER, models.of(REACHER).model), [REACHER.make()])
    try:
        found = {}
        for target in (early, plans):
            while driver.plans < target:
                driver.step()
            found[target] = resident_mib()
    finally:
        driver.close()
    growth = round(found[plans] - found[early], 2)
    return {
        "memory": {
            "plans": plans,
            "early_plans": early,
            "early_mib": round(found[early], 2),
            "end_mib": round(found[plans], 2),
            "non_finite": driver.non_finite,
            "return": round(float(np.mean(driver.returns)), 4) if driver.returns else None,
        },
        "ratios": {"memory_growth_mib": growth, "non_finite": driver.non_finite},
    }


def resident_mib() -> float:
    """Resident memory of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
