"""The planning experiment's own parts: problems, intervals, the table."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from ebm_envs.oracles import particle_oracle
from experiments.planning import diversity
from experiments.planning.jobs import PARTS, jobs_of
from experiments.planning.problems import UNSEEN, obstacle
from experiments.planning.report import COLUMNS, extra, summarised, table_rows, timed
from experiments.storage import write


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
    assert merged["return"] == -6.0
    assert merged["return_ci95"] == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)  # t of 2 degrees of freedom
    assert merged["seeds"] == 3
    assert merged.get("oracle") is None


def test_success_counts_episodes_and_one_seed_has_no_interval() -> None:
    (merged,) = summarised([row(0, -5.0, -4.0, 30, 1.0), row(1, -5.0, None, 10, 0.0)])
    assert merged["success"] == pytest.approx(0.75)
    assert merged["oracle"] == -4.0
    (single,) = summarised([row(0, -5.0, -4.0)])
    assert single["return_ci95"] is None
    assert "| Reacher | EBM | Langevin | -5.00 | -4.00 | 1.00 | 1 | 10 |" in COLUMNS.markdown([single])


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
    jobs = [(job.name, job.seed) for job in jobs_of(PARTS, range(4), quick=False)]
    assert len(set(jobs)) == len(jobs)
    assert {name for name, seed in jobs if seed == 2} == set(PARTS) - {"ablations", "ensemble"}
    assert (
        {name for name, seed in jobs if seed == 1} == {name for name, seed in jobs if seed == 0} == set(PARTS)
    )
    quick = {job.name for job in jobs_of(PARTS, range(1), quick=True)}
    assert quick == set(PARTS) - {"changes", "ablations", "ensemble"}


def recorded(path: Path, rows: list[dict[str, Any]]) -> None:
    rows = [{"job": "some", **row} for row in rows]
    write(path, {"rows": [], "by_seed": rows}, {"command": "of some"})


def test_rows_of_reinforcement_learning_join_the_table(tmp_path: Path) -> None:
    recorded(tmp_path / "planning.json", [row(seed, -5.0, -4.0) for seed in (0, 1)])
    assert [row["method"] for row in table_rows(tmp_path)] == ["EBM"]
    run = {"problem": "reacher", "env_steps": 100_352, "success": 1.0, "train_cpu_seconds": 9.0}
    runs = [
        run | {"method": method, "seed": seed, "return_mean": value}
        for method, seed, value in (("sac10x", 0, -5.5), ("ppo", 0, -6.5), ("ppo", 1, -5.5))
    ]
    recorded(tmp_path / "reinforcement.json", runs)
    ours, ppo, sac = table_rows(tmp_path)
    assert (ours["method"], ppo["method"], ppo["oracle"], ppo["return"]) == ("EBM", "PPO", -4.0, -6.0)
    assert (sac["method"], sac["seeds"], sac["planner"]) == ("SAC", 1, "none; 100,352 steps of its own")
    assert ppo["return_ci95"] == pytest.approx(12.706 * 0.5, rel=1e-4)  # t of 1 degree of freedom


def test_a_figure_that_some_rows_have_gets_a_table_of_those() -> None:
    found = summarised(
        [row(0, -5.0, None) | {"extra": {"jerkiness": 0.5}}, row(0, -5.0, None) | {"env": "Maze"}]
    )
    assert "| Reacher | EBM | Langevin | 0.5 | 1 |" in extra(found, "jerkiness", "jerks")
    assert "Maze" not in extra(found, "jerkiness", "jerks")


def test_shares_of_plans_of_both_classes_weigh_problems_alike() -> None:
    found = {"method": "EBM", "planner": "any", "seed": 0, "share": 0.75, "problems": 20, "measure": "both"}
    shares = [found | {"env": "Reacher"}, found | {"env": "Reacher", "seed": 1, "share": 1.0, "problems": 60}]
    (cells,) = diversity.COLUMNS.cells(diversity.summarised(shares))
    assert cells == ["Reacher", "0.94", "0.75", "80", "2"]


PAGES = sorted(Path(__file__).parents[2].glob("docs/*.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_no_table_of_the_documentation_has_a_line_twice(page: Path) -> None:
    for is_table, lines in groupby(page.read_text().splitlines(), lambda line: line.startswith("|")):
        table = list(lines) if is_table else []
        assert [line for line in table if table.count(line) > 1] == []
