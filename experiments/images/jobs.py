"""Jobs: for each set, method and seed one training and its tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ebm_control.data import ImageSet
from experiments.images import baselines, composition, defence, density
from experiments.images.settings import FULL, QUICK, UPDATES, Size, loaded

Row = dict[str, Any]
PARTS = ("density", "robustness", "compose")


@dataclass(frozen=True)
class Method:
    """A trained method, and the function that computes the rows of its tasks."""

    name: str
    rows: Callable[[Job], list[Row]]


@dataclass(frozen=True)
class Job:
    """One training, or several that belong together."""

    part: str
    data: str
    trained: Method
    seed: int
    quick: bool
    runs: Path
    data_dir: Path | None = None
    device: str = "cpu"

    @property
    def method(self) -> str:
        return self.trained.name

    @property
    def name(self) -> str:
        return f"{self.part}, {self.data}: {self.method}"

    @property
    def size(self) -> Size:
        """Sizes of networks, trainings and evaluations."""
        return QUICK if self.quick else FULL

    @property
    def folder(self) -> Path:
        """Folder of checkpoints and pictures."""
        return self.runs / ("quick" if self.quick else "full")

    def images(self) -> ImageSet:
        """The set of images."""
        return loaded(self.data, self.data_dir, self.device)

    def other(self) -> Tensor | None:
        """Test images of the outlier set, or None without one."""
        if self.data not in density.OTHER:
            return None
        return loaded(density.OTHER[self.data], self.data_dir, self.device).part("test")


def _energy(loss: str, job: Job) -> list[Row]:
    return density.energy_rows(job.images(), job.other(), loss, job.seed, job.size, job.folder)


def _variational(job: Job) -> list[Row]:
    return baselines.variational_rows(job.images(), job.seed, job.size, job.folder)


def _denoising(job: Job) -> list[Row]:
    return baselines.denoising_rows(job.images(), job.seed, job.size, job.folder)


def _plain(job: Job) -> list[Row]:
    return baselines.plain_rows(job.images(), job.other(), job.seed, job.size)


def _simple(job: Job) -> list[Row]:
    return baselines.simple_rows(job.images(), job.seed, job.size, job.folder)


def _defence(method: str, job: Job) -> list[Row]:
    return defence.defence_rows(job.images(), method, job.seed, job.size, job.folder)


def _shapes(job: Job) -> list[Row]:
    return composition.shapes_rows(job.seed, job.size, job.folder, job.device)


def _strokes(job: Job) -> list[Row]:
    return composition.strokes_rows(job.images(), job.seed, job.size, job.folder)


DENSITY = (
    *(Method(f"energy, {loss}", partial(_energy, loss)) for loss in UPDATES),
    Method("variational autoencoder", _variational),
    Method("denoising autoencoders", _denoising),
    Method("autoencoder and classifier", _plain),
    Method("no learning", _simple),
)
ROBUSTNESS = tuple(Method(name, partial(_defence, name)) for name in defence.METHODS)
SHAPES, STROKES = Method("energies", _shapes), Method("energies", _strokes)
# The sets and methods of each part; a quick run is on scikit-learn's digits.
WORK = {
    "density": {"mnist": DENSITY, "fashion-mnist": DENSITY},
    "robustness": {"mnist": ROBUSTNESS},
    "compose": {"shapes": (SHAPES,), "mnist": (STROKES,)},
}
QUICK_WORK = {
    "density": {"digits": DENSITY},
    "robustness": {"digits": ROBUSTNESS},
    "compose": {"shapes": (SHAPES,)},
}


def jobs_of(
    parts: Iterable[str],
    seeds: Iterable[int],
    quick: bool,
    runs: Path,
    data_dir: Path | None = None,
    device: str = "cpu",
) -> Iterator[Job]:
    """Jobs seed by seed, so that a run that is stopped has complete seeds."""
    chosen = tuple(parts)
    for seed in seeds:
        for part, sets in (QUICK_WORK if quick else WORK).items():
            for data, methods in sets.items() if part in chosen else ():
                for method in methods:
                    yield Job(part, data, method, seed, quick, runs, data_dir, device)


def run(job: Job) -> list[Row]:
    """Rows of a job."""
    about = {"data": job.data, "method": job.method, "seed": job.seed}
    return [about | row for row in job.trained.rows(job)]
