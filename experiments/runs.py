"""Runs of an experiment: one process a core, a record that is written run by run, and going on where it stopped."""

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
    """One run: a name that tells it from all others of its seed."""

    @property
    def name(self) -> str: ...
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
        return said + self.choice() + (" --resume" if self.resume else "")

    def choice(self) -> str:
        """Of jobs, as given."""
        return ""

    def check(self, jobs: Sequence[Any]) -> None:
        """Raise `InputError` where the numbers are out of range or where a name is none of `jobs`."""
        require_number("seeds", self.seeds, 1, whole=True)
        require_number("first", self.first, 0, whole=True)

    def wants(self, job: Any) -> bool:
        """Whether a job is asked for."""
        return True


@dataclass
class MethodRuns(Runs):
    """Of experiments whose jobs each have a `method`."""

    methods: tuple[str, ...] = ()
    """Only runs whose method is named here; all by default."""

    def choice(self) -> str:
        """Of methods, as given."""
        return "".join([" --methods", *(f" '{name}'" for name in self.methods)]) if self.methods else ""

    def check(self, jobs: Sequence[Any]) -> None:
        """Methods, too, are those of `jobs`."""
        super().check(jobs)
        if self.methods:
            chosen("methods", self.methods, [job.method for job in jobs])

    def wants(self, job: Any) -> bool:
        """Whether its method is named, or none is."""
        return not self.methods or job.method in self.methods


def chosen(argument: str, given: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """`given`, each once, in its order.

    Raises:
        InputError: there is none, or one that is not `known`.

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
    """What is run, and what becomes of it.

    Attributes:
        name: of the module, without "experiments.".
        jobs: all there are, in order.
        run: rows of a job, in a process of its own.
        summarised: rows of the record of rows of single seeds.
        table: for the terminal.
        flags: arguments of its own, for the record.
        record: name of the file; `name.json` where it is not given.
        alike: arguments of its own that all runs of one record have in common, or all go without.
        timing: further rows, of what is measured alone once all jobs are done.
        joined: the rows of the record, given `summarised` ones and those of `timing`.
        patience: seconds that runs under way have to save what they have once the program is to end; they ask
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
        """Name of the record."""
        return self.record or f"{self.name}.json"


def carry_out(settings: Runs, experiment: Experiment[J]) -> None:
    """Run what is asked for and not yet recorded, and print the table.

    The record is written after each run. Ctrl-C, or SIGTERM in a program, ends the processes; the runs that are done
    by then are kept.

    Raises:
        InputError: settings are out of range, name what is unknown or ask for nothing; there is a record and no
            `resume`; or it is damaged, or another experiment's; or another process writes to it.
        OSError: the record cannot be written; what it held before is untouched.
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
    """Have `work` done and recorded; errors of what failed, by its name. What ends early returns no rows."""
    failed: dict[str, BaseException] = {}
    running: dict[Future[list[Row]], J] = {}
    recorded: set[Future[list[Row]]] = set()
    try:
        with workers(experiment.patience) as pool:
            for job in work:
                # Python ignores what a signal raises in the functions that it calls around a fork; and a worker that
                # has not begun yet leaves a Ctrl-C for all to its parent.
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
    """In words, whether a command had `flag` and what with."""
    words = command.split()
    if flag not in words:
        return f"without {flag}"
    after = words[words.index(flag) + 1 :]
    values = after[: next((i for i, word in enumerate(after) if word.startswith("--")), len(after))]
    return " ".join(["with", flag, *values])


@dataclass
class _Record:
    """What is known so far."""

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
        """With the rows that are recorded, and with where they came from."""
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
        """The rows of a run, where there are any. A run that is stopped loses nothing."""
        if not rows:
            return
        about = {name: self.origin[name] for name in ("commit", "accelerator")}
        self.rows += [{"job": job.name, **row, **about} for row in rows]
        self.rows.sort(key=lambda row: self.place.get((row["job"], row["seed"]), len(self.place)))
        self._write()

    def time(self, rows: list[Row]) -> None:
        """What was measured at the end."""
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
