"""Online learning from nothing: energies, and the models they have to beat, in one loop.

`python -m experiments.online [--quick] [--seeds N] [--out DIR] [--parts ...]` writes `DIR/online.json`, run by run, and
with `--resume` goes on where it was stopped.
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
from experiments.online.jobs import PARTS, Job, jobs_of, run
from experiments.online.report import summarised, table


@dataclass
class Online:
    """Every part, every method, every seed."""

    seeds: int = 5
    """Runs of each method."""
    quick: bool = False
    """One seed, shorter runs."""
    out: Path = Path("experiments/results")
    """Folder of online.json."""
    parts: tuple[str, ...] = PARTS
    """In this order."""
    methods: tuple[str, ...] = ()
    """Only runs whose method is named here; all by default."""
    first: int = 0
    """The first seed: others than the table's, to try settings on."""
    resume: bool = False
    """Keep the runs that online.json holds already, whatever commit they ran from (each row says)."""


def worker(job: Job) -> list[dict[str, Any]]:
    """Rows of one run, on one thread."""
    torch.set_num_threads(1)
    return run(job)


def main() -> None:
    settings, console, started = tyro.cli(Online), Console(), time.perf_counter()
    count = 1 if settings.quick else settings.seeds
    seeds = range(settings.first, settings.first + count)
    flags = " --quick" if settings.quick else f" --seeds {count}"
    flags += f" --parts {' '.join(settings.parts)}" + (
        "".join([" --methods", *(f" '{name}'" for name in settings.methods)]) if settings.methods else ""
    )
    flags += " --resume" if settings.resume else ""
    origin = provenance("python -m experiments.online" + flags, seeds, 0.0)
    found = settings.out / "online.json"
    rows: list[dict[str, Any]] = []
    if settings.resume and found.exists():
        rows = json.loads(found.read_text())["results"]["by_seed"]
    chosen = settings.methods
    kept = {(row["job"], row["seed"]) for row in rows}
    work = [
        job
        for job in jobs_of(settings.parts, seeds, settings.quick)
        if (job.name, job.seed) not in kept and (not chosen or job.method in chosen)
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
