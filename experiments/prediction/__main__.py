"""Multi-step prediction: energies by objective, and the regressions beside them, scored as distributions.

`python -m experiments.prediction [--quick] [--seeds N] [--out DIR] [--cases ...]` writes `DIR/prediction.json`, run by
run, and with `--resume` goes on where it was stopped. Datasets are collected on first use, and policies trained.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from ebm_control.provenance import provenance, usable_cores, write_record
from experiments.prediction import data
from experiments.prediction.jobs import CASES, Job, jobs_of, run
from experiments.prediction.report import summarised, table


@dataclass
class Prediction:
    """Every case, every method, every seed."""

    seeds: int = 5
    """Runs of each method."""
    quick: bool = False
    """One seed, two datasets, a tenth of the data and a twentieth of the training."""
    out: Path = Path("experiments/results")
    """Folder of prediction.json."""
    data: Path = data.FOLDER
    """Folder of the datasets."""
    cases: tuple[str, ...] = tuple(CASES)
    """In this order."""
    methods: tuple[str, ...] = ()
    """Only these; all by default."""
    first: int = 0
    """The first seed: others than the table's, to try settings on."""
    resume: bool = False
    """Keep the runs that prediction.json holds already, whatever commit they ran from (each row says)."""


def worker(job: Job) -> list[dict[str, Any]]:
    """Rows of one run, on one thread."""
    torch.set_num_threads(1)
    return run(job)


def main() -> None:
    settings, console, started = tyro.cli(Prediction), Console(), time.perf_counter()
    count = 1 if settings.quick else settings.seeds
    seeds = range(settings.first, settings.first + count)
    flags = " --quick" if settings.quick else f" --seeds {count}"
    flags += " --resume" if settings.resume else ""
    origin = provenance("python -m experiments.prediction" + flags, seeds, 0.0)
    found = settings.out / "prediction.json"
    rows: list[dict[str, Any]] = []
    if settings.resume and found.exists():
        rows = json.loads(found.read_text())["results"]["by_seed"]
    kept = {(row["job"], row["seed"]) for row in rows}
    work = [
        job
        for job in jobs_of(settings.cases, seeds, settings.quick, settings.data)
        if (job.name, job.seed) not in kept and (not settings.methods or job.method in settings.methods)
    ]

    def write() -> None:
        """All that is known so far: a run that is stopped loses nothing."""
        took = origin | {"seconds": round(time.perf_counter() - started, 3)}
        write_record(found, {"rows": summarised(rows), "by_seed": rows}, took)

    with ProcessPoolExecutor(usable_cores()) as pool:
        running = {pool.submit(worker, job): job for job in work}
        for done in as_completed(running):
            job = running[done]
            console.print(f"{time.perf_counter() - started:6.0f} s  {job.name}, seed {job.seed}")
            rows += [{"job": job.name, **row, "commit": origin["commit"]} for row in done.result()]
            write()
    write()
    console.print(table(summarised(rows)))


if __name__ == "__main__":
    main()
