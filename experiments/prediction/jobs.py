"""Jobs: for each dataset, method and seed one training and its evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ebm_control.training import DivergenceError
from experiments.prediction import data
from experiments.prediction.evaluate import Case, scored
from experiments.prediction.methods import METHODS, REGRESSIONS, Setting, smaller

FAR = (1, 20, 50, 100)
SHARP = Setting(
    hidden=(128, 128, 128),
    members=(64, 64, 64),
    frequencies=64,
    bandwidth=8.0,
    noise=(0.01, 20.0),
    rows=15,
    longer=2,
    base_updates=1500,
    learning_rate=2e-3,
)
CASES = {
    case.name: case
    for case in (
        Case("fork", (1, 10), SHARP, modes=3000),
        Case("hand-reach", FAR, Setting(free=True)),
        Case("hand-block", FAR, Setting(free=True)),
        Case("reacher", FAR),
        Case("halfcheetah-random", FAR),
        Case("halfcheetah-trained", FAR),
        Case("hopper-random", (1, 5), Setting(rows=10)),
        Case("hopper-trained", FAR),
        Case("hand-reach", FAR),
        Case("halfcheetah-trained", FAR, Setting(free=True)),
    )
}
# Objectives and kinds of energies are compared on cases with many futures, and with one.
COMPARED = ("fork, actions given", "hand-reach, states alone", "reacher, actions given")
QUICK_CASES = ("fork, actions given", "reacher, actions given")


@dataclass(frozen=True)
class Job:
    """One training."""

    case: str
    method: str
    seed: int
    quick: bool
    folder: Path = data.FOLDER

    @property
    def name(self) -> str:
        return f"{self.case}: {self.method}"


def jobs_of(cases: Iterable[str], seeds: Iterable[int], quick: bool, folder: Path) -> Iterator[Job]:
    """Jobs seed by seed, so that a run that is stopped has complete seeds."""
    chosen = [case for case in cases if not quick or case in QUICK_CASES]
    for seed in seeds:
        for case in chosen:
            for method in METHODS:
                if case in COMPARED or method in ("EBM, dsm", *REGRESSIONS):
                    yield Job(case, method, seed, quick, folder)


def run(job: Job) -> list[dict[str, Any]]:
    """Rows of a job, one per horizon; if training diverges, a single row that says so."""
    case, method = CASES[job.case], METHODS[job.method]
    dataset = data.DATASETS[case.dataset]
    setting, horizons = case.setting, case.horizons
    if job.quick:
        setting, case = smaller(setting), replace(case, histories=128, samples=2, modes=min(case.modes, 200))
    train, held = data.load(case.dataset, 0 if dataset.slow else job.seed, job.folder, quick=job.quick)
    about = {
        "case": job.case,
        "env": dataset.env,
        "policy": dataset.policy,
        "actions": "states alone" if setting.free else "given",
        "method": method.name,
        "objective": method.objective,
        "seed": job.seed,
        "transitions": len(train),
    }
    try:
        fitted = method.fit(train, setting, job.seed, job.quick)
    except DivergenceError as error:
        return [about | {"horizon": horizons[-1], "diverged": str(error)}]
    about |= {"train_seconds": fitted.seconds, "parameters": fitted.parameters}
    return [about | row for row in scored(case, fitted, train, held, job.seed)]
