"""Jobs that leave a mark, and programs that run them."""

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from experiments.records import load
from experiments.runs import Experiment, carry_out
from experiments.tables import summarised
from tests.helpers import Forked


@dataclass(frozen=True)
class Job:
    method: str
    seed: int
    folder: Path

    @property
    def name(self):
        return f"place: {self.method}"


def run(job):
    """Leaves a mark, so that a test sees how often it was called."""
    marks = job.folder / f"{job.method}-{job.seed}"
    marks.write_text(marks.read_text() + "x" if marks.exists() else "x")
    return [{"method": job.method, "seed": job.seed, "figure": float(job.seed)}]


def summary(rows):
    return summarised(rows, ("method",), ("figure",))


def table(rows):
    return Table("figure")


def experiment(settings, folder, methods=("a", "b"), run=run, **more):
    jobs = [Job(method, seed, folder) for seed in settings.seed_range for method in methods]
    return Experiment("some", jobs, run, summary, table, **more)


def carried_out(settings, folder, methods=("a", "b"), **more):
    carry_out(settings, experiment(settings, folder, methods, **more))
    return load(settings.out / "some.json")["results"]


def marks(folder):
    """Names of the jobs that ran, and how often."""
    return {path.name: len(path.read_text()) for path in folder.glob("?-*")}


PROGRAM = """
import sys, time
from pathlib import Path
from experiments.processes import as_program
from experiments.runs import Runs, carry_out
from tests.experiments.helpers import experiment, run

def slow(job):
    if job.method == "b":
        (job.folder / f"begun-{job.seed}").touch()
        time.sleep(120)
    return run(job)

out = Path(sys.argv[1])
settings = Runs(seeds=3, out=out, resume="--resume" in sys.argv)
as_program(lambda: carry_out(settings, experiment(settings, out, run=slow)))
"""


def program(folder, *flags, text=PROGRAM):
    return Forked(text, str(folder), *flags, session=True)
