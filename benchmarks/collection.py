"""HalfCheetah-v5 collection: `collect_mujoco` versus a plain loop over `SyncVectorEnv`, environment steps per second.

Run as `python -m benchmarks.collection`. Both take random actions, in one process, in alternating repeats; the
result is the median. The loop records nothing, while `collect_mujoco` returns a filled buffer, and its time includes
building the environment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import gymnasium as gym
import tyro
from gymnasium.vector import SyncVectorEnv
from rich.console import Console
from rich.table import Table

from ebm_control.checks import require_number
from ebm_control.data import collect_mujoco
from ebm_control.provenance import provenance, usable_cores, write_record
from experiments.processes import as_program
from experiments.records import claimed


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark."""

    env: str = "HalfCheetah-v5"
    steps: int = 40_000
    repeats: int = 5
    num_envs: int = 8
    seed: int = 0
    output: Path = Path("benchmarks/results/collection.json")


@dataclass(frozen=True)
class Speed:
    """Steps per second of one run, and the number of busy cores: fewer than requested if others use them."""

    steps_per_second: float
    cores_busy: float


def timed(run: Callable[[], object], steps: int) -> Speed:
    start, busy = time.perf_counter(), time.process_time()
    run()
    seconds = time.perf_counter() - start
    return Speed(steps / seconds, (time.process_time() - busy) / seconds)


def main(settings: Settings) -> None:
    for name in ("steps", "repeats", "num_envs"):
        require_number(name, getattr(settings, name), 1, whole=True)
    require_number("seed", settings.seed, 0, whole=True)
    with claimed(settings.output, argument="output"):
        measure(settings)


def measure(settings: Settings) -> None:
    begin = time.perf_counter()
    envs = SyncVectorEnv([lambda: gym.make(settings.env)] * settings.num_envs)
    envs.reset(seed=settings.seed)
    envs.action_space.seed(settings.seed)

    def step_vector() -> None:
        for _ in range(settings.steps // settings.num_envs):
            envs.step(envs.action_space.sample())

    runs: dict[str, list[Speed]] = {"SyncVectorEnv": [], "collect_mujoco, 1 thread": []}
    cores = usable_cores()
    if cores > 1:
        runs[f"collect_mujoco, {cores} threads"] = []
    for repeat in range(settings.repeats):
        seed = settings.seed + repeat
        for name, speeds in runs.items():
            threads = 1 if name.endswith("1 thread") else cores
            rolling = lambda threads=threads, seed=seed: collect_mujoco(  # noqa: E731
                settings.env, settings.steps, seed=seed, threads=threads
            )
            speeds.append(timed(step_vector if name == "SyncVectorEnv" else rolling, settings.steps))

    baseline = median(s.steps_per_second for s in runs["SyncVectorEnv"])
    table = Table(title=f"{settings.env}: environment steps a second, {settings.repeats} repeats")
    for column in ("method", "median", "least", "most", "cores busy", "× SyncVectorEnv"):
        table.add_column(column, justify="left" if column == "method" else "right")
    results = {}
    for name, speeds in runs.items():
        rates = [s.steps_per_second for s in speeds]
        middle, busy = median(rates), median(s.cores_busy for s in speeds)
        ratio = middle / baseline
        cells = (f"{middle:,.0f}", f"{min(rates):,.0f}", f"{max(rates):,.0f}", f"{busy:.2f}", f"{ratio:.2f}")
        table.add_row(name, *cells)
        results[name] = {"median": middle, "ratio": ratio, "repeats": [asdict(s) for s in speeds]}
    Console().print(table)
    seeds = range(settings.seed, settings.seed + settings.repeats)
    origin = provenance("python -m benchmarks.collection", seeds, time.perf_counter() - begin)
    write_record(settings.output, results, origin)


if __name__ == "__main__":
    as_program(lambda: main(tyro.cli(Settings)))
