"""Sections that time plans: one start, the other core busy, many starts, several horizons."""

from __future__ import annotations

from typing import Any

from benchmarks.planning.contenders import COMPILED, DEFAULT, EAGER, default_agent, first_order_agent
from benchmarks.planning.rounds import Driver, Race, Times, busy_core
from benchmarks.planning.sizes import Models
from experiments.planning.jobs import kept_inside
from experiments.planning.problems import ARM, PARTICLE, REACHER, Problem

Part = dict[
    str, Any
]  # "timings", "returns", "pendulums", "memory": parts of the results; "ratios": for the summary


def reacher(models: Models) -> Part:
    """One start on Reacher, then the same with the other core busy."""
    race = _race(models, REACHER)
    try:
        race.warm_up(models.size.warm_up)
        times = race.rounds(models.size.rounds)
        rows = race.rows("reacher", times, busy=False)
        figures = _ratios(race, times, "reacher") | {
            "reacher_p95_to_compiled": race.quantile_ratio(times, 0.95, DEFAULT, COMPILED),
            "reacher_p50_to_eager": race.median_ratio(times, DEFAULT, EAGER),
        }
        with busy_core():
            busy = race.rounds(models.size.rounds)
        rows += race.rows("reacher, other core busy", busy, busy=True)
        figures["reacher_busy_p50_to_compiled"] = race.median_ratio(busy, DEFAULT, COMPILED)
        figures["reacher_busy_p95_to_compiled"] = race.quantile_ratio(busy, 0.95, DEFAULT, COMPILED)
        return {"timings": rows, "ratios": figures}
    finally:
        race.close()


def particle(models: Models) -> Part:
    """One start on Particle."""
    return _one_start(models, PARTICLE, "particle")


def arm7(models: Models) -> Part:
    """One start on Arm7, over states and actions, with costs that keep joints within their limits."""
    return _one_start(models, kept_inside(models.of(ARM)), "arm7")


def batch(models: Models) -> Part:
    """Many starts at once on Reacher."""
    size = models.size
    race = _race(models, REACHER, size.starts)
    try:
        race.warm_up(min(size.warm_up, 5))
        times = race.rounds(size.batch_rounds)
        # Plans a second are the inverse of times.
        rate = race.median_ratio(times, COMPILED if COMPILED in race.drivers else EAGER, DEFAULT)
        return {
            "timings": race.rows("many starts", times, busy=False),
            "ratios": {"batch64_rate_to_first_order": rate},
        }
    finally:
        race.close()


def horizons(models: Models) -> Part:
    """The default planner with several horizons on Reacher, with the same number of iterations."""
    size, model = models.size, models.of(REACHER).model
    names = {horizon: f"{DEFAULT}, horizon {horizon}" for horizon in size.horizons}
    race = Race(
        {
            name: Driver(default_agent(REACHER, model, horizon), [REACHER.make()])
            for horizon, name in names.items()
        }
    )
    try:
        race.warm_up(size.warm_up)
        times = race.rounds(size.rounds)
        rows = race.rows("horizons", times, busy=False)
        for row, (name, driver) in zip(rows, race.drivers.items(), strict=True):
            planner: Any = driver.agent.planner
            row |= {"contender": name, "horizon": planner.horizon, "iterations": planner.sampler.steps}
        longest, shortest = names[max(names)], names[min(names)]
        return {
            "timings": rows,
            "ratios": {"horizon_80_to_10": race.median_ratio(times, longest, shortest)},
        }
    finally:
        race.close()


def _one_start(models: Models, problem: Problem, name: str) -> Part:
    race = _race(models, problem)
    try:
        race.warm_up(models.size.warm_up)
        times = race.rounds(models.size.rounds)
        return {"timings": race.rows(name, times, busy=False), "ratios": _ratios(race, times, name)}
    finally:
        race.close()


def _ratios(race: Race, times: Times, name: str) -> dict[str, float | None]:
    return {f"{name}_p50_to_compiled": race.median_ratio(times, DEFAULT, COMPILED)}


def _race(models: Models, problem: Problem, starts: int = 1) -> Race:
    """The default planner and the first-order plans, each with environments of its own and the same starts."""
    trained = models.of(problem)
    agents = {DEFAULT: default_agent(problem, trained.model)}
    if models.size.compiled_batches if starts > 1 else problem.name in models.size.compiled:
        agents[COMPILED] = first_order_agent(problem, trained, "compile")
    agents[EAGER] = first_order_agent(problem, trained, "eager")
    return Race(
        {name: Driver(agent, [problem.make() for _ in range(starts)]) for name, agent in agents.items()}
    )
