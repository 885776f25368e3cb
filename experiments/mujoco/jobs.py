"""Jobs: one run for each method, problem and seed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import product

from experiments.mujoco import goals, model_free, offline, oracle, own
from experiments.mujoco.methods import Job, Method, Row
from experiments.mujoco.problems import PROBLEMS

# In the order of runs. Methods of the offline part share names with those that learn from nothing.
METHODS: dict[str, Method] = {
    **{method.name: method for method in (*oracle.METHODS, *own.METHODS, *model_free.METHODS)},
    **{f"offline, {method.name}": method for method in (*goals.METHODS, *offline.METHODS)},
}
QUICK = ("Pendulum-v1", "CartPole-v1", "FetchReach-v4")


def jobs_of(envs: Iterable[str], seeds: Iterable[int], quick: bool) -> Iterator[Job]:
    """Jobs seed by seed, so that a stopped run has complete seeds; methods with more steps come last.

    A quick run has none of those, as all its runs are equally short.
    """
    asked = set(envs)
    equal = [method for method in METHODS.values() if method.factor <= 1]
    longer = [] if quick else [method for method in METHODS.values() if method.factor > 1]
    for methods, seed in product((equal, longer), list(seeds)):
        for method in methods:
            for env in (env for env in method.problems if env in asked):
                yield Job(method, PROBLEMS[env], seed, quick)


def run(job: Job) -> list[Row]:
    """Rows of a job, each with what it is about; `minutes` are the wall time of the whole run."""
    began = time.perf_counter(), time.process_time()
    rows = job.compared.run(job)
    about = {
        "part": job.compared.part,
        "env": job.env,
        "method": job.method,
        "steps": job.steps,
        "seed": job.seed,
        "bar": job.problem.bar,
        "minutes": (time.perf_counter() - began[0]) / 60,
        "cpu_minutes": (time.process_time() - began[1]) / 60,
    }
    made = [about | row for row in rows]
    for row in made:
        print(job.name, job.seed, {name: row[name] for name in ("return", "success", "minutes")}, flush=True)
    return made
