"""Runs of an experiment: one process per core, a record that is written after every run, and resumption."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from rich.console import Console
from rich.table import Table

from ebm_control.checks import InputError, require, require_number
from ebm_control.interrupts import uninterrupted
from ebm_control.provenance import provenance
from experiments.processes import whole, workers
from experiments.records import Row, claimed, parts_of, read
from experiments.storage import write


class Job(Protocol):
    """One run, with a name that is unique among the runs of its seed."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...


J = TypeVar("J", bound=Job)


@dataclass
class Runs:
    """Command-line settings of every experiment."""

    seeds: int = 5
    """Runs per method."""
    quick: bool = False
    """One seed, shorter runs."""
    out: Path = Path("experiments/results")
    """Folder of the record."""
    first: int = 0
    """The first seed; for trying settings on seeds other than those of the table."""
    resume: bool = False
    """Continue an existing record; its runs are kept, from whatever commit (each row names it)."""

    @property
    def seed_range(self) -> range:
        """The seeds; only one in a quick run."""
        return range(self.first, self.first + (1 if self.quick else self.seeds))

    def flags(self) -> str:
        """The flags as given, for the record."""
        said = " --quick" if self.quick else f" --seeds {self.seeds}"
        said += f" --first {self.first}" if self.first else ""
        return said + self.choice() + (" --resume" if self.resume else "")

    def choice(self) -> str:
        """The flags that select jobs, as given; none here."""
        return ""

    def check(self, jobs: Sequence[Any]) -> None:
        """Raise `InputError` if a number is out of range or a name is not one of `jobs`."""
        require_number("seeds", self.seeds, 1, whole=True)
        require_number("first", self.first, 0, whole=True)

    def wants(self, job: Any) -> bool:
        """Whether a job is selected; True here."""
        return True


@dataclass
class MethodRuns(Runs):
    """Command-line settings of experiments whose jobs have a `method`."""

    methods: tuple[str, ...] = ()
    """Run only these methods; default: all."""

    def choice(self) -> str:
        """The flag that selects methods, as given."""
        return "".join([" --methods", *(f" '{name}'" for name in self.methods)]) if self.methods else ""

    def check(self, jobs: Sequence[Any]) -> None:
        """Raise `InputError` also if a method is not one of `jobs`."""
        super().check(jobs)
        if self.methods:
            chosen("methods", self.methods, [job.method for job in jobs])

    def wants(self, job: Any) -> bool:
        """Whether the job's method is selected, or no method is named."""
        return not self.methods or job.method in self.methods


