"""Runs of an experiment: one process a core, a record that is written run by run, and going on where it stopped."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from ebm_control.checks import require
from ebm_control.provenance import provenance, usable_cores, write_record

Row = dict[str, Any]


class Job(Protocol):
    """One run: a name that tells it from all others of its seed."""

    @property
    def name(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def seed(self) -> int: ...


J = TypeVar("J", bound=Job)


@dataclass
class Runs:
    """What every experiment's command line has."""

    seeds: int = 5
    """Runs of each method."""
    quick: bool = False
    """One seed, shorter runs."""
    out: Path = Path("experiments/results")
    """Folder of the record."""
    methods: tuple[str, ...] = ()
    """Only runs whose method is named here; all by default."""
    first: int = 0
    """The first seed: others than the table's, to try settings on."""
    resume: bool = False
    """Keep the runs that the record holds already, whatever commit they ran from (each row says)."""

    @property
    def seed_range(self) -> range:
        """One in a quick run."""
        return range(self.first, self.first + (1 if self.quick else self.seeds))

    def flags(self) -> str:
        """As given, for the record."""
        said = " --quick" if self.quick else f" --seeds {self.seeds}"
        said += f" --first {self.first}" if self.first else ""
        said += "".join([" --methods", *(f" '{name}'" for name in self.methods)]) if self.methods else ""
        return said + (" --resume" if self.resume else "")


def carry_out(
    settings: Runs,
    name: str,
    jobs: Iterable[J],
    run: Callable[[J], list[Row]],
    summarised: Callable[[list[Row]], list[Row]],
    table: Callable[[list[Row]], Table],
    flags: str = "",
) -> None:
    """Run what is asked for and not yet recorded, and print the table.

    Args:
        settings: of the command line.
        name: of the experiment: of its module, and of its record `name.json`.
        jobs: all there are, in order.
        run: rows of a job, in a process of its own.
        summarised: rows of the record of rows of single seeds.
        table: for the terminal.
        flags: arguments of its own, for the record.

    """
    console = Console()
    origin = provenance(f"python -m experiments.{name}{settings.flags()}{flags}", settings.seed_range, 0.0)
    record = _Record(settings.out / f"{name}.json", origin, summarised)
    if settings.resume:
        record.go_on(settings.quick)
    kept = {(row["job"], row["seed"]) for row in record.rows}
    jobs = list(jobs)
    place = {(job.name, job.seed): i for i, job in enumerate(jobs)}
    work = [
        job
        for job in jobs
        if (job.name, job.seed) not in kept and (not settings.methods or job.method in settings.methods)
    ]
    failed: dict[str, BaseException] = {}
    # A forked process cannot use a GPU that its parent has looked at.
    start = multiprocessing.get_context("spawn" if torch.accelerator.is_available() else None)
    with ProcessPoolExecutor(usable_cores(), mp_context=start) as pool:
        running = {pool.submit(_on_one_thread, run, job): job for job in work}
        for done in as_completed(running):
            job, error = running[done], done.exception()
            what = f"{job.name}, seed {job.seed}"
            console.print(f"{record.seconds:6.0f} s  {what}{'' if error is None else ': failed'}")
            if error is not None:
                failed[what] = error
                continue
            about = {name: origin[name] for name in ("commit", "accelerator")}
            record.rows += [{"job": job.name, **row, **about} for row in done.result()]
            record.rows.sort(key=lambda row: place.get((row["job"], row["seed"]), len(place)))
            record.write()
    record.write()
    console.print(table(summarised(record.rows)))
    for what, error in failed.items():
        raise RuntimeError(
            f"{len(failed)} of {len(work)} failed, all else is in {record.path}; {what}"
        ) from error


@dataclass
class _Record:
    """What is known so far."""

    path: Path
    origin: Row
    summarised: Callable[[list[Row]], list[Row]]
    rows: list[Row] = field(default_factory=list)
    before: list[Row] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def go_on(self, quick: bool) -> None:
        """With the rows that are recorded, and with where they came from."""
        if not self.path.exists():
            return
        record = json.loads(self.path.read_text())
        was_quick = "--quick" in record["provenance"]["command"]
        given = f"{self.path}, {'a quick' if was_quick else 'a full'} run's"
        require(was_quick == quick, "resume", given=given, expected="the record of a run of the same size")
        self.rows, self.before = record["results"]["by_seed"], _parts(record["provenance"])

    def write(self) -> None:
        """A run that is stopped loses nothing."""
        took = self.origin | {"seconds": round(self.seconds, 3)}
        whole = took | ({"parts": [*self.before, took]} if self.before else {})
        write_record(self.path, {"rows": self.summarised(self.rows), "by_seed": self.rows}, whole)


def _parts(origin: Row) -> list[Row]:
    """Where the runs of a record came from, of one that was written in parts each of them."""
    return origin.get("parts", [origin])


def _on_one_thread(run: Callable[[J], list[Row]], job: J) -> list[Row]:
    torch.set_num_threads(1)
    return run(job)


def put_together(
    parts: Sequence[Path],
    record: Path,
    names: Sequence[str],
    summarised: Callable[[list[Row]], list[Row]],
) -> None:
    """Write the runs of several records as one, with where each part came from."""
    rows = merged(parts, names)
    origins = [json.loads(part.read_text())["provenance"] for part in parts]
    whole = origins[-1] | {
        "command": f"python -m experiments.{record.stem}, in parts",
        "seeds": sorted({row["seed"] for row in rows}),
        "seconds": None,
        "parts": list({json.dumps(part): part for origin in origins for part in _parts(origin)}.values()),
    }
    write_record(record, {"rows": summarised(rows), "by_seed": rows}, whole)


def merged(parts: Sequence[Path], names: Sequence[str]) -> list[Row]:
    """Rows of single seeds of several records, of equal runs those of the last; jobs in the order of `names`."""
    found: dict[tuple[str, int], list[Row]] = {}
    for part in parts:
        fresh: dict[tuple[str, int], list[Row]] = {}
        record = json.loads(part.read_text())
        where = {"accelerator": record["provenance"].get("accelerator")}
        for row in record["results"]["by_seed"]:
            fresh.setdefault((row["job"], row["seed"]), []).append(where | row)
        found |= fresh
    place = {name: i for i, name in enumerate(names)}
    order = sorted(found, key=lambda key: (place.get(key[0], len(place)), key[1]))
    return [row for key in order for row in found[key]]
