"""Plan time against return: what more updates of a planner buy, and what they cost.

`python -m experiments.planning.budget [--seeds N] [--quick] [--out DIR]` writes `DIR/budget.json`, run by run, and with
`--resume` goes on where it was stopped. Returns are those of episodes side by side; times are of plans from one start
state on one thread, measured alone at the end. Nothing is tuned to a budget: all settings but the number of updates are
those of the planning table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
import tyro
from gymnasium import spaces
from rich.table import Table

from ebm_control.control import planner_for
from ebm_control.planning import MPCAgent, run_episodes
from ebm_control.statistics import half_interval
from experiments import tables
from experiments.planning import methods as m
from experiments.planning.problems import PARTICLE, REACHER, Problem, data_of
from experiments.processes import as_program
from experiments.runs import Experiment, Runs, carry_out

Row = dict[str, Any]
LANGEVIN, SEARCH = (5, 10, 20, 40, 80, 160), (1, 2, 4, 8, 16, 32)  # updates of a plan
EPISODES = 4
WARM_UP, TIMED = 2, 20  # plans before the clock starts, and under it


@dataclass(frozen=True)
class Case:
    """A problem, the horizon that suits its searches, and how long its base measure is regressed."""

    problem: Problem
    search_horizon: int
    base_updates: int


PAIRS = replace(PARTICLE, name="Particle, random pairs", arguments=(("start", "random"), ("goal", "random")))
CASES = (Case(REACHER, 8, 6000), Case(PAIRS, 10, 1500))


@dataclass
class Budget(Runs):
    """Both problems, every method; quick: every second budget, two episodes, half the training."""

    seeds: int = 3
    """Data sets, trainings and evaluations of each method."""


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
    """A method at every number of updates."""

    method: str
    planner: str
    updates: tuple[int, ...]
    agent: MPCAgent

    def at(self, updates: int, seed: int, engine: str = "eager") -> MPCAgent:
        """The agent with so many updates a plan, three times as many for a cold start.

        The energy stays the very same one, so that an engine which compiles does so once for all budgets.
        """
        planner: Any = copy(self.agent.planner)
        planner.sampler = replace(planner.sampler, steps=updates, engine=engine)
        planner.first = replace(planner.sampler, steps=3 * updates)
        return MPCAgent(planner, self.agent.normalizer, self.agent.action_space, seed=seed)


def sweeps(case: Case, seed: int, quick: bool, barely: bool = False) -> list[Sweep]:
    """Every method on one problem; `barely` trained where only time counts."""
    problem, data = case.problem, data_of(case.problem.env, seed)
    space: Any = problem.make().action_space
    base_updates = 100 if barely else case.base_updates // (2 if quick else 1)
    changes: dict[str, Any] = {"updates": 20} if barely else {}
    trained = m.energy(data, seed, base_updates=base_updates, **changes)
    forward = m.feed_forward(data, seed, quick or barely)
    langevin, search = (LANGEVIN[::2], SEARCH[::2]) if quick else (LANGEVIN, SEARCH)
    made = [
        Sweep(
            "EBM",
            "Langevin, states and actions",
            langevin,
            m.energy_agent(problem, trained, space),
        )
    ]
    for name in m.SEARCHES:
        agent = m.search_agent(problem, forward, space, name, horizon=case.search_horizon)
        made.append(Sweep("feed-forward", f"{name}, actions", search, agent))
    searched = base_search(problem, trained, space, "MPPI", case.search_horizon)
    return [*made, Sweep("EBM", "MPPI, actions", search, searched)]


def base_search(
    problem: Problem, trained: m.Trained, space: spaces.Box, search: str, horizon: int
) -> MPCAgent:
    """The energy's own base measure, searched over actions as a baseline is."""
    planner = planner_for(
        trained.model,
        m.costs_of(problem, trained, None),
        horizon,
        sampler=m.SEARCHES[search],
        action_space=space,
    )
    return MPCAgent(planner, trained.model.normalizer, space)


def jobs_of(seeds: Iterable[int], quick: bool) -> Iterator[Job]:
    """Seed by seed, so that a run that is stopped has whole seeds."""
    for seed, case in product(seeds, CASES):
        yield Job(case, seed, quick)