def chosen(argument: str, given: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The distinct names in `given`, in order.

    Raises:
        InputError: there is none, or one that is not in `known`.

    """
    names, given = list(dict.fromkeys(known)), tuple(dict.fromkeys(given))
    wrong = [name for name in given if name not in names]
    said = ", ".join(map(repr, wrong)) or "none"
    require(
        bool(given) and not wrong, argument, given=said, expected=f"some of {', '.join(map(repr, names))}"
    )
    return given


@dataclass(frozen=True)
class Experiment(Generic[J]):
    """The jobs of an experiment, and the processing of their results.

    Attributes:
        name: name of the module, without "experiments.".
        jobs: all jobs, in order.
        run: computes the rows of a job, in a worker process.
        summarised: maps rows of single seeds to rows of the summary.
        table: builds the table for the terminal.
        flags: the experiment's own arguments, for the record.
        record: name of the file; by default `name.json`.
        alike: own arguments that must be the same, or all be absent, in all runs of one record.
        timing: computes further rows, which are measured with nothing else running once all jobs are done.
        joined: joins `summarised` rows and those of `timing` to the rows of the record.
        patience: seconds for running jobs to save their work when the program is about to end; they check
            `processes.stopping`.

    """

    name: str
    jobs: Sequence[J]
    run: Callable[[J], list[Row]]
    summarised: Callable[[list[Row]], list[Row]]
    table: Callable[[list[Row]], Table]
    flags: str = ""
    record: str = ""
    alike: tuple[str, ...] = ()
    timing: Callable[[], list[Row]] = list
    joined: Callable[[list[Row], list[Row]], list[Row]] = lambda rows, timing: rows
    patience: float = 0.0

    @property
    def file(self) -> str:
        """File name of the record."""
        return self.record or f"{self.name}.json"


def carry_out(settings: Runs, experiment: Experiment[J]) -> None:
    """Run the selected jobs that are not yet recorded, and print the table.

    The record is written after each run. Ctrl-C, or SIGTERM in a program, ends the processes; finished runs are
    recorded.

    Raises:
        InputError: settings are out of range, name something unknown or select no job; there is a record and no
            `resume`; the record is damaged or of another experiment; or another process has locked it.
        OSError: the record cannot be written; its earlier contents are unchanged.
        RuntimeError: runs failed; all others are recorded.

    """
    console, jobs = Console(), list(experiment.jobs)
    settings.check(jobs)
    asked = [job for job in jobs if settings.wants(job)]
    require(
        bool(asked),
        experiment.name,
        given=f"none with{settings.flags()}{experiment.flags}",
        expected="a choice that has runs",
    )
    path = settings.out / experiment.file
    with claimed(path, resume=settings.resume):
        command = f"python -m experiments.{experiment.name}{settings.flags()}{experiment.flags}"
        record = _Record(path, experiment, provenance(command, settings.seed_range, 0.0), jobs)
        if settings.resume and path.exists():
            record.go_on()
        kept = {(row["job"], row["seed"]) for row in record.rows}
        work = [job for job in asked if (job.name, job.seed) not in kept]
        try:
            failed = _run_all(experiment, work, record, console)
            timing = experiment.timing()
            if timing:
                record.time(timing)
        except KeyboardInterrupt as stop:
            done = len({(row["job"], row["seed"]) for row in record.rows} - kept)
            said = f"{done} of {len(work)} runs were done"
            raise type(stop)(f"{said}; {path} has them, and --resume goes on" if done else said) from stop
        console.print(experiment.table(record.summary()))
        for what, error in failed.items():
            raise RuntimeError(
                f"{len(failed)} of {len(work)} failed, all else is in {path}; {what}"
            ) from error


def _run_all(
    experiment: Experiment[J], work: Sequence[J], record: _Record, console: Console
) -> dict[str, BaseException]:
    """Run and record `work`; returns errors of failed jobs by name. Jobs that end early return no rows."""
    failed: dict[str, BaseException] = {}
    running: dict[Future[list[Row]], J] = {}
    recorded: set[Future[list[Row]]] = set()
    try:
        with workers(experiment.patience) as pool:
            for job in work:
                # Python ignores exceptions that signals raise in its functions around a fork; and a worker that has
                # not started yet leaves a Ctrl-C for the whole group to its parent.
                with uninterrupted():
                    running[pool.submit(experiment.run, job)] = job
            for done in as_completed(running):
                job, error = running[done], done.exception()
                what = f"{job.name}, seed {job.seed}"
                console.print(f"{record.seconds:6.0f} s  {what}{'' if error is None else ': failed'}")
                if error is not None:
                    failed[what] = error
                    continue
                with uninterrupted():
                    recorded.add(done)
                    record.add(job, done.result())
    except KeyboardInterrupt:
        with uninterrupted():
            for done, job in running.items():
                if done not in recorded and whole(done):
                    record.add(job, done.result())
        raise
    return failed


def _made(command: str, flag: str) -> str:
    """Text for whether a command had `flag`, and with which values."""
    words = command.split()
    if flag not in words:
        return f"without {flag}"
    after = words[words.index(flag) + 1 :]
    values = after[: next((i for i, word in enumerate(after) if word.startswith("--")), len(after))]
    return " ".join(["with", flag, *values])


@dataclass
class _Record:
    """The record of an experiment so far."""

    path: Path
    experiment: Experiment[Any]
    origin: Row
    jobs: Sequence[Any]
    rows: list[Row] = field(default_factory=list)
    timing: list[Row] = field(default_factory=list)
    before: list[Row] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.place = {(job.name, job.seed): i for i, job in enumerate(self.jobs)}

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def go_on(self) -> None:
        """Continue with the rows and the provenance of the existing record."""
        record = read(self.path, "resume")
        command, module = record["provenance"]["command"], f"python -m experiments.{self.experiment.name}"
        ours = command == module or command.startswith((f"{module} ", f"{module},"))
        require(ours, "resume", given=f"{self.path}, of `{command}`", expected=f"a record of `{module}`")
        for flag in ("--quick", *self.experiment.alike):
            now = _made(self.origin["command"], flag)
            for part in parts_of(record["provenance"]):
                was = _made(part["command"], flag)
                require(
                    was == now, "resume", given=f"{self.path}, made {was}", expected=f"a record made {now}"
                )
        self.rows, self.before = record["results"]["by_seed"], parts_of(record["provenance"])
        self.timing = record["results"].get("timing", [])
        try:
            self.summary()
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"resume: expected rows of experiments.{self.experiment.name}, got {self.path}, whose rows make no "
                f"table ({error!r})"
            ) from error

    def add(self, job: Job, rows: list[Row]) -> None:
        """Add the rows of a run, if there are any, and write the record."""
        if not rows:
            return
        about = {name: self.origin[name] for name in ("commit", "accelerator")}
        self.rows += [{"job": job.name, **row, **about} for row in rows]
        self.rows.sort(key=lambda row: self.place.get((row["job"], row["seed"]), len(self.place)))
        self._write()

    def time(self, rows: list[Row]) -> None:
        """Add the rows measured at the end, and write the record."""
        self.timing = rows
        self._write()

    def summary(self) -> list[Row]:
        """Rows of the table."""
        return self.experiment.joined(self.experiment.summarised(self.rows), self.timing)

    def _write(self) -> None:
        took = self.origin | {"seconds": round(self.seconds, 3)}
        origin = took | ({"parts": [*self.before, took]} if self.before else {})
        timing = {"timing": self.timing} if self.timing else {}
        write(self.path, {"rows": self.summary(), **timing, "by_seed": self.rows}, origin)
