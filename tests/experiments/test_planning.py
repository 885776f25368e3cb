"""The planning experiment's own parts: problems, intervals, the table."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from ebm_envs.oracles import particle_oracle
from experiments.planning.__main__ import NOT_QUICK, jobs_of, summarised, timed
from experiments.planning.jobs import COSTLY, COSTLY_SEEDS, JOBS
from experiments.planning.problems import UNSEEN, obstacle
from experiments.planning.report import markdown


def row(
    seed: int, value: float, oracle: float | None, episodes: int = 10, success: float = 1.0
) -> dict[str, Any]:
    return {
        "env": "Reacher",
        "method": "EBM",
        "planner": "Langevin",
        "data": "random",
        "seed": seed,
        "episodes": episodes,
        "return": value,
        "oracle": oracle,
        "success": success,
        "env_steps": 100_000,
        "train_seconds": 10.0,
        "batch_plan_ms_p50": 1.0,
    }


def test_intervals_are_students_over_the_means_of_seeds() -> None:
    (merged,) = summarised([row(seed, value, None) for seed, value in enumerate((-5.0, -6.0, -7.0))])
    assert merged["return_mean"] == -6.0
    assert merged["return_ci95"] == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)  # t of 2 degrees of freedom
    assert merged["seeds"] == 3
    assert merged["oracle"] is None


def test_success_counts_episodes_and_one_seed_has_no_interval() -> None:
    (merged,) = summarised([row(0, -5.0, -4.0, 30, 1.0), row(1, -5.0, None, 10, 0.0)])
    assert merged["success"] == pytest.approx(0.75)
    assert merged["oracle"] == -4.0
    (single,) = summarised([row(0, -5.0, -4.0)])
    assert single["return_ci95"] is None
    assert "| Reacher | EBM | Langevin | -5.00 | -4.00 | 1.00 | 1 | 10 |" in markdown([single], [])


def test_unseen_boxes_block_the_straight_line_and_leave_a_way() -> None:
    for i in range(3):
        options = obstacle(i)
        env = gym.make(UNSEEN.env)
        env.reset(options=options)
        again = obstacle(i)
        assert all(np.array_equal(options[key], again[key]) for key in options)
        free = particle_oracle(options["start"], options["goal"])
        found = particle_oracle(**options)
        assert found.return_ < free.return_
        assert np.abs(found.states[-1] - options["goal"]).sum() < UNSEEN.success


def test_plan_times_stand_in_the_rows_of_what_was_timed() -> None:
    (merged,) = summarised([row(0, -5.0, None)])
    clock = {"env": "Reacher", "method": "EBM", "planner": "Langevin", "plan_ms_p50": 3.0, "plan_ms_p95": 4.0}
    times = [clock | {"starts": 64, "plan_ms_p50": 9.0}, clock | {"starts": 1}]
    other = merged | {"planner": "CEM"}
    found, without = timed([merged, other], times)
    assert (found["plan_ms_p50"], found["plan_ms_p95"]) == (3.0, 4.0)
    assert (without["plan_ms_p50"], without["plan_ms_p95"]) == (None, None)
    assert timed([merged], [])[0]["plan_ms_p50"] is None


def test_costly_parts_have_fewer_seeds_and_a_quick_run_has_none_of_them() -> None:
    jobs = [(job.name, job.seed) for job in jobs_of(JOBS, range(4), quick=False)]
    assert len(set(jobs)) == len(jobs)
    assert {name for name, seed in jobs if seed == COSTLY_SEEDS} == set(JOBS) - set(COSTLY)
    assert {name for name, seed in jobs if seed == 0} == set(JOBS)
    assert {job.name for job in jobs_of(JOBS, range(1), quick=True)} == set(JOBS) - set(NOT_QUICK)