def returns(job: Job) -> list[Row]:
    """Rows of one problem and seed: mean return and success at every budget, from the same starts."""
    case, seed, quick = job.case, job.seed, job.quick
    problem, rows = case.problem, []
    best: float | None = None
    for sweep in sweeps(case, seed, quick):
        for updates in sweep.updates:
            environments: list[Any] = [problem.make() for _ in range(2 if quick else EPISODES)]
            found = run_episodes(sweep.at(updates, seed), environments, seed=10_000 + 1000 * seed)
            if best is None:
                starts = zip(found.observations[0], environments, strict=True)
                best = float(np.mean([problem.oracle(s, env.unwrapped.goal, {}) for s, env in starts]))
            rows.append(
                {
                    "env": problem.name,
                    "method": sweep.method,
                    "planner": sweep.planner,
                    "updates": updates,
                    "seed": seed,
                    "episodes": len(environments),
                    "return": found.mean,
                    "oracle": best,
                    "success": float(np.mean(-found.last_rewards / problem.reward_unit <= problem.success)),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def times(case: Case, quick: bool) -> Iterator[Row]:
    """Milliseconds of a plan from one start state, at every budget: eager for all, compiled too for Langevin.

    Plans are warm-started. Time does not depend on how well a model is trained, so a few updates do.
    """
    for sweep in sweeps(case, 0, quick, barely=True):
        engines = ("eager", "compile") if sweep.planner.startswith("Langevin") else ("eager",)
        for engine, updates in product(engines, sweep.updates):
            agent, env = sweep.at(updates, 0, engine), case.problem.make()
            observation, _ = env.reset(seed=0)
            state, seconds = None, []
            for _ in range(WARM_UP + TIMED):
                began = time.perf_counter()
                action, state = agent.predict(observation, state)
                seconds.append(time.perf_counter() - began)
                observation, *_ = env.step(action)
            p50, p95 = (1e3 * float(np.quantile(seconds[WARM_UP:], q)) for q in (0.5, 0.95))
            yield {
                "env": case.problem.name,
                "method": sweep.method,
                "planner": sweep.planner,
                "updates": updates,
                "engine": engine,
                "plan_ms_p50": p50,
                "plan_ms_p95": p95,
                "first_plan_seconds": seconds[0],
            }


SETTING = ("env", "method", "planner", "updates")


def summarised(by_seed: list[Row]) -> list[Row]:
    """One row a setting: mean return over seeds, and its 95 % interval by Student's t."""
    rows = []
    for key in dict.fromkeys(tuple(row[name] for name in SETTING) for row in by_seed):
        group = [row for row in by_seed if tuple(row[name] for name in SETTING) == key]
        means = [row["return"] for row in group]
        rows.append(
            dict(zip(SETTING, key, strict=True))
            | {
                "seeds": len(group),
                "episodes": sum(row["episodes"] for row in group),
                "return_mean": float(np.mean(means)),
                "return_ci95": half_interval(means),
                "oracle": float(np.mean([row["oracle"] for row in group])),
                "success": float(np.mean([row["success"] for row in group])),
            }
        )
    return rows


def timed(rows: list[Row], times: list[Row]) -> list[Row]:
    """One row a setting and engine, with plan times; a row a setting before they are measured.

    Engines give the same chain within float tolerance, so a compiled setting has the returns of the eager one.
    """
    found = {tuple(row[name] for name in SETTING): row for row in rows}
    known = [clock for clock in times if tuple(clock[name] for name in SETTING) in found]
    return [clock | found[tuple(clock[name] for name in SETTING)] for clock in known] or rows


def table(rows: list[Row]) -> Table:
    """For the terminal."""
    made = Table(
        "problem", "method", "planner", "updates", "return", "p50, ms", title="Plan time against return"
    )
    for row in rows:
        time_of = f"{row['plan_ms_p50']:.0f}, {row['engine']}" if "engine" in row else "–"
        spread = tables.spread(
            {"mean": row["return_mean"], "mean_ci95": row["return_ci95"]}, "mean", ".2f", ".2f"
        )
        made.add_row(row["env"], row["method"], row["planner"], str(row["updates"]), spread, time_of)
    return made


def main() -> None:
    settings = tyro.cli(Budget)

    def measured() -> list[Row]:
        torch.set_num_threads(1)
        return [row for case in CASES for row in times(case, settings.quick)]

    jobs = list(jobs_of(settings.seed_range, settings.quick))
    experiment = Experiment(
        "planning.budget",
        jobs,
        returns,
        summarised,
        table,
        record="budget.json",
        timing=measured,
        joined=timed,
    )
    carry_out(settings, experiment)


if __name__ == "__main__":
    as_program(main)
