"""What is run: for each part, method and seed one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from experiments.online.control import EFFORT, control
from experiments.online.exploration import exploration
from experiments.online.maze import maze
from experiments.online.model_free import model_free
from experiments.online.sequential import METHODS as IN_ORDER
from experiments.online.sequential import sequential
from experiments.online.switch import MEMORY, switch
from experiments.online.switch import model_free as switched_sac

EXPLORERS = (
    "random",
    "EBM, frontier",
    "feed-forward, frontier",
    "ensemble of 5, disagreement",
    "SAC, count bonus",
)

MODELS = ("EBM", "feed-forward", "ensemble of 5")
CONTRAST_SEEDS = 2  # of what is there to be compared with and takes long
METHODS = {
    "reacher": (*MODELS, "SAC", f"EBM{EFFORT}"),
    "particle": (*MODELS, "SAC"),
    # On Arm7 the energy plans over actions, as in the planning table, which has SAC too.
    "arm7": ("EBM, actions", *MODELS[1:]),
    "maze": MODELS,
    "switch": (
        *(f"{model}{way}" for way in ("", ", regimes", f", last {MEMORY:,}") for model in MODELS),
        "SAC",
    ),
    "sequential": IN_ORDER,
    "exploration, maze": EXPLORERS,
    "exploration, arm7": EXPLORERS,
}
PARTS = tuple(METHODS)


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


def jobs_of(parts: Iterable[str], seeds: Iterable[int], quick: bool) -> Iterator[Job]:
    """Seed by seed, so that a run that is stopped has whole seeds; a quick one has the plainest baseline only."""
    for part, seed in product(parts, seeds):
        for method in METHODS[part]:
            left_out = contrast(part, method) or "ensemble" in method or part == "exploration, arm7"
            left_out |= method.endswith(EFFORT)
            if not left_out if quick else seed < CONTRAST_SEEDS or not contrast(part, method):
                yield Job(part, method, seed, quick)


def contrast(part: str, method: str) -> bool:
    """Whether two seeds have to do."""
    if part == "switch":
        return not method.endswith("regimes") or "ensemble" in method
    if part.startswith("exploration"):
        return method not in ("random", "EBM, frontier")
    return (part == "maze" and method != "EBM") or (part == "arm7" and method == "ensemble of 5")


def run(job: Job) -> list[dict[str, Any]]:
    """Rows of a job."""
    if job.part == "switch" and job.method == "SAC":
        return switched_sac(job.seed, job.quick)
    if job.part == "switch":
        return switch(job.method, job.seed, job.quick)
    if job.part == "sequential":
        return sequential(job.method, job.seed, job.quick)
    if job.part == "maze":
        return maze(job.method, job.seed, job.quick)
    if job.part.startswith("exploration"):
        return exploration(job.part.partition(", ")[2], job.method, job.seed, job.quick)
    if job.method == "SAC":
        return model_free(job.part, job.seed, job.quick)
    return control(job.part, job.method, job.seed, job.quick)
