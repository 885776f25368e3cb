"""What is run: for each set, method and seed one training and its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.images import baselines, composition, defence, density
from experiments.images.settings import FULL, QUICK, UPDATES, loaded

PARTS = ("density", "robustness", "compose")
SETS = ("mnist", "fashion-mnist")
BASELINES = ("variational autoencoder", "denoising autoencoders", "autoencoder and classifier", "no learning")
ROBUST_SET = "mnist"


@dataclass(frozen=True)
class Job:
    """One training, or a few that belong together."""

    part: str
    data: str
    method: str
    seed: int
    quick: bool
    runs: Path
    data_dir: Path | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        return f"{self.part}, {self.data}: {self.method}"


def jobs_of(
    parts: Iterable[str],
    seeds: Iterable[int],
    quick: bool,
    runs: Path,
    data_dir: Path | None = None,
    device: str = "cpu",
) -> Iterator[Job]:
    """Seed by seed, so that a run that is stopped has whole seeds."""
    sets = ("digits",) if quick else SETS
    chosen = tuple(parts)
    for seed in seeds:
        found: list[tuple[str, str, str]] = []
        if "density" in chosen:
            found += [
                ("density", name, method)
                for name in sets
                for method in (*(f"energy, {loss}" for loss in UPDATES), *BASELINES)
            ]
        if "robustness" in chosen:
            found += [("robustness", "digits" if quick else ROBUST_SET, name) for name in defence.METHODS]
        if "compose" in chosen:
            found.append(("compose", "shapes", "energies"))
            found += [] if quick else [("compose", "mnist", "energies")]
        for part, name, method in found:
            yield Job(part, name, method, seed, quick, runs, data_dir, device)


def run(job: Job) -> list[dict[str, Any]]:
    """Rows of a job."""
    size, runs = (QUICK if job.quick else FULL), job.runs / ("quick" if job.quick else "full")
    about = {"data": job.data, "method": job.method, "seed": job.seed}
    if job.part == "compose" and job.data == "shapes":
        return [about | row for row in composition.shapes_rows(job.seed, size, runs, job.device)]
    data = loaded(job.data, job.data_dir, job.device)
    if job.part == "compose":
        return [about | row for row in composition.strokes_rows(data, job.seed, size, runs)]
    if job.part == "robustness":
        return [about | row for row in defence.defence_rows(data, job.method, job.seed, size, runs)]
    other = None
    if job.data in density.OTHER:
        other = loaded(density.OTHER[job.data], job.data_dir, job.device).part("test")
    match job.method:
        case "variational autoencoder":
            rows = baselines.variational_rows(data, job.seed, size, runs)
        case "denoising autoencoders":
            rows = baselines.denoising_rows(data, job.seed, size, runs)
        case "autoencoder and classifier":
            rows = baselines.plain_rows(data, other, job.seed, size)
        case "no learning":
            rows = baselines.simple_rows(data, job.seed, size, runs)
        case _:
            loss = job.method.removeprefix("energy, ")
            rows = density.energy_rows(data, other, loss, job.seed, size, runs)
    return [about | row for row in rows]
