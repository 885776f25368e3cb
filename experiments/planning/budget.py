"""Planning time versus return: how much more updates of a planner improve the return, and what they cost.

`python -m experiments.planning.budget [--seeds N] [--quick] [--out DIR]` writes `DIR/budget.json` after every run;
`--resume` continues a stopped one. Returns are from parallel episodes; times are for plans from one start state on one
thread, measured separately at the end. Nothing is tuned to a budget: all settings but the number of updates are those
of the planning table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
import tyro

from ebm_control.planning import MPCAgent
from ebm_control.samplers.engines import Engine
from experiments import tables
from experiments.planning import methods as m
from experiments.planning.problems import PARTICLE, REACHER, Problem, data_of
from experiments.planning.rows import Row, episodes
from experiments.processes import as_program
from experiments.runs import Experiment, Runs, carry_out
from experiments.tables import Columns, cell

LANGEVIN, SEARCH = (5, 10, 20, 40, 80, 160), (1, 2, 4, 8, 16, 32)  # updates per plan
EPISODES = 4
WARM_UP, TIMED = 2, 20  # plans before timing starts, and timed plans
SETTING = ("env", "method", "planner", "updates")
COLUMNS = Columns(
    "Plan time against return",
    {
        "problem": "env",
        "method": "method",
        "planner": "planner",
        "engine": lambda row: row.get("engine", "–"),
        "updates": "updates",
        "plan, ms": cell("plan_ms_p50", ".0f"),
        "return": cell("return"),
        "success": cell("success"),
        "seeds": "seeds",
    },
)


@dataclass(frozen=True)
class Case:
    """A problem, the horizon of its searches, and the updates of the regression of its base measure."""

    problem: Problem
    search_horizon: int
    base_updates: int


PAIRS = replace(PARTICLE, name="Particle, random pairs", arguments={"start": "random", "goal": "random"})
CASES = (Case(REACHER, 8, 6000), Case(PAIRS, 10, 1500))


@dataclass
class Budget(Runs):
    """Both problems, all methods; quick: every second budget, two episodes, half the training."""

    seeds: int = 3
    """Data sets, trainings and evaluations of each method."""
    timing: bool = True
    """Time plans at the end; if not, recorded times are kept."""


@dataclass(frozen=True)
class Job:
    """A problem for one seed."""

    case: Case
    seed: int
    quick: bool

    @property
    def name(self) -> str:
        return self.case.problem.name


@dataclass(frozen=True)
class Sweep:
    """A method at every number of updates, and the engines with which its plans are timed."""

    method: m.Method
    updates: tuple[int, ...]
    engines: tuple[Engine, ...] = ("eager",)

    def at(self, updates: int, seed: int, engine: Engine = "eager") -> MPCAgent:
        """The agent with this number of updates per plan, and three times as many for a cold start.

        The energy is the same object for all budgets, so that it is compiled only once.
        """
        agent = self.method.agent
        planner: Any = copy(agent.planner)
        planner.sampler = replace(planner.sampler, steps=updates, engine=engine)
        planner.first = replace(planner.sampler, steps=3 * updates)
        return MPCAgent(planner, agent.normalizer, agent.action_space, seed=seed)

    def row(self, problem: Problem, updates: int) -> Row:
        """The keys of every row of a setting."""
        method = self.method
        return dict(
            zip(SETTING, (problem.name, method.trained[0].name, method.planner, updates), strict=True)
        )


def sweeps(case: Case, seed: int, quick: bool, barely: bool = False) -> list[Sweep]:
    """All methods on one problem; `barely` trained if only times are measured."""
    problem, data = case.problem, data_of(case.problem.env, seed)
    base_updates = 100 if barely else case.base_updates // (2 if quick else 1)
    changes: dict[str, Any] = {"updates": 20} if barely else {}
    trained = m.energy(data, seed, base_updates=base_updates, **changes)
    forward = m.feed_forward(data, seed, quick or barely)
    langevin, search = (LANGEVIN[::2], SEARCH[::2]) if quick else (LANGEVIN, SEARCH)
    searched = ((forward, m.BY_CEM), (forward, m.BY_MPPI), (trained, m.BY_MPPI))
    return [
        Sweep(m.energy_method(problem, trained), langevin, ("eager", "compile")),
        *(
            Sweep(m.search_method(problem, model, by, horizon=case.search_horizon), search)
            for model, by in searched
        ),
    ]


def returns(job: Job) -> list[Row]:
    """Rows of one problem and seed: mean return and success rate at every budget, from the same starts."""
    problem, rows = job.case.problem, []
    for sweep in sweeps(job.case, job.seed, job.quick):
        for updates in sweep.updates:
            found = episodes(problem, sweep.at(updates, job.seed), 2 if job.quick else EPISODES, job.seed)
            rows.append(
                sweep.row(problem, updates)
                | {
                    "seed": job.seed,
                    "episodes": len(found["returns"]),
                    "return": float(np.mean(found["returns"])),
                    "oracle": found["oracle"],
                    "success": float(np.mean(found["solved"])),
                }
            )
            print(rows[-1], flush=True)
    return rows


def times(case: Case, quick: bool) -> Iterator[Row]:
    """Milliseconds per plan from one start state, at every budget: eager for all methods, also compiled for Langevin.

    Plans are warm-started. Times do not depend on how well a model is trained, so a few updates are enough.
    """
    for sweep in sweeps(case, 0, quick, barely=True):
        for engine, updates in product(sweep.engines, sweep.updates):
            agent, env = sweep.at(updates, 0, engine), case.problem.make()
            observation, _ = env.reset(seed=0)
            state, seconds = None, []
            for _ in range(WARM_UP + TIMED):
                began = time.perf_counter()
                action, state = agent.predict(observation, state)
                seconds.append(time.perf_counter() - began)
                observation, *_ = env.step(action)
            p50, p95 = (1e3 * float(np.quantile(seconds[WARM_UP:], q)) for q in (0.5, 0.95))
            yield sweep.row(case.problem, updates) | {
                "engine": engine,
                "plan_ms_p50": p50,
                "plan_ms_p95": p95,
                "first_plan_seconds": seconds[0],
            }


def summarised(by_seed: list[Row]) -> list[Row]:
    """One row per setting: mean return over seeds, and its 95 % interval by Student's t."""
    return tables.summarised(by_seed, SETTING, ("return",), ("success",), of="episodes")


def timed(rows: list[Row], times: list[Row]) -> list[Row]:
    """One row per setting and engine, with planning times; one row per setting before they are measured.

    Engines give the same chain within float tolerance, so a compiled setting has the returns of the eager one.
    """
    found = {tuple(row[name] for name in SETTING): row for row in rows}
    known = [clock for clock in times if tuple(clock[name] for name in SETTING) in found]
    return [clock | found[tuple(clock[name] for name in SETTING)] for clock in known] or rows


def main() -> None:
    settings = tyro.cli(Budget)

    def measured() -> list[Row]:
        torch.set_num_threads(1)
        return [row for case in CASES for row in times(case, settings.quick)] if settings.timing else []

    # Seed by seed, so that a run that is stopped has complete seeds.
    jobs = [Job(case, seed, settings.quick) for seed, case in product(settings.seed_range, CASES)]
    experiment = Experiment(
        "planning.budget",
        jobs,
        returns,
        summarised,
        COLUMNS.table,
        record="budget.json",
        timing=measured,
        joined=timed,
    )
    carry_out(settings, experiment)


if __name__ == "__main__":
    as_program(main)
