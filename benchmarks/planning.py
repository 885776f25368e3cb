"""Time of one plan for one Reacher start, eager and compiled, on one thread.

`python -m benchmarks.planning [--out FILE]` writes `benchmarks/results/planning.json`, or another file.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from ebm_control.cli.demo import Demo
from ebm_control.control import planner_for
from ebm_control.control.presets import PRESETS
from ebm_control.data import collect_mujoco
from ebm_control.energies import GoalCost
from ebm_control.models import TrajectoryModel, fit_model
from ebm_control.planning import MPCAgent, run_episodes
from ebm_control.provenance import provenance, write_record
from ebm_envs.reacher import ENV, GOAL, spread_starts
from experiments.processes import as_program
from experiments.records import claimed

RESULT = Path(__file__).parent / "results" / "planning.json"


def plan_times(model: TrajectoryModel, engine: Literal["eager", "compile"]) -> dict[str, float]:
    """Milliseconds per warm-started plan over an episode, after an episode that is not timed."""
    env = gym.make(ENV, goal=GOAL)
    space = env.action_space
    assert isinstance(space, gym.spaces.Box)
    cost = 20 * GoalCost(model.layout, (0, 1), smooth=0.02)
    sampler = replace(PRESETS["offline"].samplers["langevin"], engine=engine)
    agent = MPCAgent(
        planner_for(model, cost, 15, sampler=sampler, action_space=space), model.normalizer, space
    )
    started = time.perf_counter()
    agent.predict(env.reset(seed=0)[0])
    first = time.perf_counter() - started
    run_episodes(agent, [env], seed=0)
    outcome = run_episodes(agent, [env], seed=1)
    milliseconds = 1e3 * outcome.seconds
    return {
        "first_call_seconds": first,
        "p50_ms": float(np.quantile(milliseconds, 0.5)),
        "p95_ms": float(np.quantile(milliseconds, 0.95)),
        "return": outcome.mean,
    }


def main(out: Path = RESULT) -> None:
    """Time plans; `out` is the file of the results."""
    with claimed(out):
        measure(out)


def measure(out: Path) -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    # Times do not depend on how well the tilt is trained, so a few updates are enough.
    settings = replace(Demo().train, updates=20)
    data = collect_mujoco(ENV, 100_000, episode_length=50, seed=0, starts=spread_starts)
    model = fit_model(data, settings, progress=False)
    rows = {engine: plan_times(model, engine) for engine in ("eager", "compile")}
    origin = provenance("python -m benchmarks.planning", [0, 1], time.perf_counter() - started)
    write_record(out, {"threads": 1, "chains": 4, "steps": 80, "engines": rows}, origin)
    table = Table(
        "engine", "p50, ms", "p95, ms", "first call, s", "return", title="One plan, one start, one thread"
    )
    for engine, row in rows.items():
        table.add_row(
            engine,
            f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['first_call_seconds']:.1f}",
            f"{row['return']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    as_program(lambda: tyro.cli(main))
