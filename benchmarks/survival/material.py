"""Material for the tries: tiny data, models, runs and records."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from ebm_control.checks import InputError
from ebm_control.data import ImageSet, RolloutBuffer
from ebm_control.models import (
    ImageModel,
    ImageModelSettings,
    ImageTrainSettings,
    ModelSettings,
    TrainSettings,
    TrajectoryModel,
    fit_images,
    fit_model,
)
from experiments.processes import as_program
from experiments.records import load
from experiments.runs import Experiment, Runs, carry_out
from experiments.storage import BY_SEED

RECORD = "survival.json"
ROWS = f"survival{BY_SEED}"
JOBS = 12
Row = dict[str, Any]


def buffer_of(steps: int, seed: int = 0, rewards: bool = True) -> RolloutBuffer:
    """Episodes of 20 steps of a point in the plane, with an angle as third coordinate."""
    rng = np.random.default_rng(seed)
    buffer = RolloutBuffer(3, 2, periods=(0.0, 0.0, 2 * np.pi))
    for _ in range(steps // 20):
        actions = rng.uniform(-1, 1, (20, 2))
        moves = np.column_stack([0.1 * actions, 0.3 * actions[:, :1]])
        states = np.cumsum(np.concatenate([rng.uniform(-1, 1, (1, 3)), moves]), axis=0)
        buffer.add_episode(states, actions, -np.abs(states[1:, 0]) if rewards else None, terminated=False)
    return buffer


def rollouts(folder: Path, steps: int, seed: int = 0) -> None:
    """Write `data.npz`."""
    buffer_of(steps, seed).save(folder / "data.npz")


def contents(buffer: RolloutBuffer) -> Row:
    """Contents of a buffer."""
    episodes = list(buffer.episodes())
    return {
        "observations": buffer.observations.copy(),
        "actions": buffer.actions,
        "rewards": [None if e.rewards is None else e.rewards.copy() for e in episodes],
        "steps": [len(e) for e in episodes],
        "terminated": [bool(e.terminated) for e in episodes],
        "periods": tuple(buffer.periods),
        "capacity": buffer.capacity,
    }


def rollouts_of(path: Path) -> Row:
    """Contents of a file of rollouts."""
    return contents(RolloutBuffer.load(path))


TINY = TrainSettings(
    ModelSettings(hidden=(16, 16), base_hidden=(16, 16)),
    updates=10,
    base_updates=10,
    batch_size=16,
    langevin_steps=2,
    checkpoint_every=5,
)
TINY_IMAGES = ImageTrainSettings(
    ImageModelSettings(network="small", width=4), updates=2, batch_size=4, checkpoint_every=1
)


def trajectory_run(folder: Path | None = None, seed: int = 0) -> TrajectoryModel:
    """A model trained for ten updates, with two checkpoints."""
    return fit_model(buffer_of(400, seed), TINY, folder=folder, progress=False)


def image_run(folder: Path | None = None) -> ImageModel:
    """A model of images trained for two updates, with two checkpoints."""
    return fit_images(images_of(), TINY_IMAGES, folder=folder, progress=False)


@cache
def trajectory_model() -> TrajectoryModel:
    """A model of trajectories, trained once per process."""
    return trajectory_run()


@cache
def image_model() -> ImageModel:
    """A model of images, trained once per process."""
    return image_run()


def images_of(count: int = 40) -> ImageSet:
    """Images of 8×8 pixels of noise in four classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(2 * count) % 4
    return ImageSet("noise", images[:count], labels[:count], images[count:], labels[count:])


@dataclass(frozen=True)
class Job:
    """A run that takes a short time."""

    seed: int
    name: str = "wait"


def _wait(job: Job) -> list[Row]:
    time.sleep(0.08)
    return [{"seed": job.seed, "figure": job.seed / 7}]


def _table(rows: list[Row]) -> Table:
    table = Table("figure")
    table.add_row(str(len(rows)))
    return table


def experiment(folder: Path, again: bool, jobs: int = JOBS) -> None:
    """Carry out an experiment of a few runs, with its record in `folder`."""
    made = Experiment("survival", [Job(seed) for seed in range(jobs)], _wait, list, _table)
    carry_out(Runs(seeds=jobs, out=folder, resume=again), made)


def experiment_as_program(folder: Path, again: bool, jobs: int = JOBS) -> None:
    """The same experiment, as a shell runs it."""
    as_program(partial(experiment, folder, again, jobs))


def record_of(folder: Path) -> list[Row]:
    """Recorded runs without their provenance."""
    record = load(folder / RECORD)
    return [{name: row[name] for name in ("job", "seed", "figure")} for row in record["results"]["by_seed"]]


def recorded(folder: Path) -> float:
    """Number of recorded runs: 0 without a record, -1 if it cannot be read."""
    if not (folder / RECORD).exists():
        return 0
    try:
        return len(record_of(folder))
    except (InputError, ValueError, KeyError, TypeError):
        return -1
