"""Sampling of long futures in strides: is an energy of every tenth state better at distant states?

Coarse-to-fine prediction samples distant states first and then those between. It can only help if the coarse states
are closer to their true distribution than those reached step by step. `python -m experiments.prediction.gaps`
compares the two at the same times, and writes `DIR/prediction-gaps.json` after every run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.table import Table

from ebm_control.data import RolloutBuffer
from ebm_control.prediction import metrics
from experiments import tables
from experiments.prediction import data
from experiments.prediction.jobs import CASES
from experiments.prediction.methods import METHODS, Fitted, smaller
from experiments.processes import as_program
from experiments.runs import Experiment, Runs, carry_out, chosen

GAP, LONGEST = 10, 100
HISTORIES, SAMPLES, TRUTH = 512, 4, 4000
AT = (1, 2, 5, 10)  # strides


@dataclass
class Gaps(Runs):
    """Cases without actions, which have many futures; quick: a tenth of the data, a twentieth of the training."""

    seeds: int = 1
    """Trainings per method."""
    cases: tuple[str, ...] = ("hand-reach, states alone", "halfcheetah-trained, states alone")
    """Cases of `experiments.prediction` without actions."""
    data: Path = data.FOLDER
    """Folder of the datasets."""


@dataclass(frozen=True)
class Job:
    """A case for one seed."""

    name: str
    seed: int
    quick: bool
    folder: Path


def strided(buffer: RolloutBuffer) -> RolloutBuffer:
    """Every `GAP`-th state, from each of the first `GAP` offsets: nearly as many transitions. Actions are dropped."""
    made = RolloutBuffer(buffer.obs_dim, 1, periods=buffer.periods)
    for episode in buffer.episodes():
        for first in range(GAP):
            states = episode.observations[first::GAP]
            if len(states) > 1:
                made.add_episode(states, np.zeros((len(states) - 1, 1)))
    return made


def compared(job: Job) -> list[dict[str, Any]]:
    """Rows of distances of pairs of states `GAP` steps apart, predicted in strides and step by step."""
    name, seed, case = job.name, job.seed, CASES[job.name]
    setting = smaller(case.setting) if job.quick else case.setting
    train, held = data.load(case.dataset, 0, job.folder, quick=job.quick)
    rows = []
    for method, learned, ratio in (("in strides", strided(train), 1), ("step by step", train, GAP)):
        fitted = METHODS["EBM, dsm"].fit(learned, setting, seed, job.quick)
        began = time.perf_counter()
        found = pairs(fitted, train, held, ratio, seed)
        took = time.perf_counter() - began
        for at in AT:
            row = {"case": name, "method": method, "seed": seed, "horizon": at * GAP}
            row["frechet"] = metrics.frechet_distance(found[0][at - 1], found[1][at - 1])
            row["energy_distance"] = metrics.energy_distance(found[0][at - 1], found[1][at - 1], most=2000)
            rows.append(row | {"train_seconds": fitted.seconds, "sample_seconds": took})
    return rows


def pairs(
    fitted: Fitted, train: RolloutBuffer, held: RolloutBuffer, ratio: int, seed: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Predicted and true states at multiples of `GAP`, each joined with that `GAP` before: `(N, 2 obs_dim)` each."""
    rng = np.random.default_rng(seed)
    past, _ = held.sample_windows(HISTORIES, LONGEST + 1, rng=rng)
    truth, _ = held.sample_windows(TRUTH, LONGEST + 1, rng=rng)
    normal = fitted.normalizer.normalize_observations(torch.from_numpy(train.observations)).float()
    history = fitted.normalizer.normalize_observations(torch.from_numpy(past[:, :1])).float()
    futures = fitted.futures(
        history,
        None,
        horizon=LONGEST // GAP * ratio,
        samples=SAMPLES,
        generator=torch.Generator().manual_seed(seed),
        bounds=(normal.amin(dim=0), normal.amax(dim=0)),
    )
    coarse = futures[:, :, ratio - 1 :: ratio]
    paths = torch.cat([history[:, None].expand(-1, SAMPLES, -1, -1), coarse], dim=2).flatten(0, 1)
    # In units of all data, so that both methods are measured in the same way.
    mean, std = (torch.from_numpy(part(train.observations, axis=0)) for part in (np.mean, np.std))

    def units(states: torch.Tensor) -> torch.Tensor:
        return ((states.double() - mean) / std.clamp(min=1e-6)).float()

    found = units(fitted.normalizer.denormalize_observations(paths))
    true = units(torch.from_numpy(truth[:, ::GAP]))
    times = range(1, LONGEST // GAP + 1)
    return (
        [found[:, t - 1 : t + 1].flatten(1) for t in times],
        [true[:, t - 1 : t + 1].flatten(1) for t in times],
    )


SHOWN = ("frechet", "energy_distance")


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per case, method and horizon: means over seeds."""
    return tables.summarised(rows, ("case", "method", "horizon"), SHOWN)


def table(rows: list[dict[str, Any]]) -> Table:
    """The table for the terminal."""
    made = Table("case", "method", "steps", "Fréchet", "energy distance", title="Strides")
    for row in rows:
        shown = (tables.spread(row, name) for name in SHOWN)
        made.add_row(row["case"], row["method"], str(row["horizon"]), *shown)
    return made


def main() -> None:
    settings = tyro.cli(Gaps)
    alone = [name for name, case in CASES.items() if case.setting.free]
    cases = chosen("cases", settings.cases, alone)
    if settings.quick:  # no policy is trained for a trial
        cases = tuple(name for name in cases if data.DATASETS[CASES[name].dataset].policy == "random")
    jobs = [Job(name, seed, settings.quick, settings.data) for seed in settings.seed_range for name in cases]
    flags = " --cases" + "".join(f" '{name}'" for name in cases)
    experiment = Experiment(
        "prediction.gaps", jobs, compared, summary, table, flags, record="prediction-gaps.json"
    )
    carry_out(settings, experiment)


if __name__ == "__main__":
    as_program(main)
