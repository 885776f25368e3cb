"""Jobs: one run for each part, method and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from experiments.online import sequential as in_order
from experiments.online import switch as changing
from experiments.online.control import control
from experiments.online.exploration import exploration
from experiments.online.maze import maze
from experiments.online.methods import (
    ENERGY,
    ENERGY_OVER_ACTIONS,
    ENSEMBLE,
    FEED_FORWARD,
    MODELS,
    SAC,
    Method,
)
from experiments.online.model_free import model_free

Row = dict[str, Any]
Run = Callable[[Method, int, bool], list[Row]]
CONTRAST_SEEDS = 2  # seeds of expensive baselines
EFFORT = replace(ENERGY, name="EBM, up to three times the steps", effort=3.0)


@dataclass(frozen=True)
class Compared:
    """A method in a part.

    Attributes:
        method: the method.
        seeds: maximum number of seeds, for expensive baselines; None for all requested ones.
        quick: whether it is part of a quick run, as the energy and the simplest baselines are.

    """

    method: Method
    seeds: int | None = None
    quick: bool = True

    def wanted(self, seed: int, quick: bool) -> bool:
        """Whether it is run for this seed, in a quick or a full run."""
        return self.quick if quick else self.seeds is None or seed < self.seeds


@dataclass(frozen=True)
class Part:
    """A table: the function that runs a method for a seed, quick or full, and the methods."""

    run: Run
    compared: tuple[Compared, ...]


def contrast(method: Method) -> Compared:
    """The method with two seeds, and not in quick runs."""
    return Compared(method, CONTRAST_SEEDS, quick=False)


def full(method: Method) -> Compared:
    """The method with all requested seeds, but not in quick runs."""
    return Compared(method, quick=False)


def controlled(problem: str, method: Method, seed: int, quick: bool) -> list[Row]:
    """Rows of control from scratch."""
    if method.model_free:
        return model_free(problem, seed, quick)
    return control(problem, method, seed, quick)


def switched(method: Method, seed: int, quick: bool) -> list[Row]:
    """Rows of changing dynamics."""
    return changing.model_free(seed, quick) if method.model_free else changing.switch(method, seed, quick)


def _switching() -> Iterator[Compared]:
    yield from (contrast(model) for model in MODELS)
    for model in MODELS:
        method = replace(model, name=f"{model.name}, regimes", regimes=True)
        yield contrast(method) if model is ENSEMBLE else Compared(method)
    for model in MODELS:
        yield contrast(replace(model, name=f"{model.name}, last {changing.MEMORY:,}", memory=changing.MEMORY))
    yield contrast(SAC)


def _exploring(quick: bool) -> tuple[Compared, ...]:
    random = Method("random", None)
    energy = replace(ENERGY_OVER_ACTIONS, name="EBM, frontier", explores="frontier")
    others = (
        replace(FEED_FORWARD, name="feed-forward, frontier", explores="frontier"),
        replace(ENSEMBLE, name="ensemble of 5, disagreement", explores="disagreement"),
        replace(SAC, name="SAC, count bonus"),
    )
    return (*(Compared(method, quick=quick) for method in (random, energy)), *map(contrast, others))


PARTS = {
    "reacher": Part(
        partial(controlled, "reacher"),
        (Compared(ENERGY), Compared(FEED_FORWARD), full(ENSEMBLE), Compared(SAC), full(EFFORT)),
    ),
    "particle": Part(
        partial(controlled, "particle"),
        (Compared(ENERGY), Compared(FEED_FORWARD), full(ENSEMBLE), Compared(SAC)),
    ),
    # On Arm7 the energy plans over actions, as in the planning table, where the results of SAC are.
    "arm7": Part(
        partial(controlled, "arm7"),
        (Compared(ENERGY_OVER_ACTIONS), Compared(FEED_FORWARD), contrast(ENSEMBLE)),
    ),
    "maze": Part(maze, (Compared(ENERGY), contrast(FEED_FORWARD), contrast(ENSEMBLE))),
    "switch": Part(switched, tuple(_switching())),
    "sequential": Part(in_order.sequential, tuple(map(Compared, in_order.METHODS))),
    "exploration, maze": Part(partial(exploration, "maze"), _exploring(quick=True)),
    "exploration, arm7": Part(partial(exploration, "arm7"), _exploring(quick=False)),
}


@dataclass(frozen=True)
class Job:
    """One run."""

    part: str
    compared: Compared
    seed: int
    quick: bool

    @property
    def method(self) -> str:
        return self.compared.method.name

    @property
    def name(self) -> str:
        return f"{self.part}, {self.method}"


def jobs_of(parts: Iterable[str], seeds: Iterable[int], quick: bool) -> Iterator[Job]:
    """Jobs seed by seed, so that a stopped run has complete seeds; a quick run has only the simplest baselines."""
    for part, seed in product(parts, seeds):
        for compared in PARTS[part].compared:
            if compared.wanted(seed, quick):
                yield Job(part, compared, seed, quick)


def run(job: Job) -> list[Row]:
    """Rows of a job."""
    return PARTS[job.part].run(job.compared.method, job.seed, job.quick)
