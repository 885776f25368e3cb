"""The budget experiment: what a number of updates means, its intervals, and plans that are timed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from ebm_control.data import collect
from experiments.planning import methods as m
from experiments.planning.budget import COLUMNS, PAIRS, Sweep, summarised, timed


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """MPPI over actions of a barely trained energy's base measure."""
    data = collect(lambda: gym.make(PAIRS.env, start="random"), 2000, seed=0, progress=False)
    trained = m.energy(data, 0, base_updates=100, updates=2)
    return Sweep(m.search_method(PAIRS, trained, m.BY_MPPI, horizon=5), (1, 3))


def test_a_budget_changes_the_updates_and_nothing_else(sweep: Sweep) -> None:
    planners: list[Any] = [sweep.at(updates, 0).planner for updates in (1, 3)]
    few, many = planners
    assert few.sampler == replace(many.sampler, steps=1)
    assert (few.first.steps, many.first.steps) == (3, 9)
    assert few.energy is many.energy  # compiled once for all budgets
    untouched: Any = sweep.method.agent.planner
    assert untouched.sampler.steps == m.BY_MPPI.sampler.steps


def test_equal_seeds_and_budgets_give_equal_actions(sweep: Sweep) -> None:
    observation, _ = PAIRS.make().reset(seed=0)
    first, again, longer = (sweep.at(updates, 5).predict(observation)[0] for updates in (1, 1, 3))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, longer)


def test_searching_the_base_measure_leads_towards_the_goal(sweep: Sweep) -> None:
    env = PAIRS.make()
    observation, _ = env.reset(seed=1)
    agent, state = sweep.at(4, 0), None
    before = np.abs(observation["observation"] - observation["desired_goal"]).sum()
    for _ in range(8):
        action, state = agent.predict(observation, state)
        observation, *_ = env.step(action)
    assert np.abs(observation["observation"] - observation["desired_goal"]).sum() < before - 0.2


def test_pairs_differ_from_seed_to_seed() -> None:
    env = PAIRS.make()
    (one, _), (other, _) = env.reset(seed=0), env.reset(seed=1)
    assert not np.allclose(one["observation"], other["observation"])
    assert not np.allclose(one["desired_goal"], other["desired_goal"])


def test_a_timed_setting_gets_the_returns_of_its_own_budget() -> None:
    name: dict[str, Any] = {"env": "Reacher", "method": "EBM", "planner": "Langevin, states and actions"}
    by_seed = [
        name
        | {
            "updates": updates,
            "seed": seed,
            "episodes": 5,
            "return": value - updates,
            "oracle": -4.0,
            "success": 1.0,
        }
        for updates in (5, 10)
        for seed, value in enumerate((-5.0, -6.0, -7.0))
    ]
    times = [name | {"updates": 10, "engine": engine, "plan_ms_p50": 2.0} for engine in ("eager", "compile")]
    eager, compiled = timed(summarised(by_seed), times)
    assert (eager["return"], eager["seeds"], eager["episodes"]) == (-16.0, 3, 15)
    assert eager["return_ci95"] == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)  # t of 2 degrees of freedom
    assert compiled == eager | {"engine": "compile"}
    assert [cells[3:6] for cells in COLUMNS.cells([eager, compiled])] == [
        [engine, "10", "2"] for engine in ("eager", "compile")
    ]
    untimed = timed(summarised(by_seed), [])
    assert [row["updates"] for row in untimed] == [5, 10]
    assert [cells[3:6] for cells in COLUMNS.cells(untimed)] == [
        ["–", updates, "–"] for updates in ("5", "10")
    ]
    assert timed(summarised(by_seed[:1]), [times[0] | {"updates": 5}])[0]["return_ci95"] is None
