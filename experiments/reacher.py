"""Reacher: which part of the method matters for control? Energies by samplers, several seeds, with the oracle.

`python -m experiments.reacher [--seeds N] [--quick] [--out DIR]` writes `DIR/reacher.json` after every run; `--resume`
continues a stopped one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import tyro

from ebm_control.checks import require_number
from ebm_control.control import planner_for
from ebm_control.data import collect_mujoco
from ebm_control.models import ModelSettings, TrainSettings, TrajectoryModel, fit_model, prediction_error
from ebm_control.planning import MPCAgent, run_episodes
from ebm_control.samplers import MPPI, Linear, trajectory_sampler
from ebm_envs.reacher import ENV, GOAL, spread_starts
from experiments import tables
from experiments.planning.problems import REACHER, data_of
from experiments.planning.rows import Row
from experiments.processes import as_program
from experiments.runs import Experiment, Runs, carry_out
from experiments.tables import Columns, cell


@dataclass
class Reacher(Runs):
    """All pairs of energies and samplers on ebm/Reacher-v0; quick: four episodes, short training."""

    seeds: int = 4
    """Trainings per energy, in parallel on all cores with one thread each."""
    episodes: int = 10
    """Episodes at the fixed goal, per seed and sampler."""


@dataclass(frozen=True)
class Job:
    """All energies and samplers for one seed."""

    seed: int
    episodes: int
    quick: bool

    @property
    def name(self) -> str:
        return f"{self.episodes} episodes"


PLANNERS: dict[str, dict[str, Any]] = {  # arguments of `planner_for`
    "Langevin": {"sampler": "langevin"},
    "Langevin, actions": {"sampler": "langevin", "shooting": True},
    "MPPI, actions": {"sampler": "mppi"},
    "CEM, actions": {"sampler": "cem"},
    # Noise on states has to be small and smooth; the settings for actions only fail.
    "MPPI": {
        "sampler": MPPI(20, candidates=256, noise=Linear(0.3, 0.03), temperature=0.1),
        "shooting": False,
    },
    "Langevin, weight 3": {"sampler": "langevin", "weight": 3.0},
    "Langevin, weight 30": {"sampler": "langevin", "weight": 30.0},
}


@dataclass(frozen=True)
class Method:
    """An energy and the `PLANNERS` it is tried with; without its tilt to test the regression by itself."""

    energy: str
    train: TrainSettings
    planners: tuple[str, ...]
    tilt: bool = True


def methods(quick: bool) -> tuple[Method, ...]:
    updates = 50 if quick else 1500
    demo = TrainSettings(ModelSettings(hidden=(128, 128)), updates=updates, base_updates=4 * updates)
    # A Gaussian base predicts no displacement, so it cannot be used to plan over actions only.
    gaussian = TrainSettings(ModelSettings(base="gaussian"), updates=50 if quick else 3000)
    weighed = ("Langevin, weight 3", "Langevin, weight 30")
    return (
        Method("regression base + tilt", demo, tuple(name for name in PLANNERS if name not in weighed)),
        Method("regression base alone", replace(demo, updates=1), ("Langevin", "MPPI, actions"), tilt=False),
        Method("Gaussian base + tilt", gaussian, ("Langevin", *weighed, "MPPI")),
    )


def without_tilt(model: TrajectoryModel) -> TrajectoryModel:
    """The same model with a tilt of 0, which leaves only the regression."""
    last = [m for m in model.energy.network.modules() if isinstance(m, torch.nn.Linear)][-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return model


def measure(model: TrajectoryModel, planner: str, episodes: int, seed: int) -> Row:
    space, cost = REACHER.action_space, REACHER.goal_cost(model.layout)
    plans = planner_for(model, cost, 15, action_space=space, **PLANNERS[planner])
    agent = MPCAgent(plans, model.normalizer, space)
    outcome = run_episodes(agent, [REACHER.make() for _ in range(episodes)], seed=1000 * seed)
    oracle = [REACHER.oracle(start, np.array(GOAL), {}) for start in outcome.observations[0]]
    return {
        "planner": planner,
        "settings": str(PLANNERS[planner]),
        "return": outcome.mean,
        "success": float((-outcome.last_rewards < REACHER.success).mean()),
        "oracle": float(np.mean(oracle)),
        "seconds_per_step_of_the_batch": float(np.median(outcome.seconds)),
    }


def one_seed(job: Job) -> list[Row]:
    rows, seed = [], job.seed
    data = data_of(ENV, seed)
    fresh = collect_mujoco(ENV, 5000, episode_length=50, seed=seed + 1000, starts=spread_starts)
    for method in methods(job.quick):
        started = time.perf_counter()
        model = fit_model(data, replace(method.train, seed=seed), progress=False)
        if not method.tilt:
            model = without_tilt(model)
        common: dict[str, Any] = {
            "energy": method.energy,
            "seed": seed,
            "train_seconds": time.perf_counter() - started,
        }
        error = prediction_error(
            model, fresh, 20, windows=200, sampler=trajectory_sampler(model.energy, temperature=0), seed=seed
        )
        common |= {"rmse_1": float(error.rmse[0]), "rmse_20": float(error.rmse[-1])}
        for planner in method.planners:
            rows.append(common | measure(model, planner, job.episodes, seed))
            print(rows[-1], flush=True)
    return rows


SHOWN = ("return", "oracle", "success", "rmse_1", "rmse_20")


def summarised(rows: list[Row]) -> list[Row]:
    """One row per energy and planner: means over seeds."""
    return tables.summarised(rows, ("energy", "planner"), SHOWN)


COLUMNS = Columns(
    "Reacher, fixed goal",
    {
        "energy": "energy",
        "planner": "planner",
        "return": cell("return"),
        "oracle": lambda row: f"{row['oracle']:.2f}",
        "success": lambda row: f"{row['success']:.2f}",
        "RMSE, 1 step": cell("rmse_1", ".4f"),
        "RMSE, 20 steps": cell("rmse_20", ".4f"),
        "seeds": "seeds",
    },
)


def main() -> None:
    settings = tyro.cli(Reacher)
    require_number("episodes", settings.episodes, 1, whole=True)
    episodes = 4 if settings.quick else settings.episodes
    jobs = [Job(seed, episodes, settings.quick) for seed in settings.seed_range]
    flags = "" if settings.quick else f" --episodes {episodes}"
    experiment = Experiment(
        "reacher", jobs, one_seed, summarised, COLUMNS.table, flags, alike=("--episodes",)
    )
    carry_out(settings, experiment)


if __name__ == "__main__":
    as_program(main)
