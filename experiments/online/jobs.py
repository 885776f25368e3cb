"""What is run: for each part, method and seed one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from experiments.online.control import control

PARTS = ("reacher", "particle", "arm7")
MODELS = ("EBM", "feed-forward", "ensemble of 5")


@dataclass(frozen=True)
class Job:
    """One run."""

    part: str
    method: str
    seed: int
    quick: bool

    @property
    def name(self) -> str:
        return f"{self.part}, {self.method}"


def methods_of(part: str) -> tuple[str, ...]:
    """On Arm7 the energy plans over actions, as in the planning table."""
    return ("EBM, actions", *MODELS[1:]) if part == "arm7" else MODELS


def jobs_of(parts: Iterable[str], seeds: Iterable[int], quick: bool) -> Iterator[Job]:
    """Seed by seed, so that a run that is stopped has whole seeds."""
    for part, seed in product(parts, seeds):
        for method in methods_of(part):
            yield Job(part, method, seed, quick)


def run(job: Job) -> list[dict[str, Any]]:
    """Rows of a job."""
    return control(job.part, job.method, job.seed, job.quick)
