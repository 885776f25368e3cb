"""Time of one contrastive update of the demo's energy, with gradients written out and with automatic differentiation.

python -m benchmarks.training [--quick] [--out FILE]

Both contenders are of this version and differ in the gradients of the chains alone, so the ratio says what those save
and not what else was changed since.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from ebm_control.checks import require_number
from ebm_control.cli.demo import EPISODE, Demo
from ebm_control.data import collect_mujoco
from ebm_control.data.batch import Batch
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.energies import Energy, TransitionEnergy
from ebm_control.models import fit_model
from ebm_control.models.trajectory_fit import batches_for, trainer_for
from ebm_control.provenance import provenance, write_record
from ebm_control.training import Trainer
from ebm_envs.reacher import ENV, spread_starts
from experiments.processes import as_program
from experiments.records import claimed

TRANSITIONS, UPDATES = 5000, 10  # rollouts, updates per round
OURS, AUTOMATIC = "written out", "automatic differentiation"


class AutomaticEnergy(TransitionEnergy):
    """The same energy with the gradient that any energy has: by automatic differentiation."""

    value_and_gradient = Energy.value_and_gradient
    restricted = Energy.restricted


def main(repeats: int = 31, quick: bool = False, out: Path | None = None) -> None:
    """Time updates of both in turn on one thread, in processor time; medians are compared.

    Args:
        repeats: rounds of 10 updates of each.
        quick: 7 rounds; written only with `out`.
        out: file of the results; by default `benchmarks/results/training.json`.

    """
    require_number("repeats", repeats, 2, whole=True)  # quartiles need two values
    path = out or (None if quick else Path(__file__).parent / "results" / "training.json")
    with contextlib.nullcontext() if path is None else claimed(path):
        measure(7 if quick else repeats, path)


def measure(repeats: int, path: Path | None) -> None:
    torch.set_num_threads(1)
    began = time.perf_counter()
    data = collect_mujoco(ENV, TRANSITIONS, episode_length=EPISODE, seed=0, starts=spread_starts)
    made = {OURS: contender(data, TransitionEnergy), AUTOMATIC: contender(data, AutomaticEnergy)}
    times: dict[str, list[float]] = {name: [] for name in made}
    for round_ in range(repeats + 1):
        for name, (trainer, batches) in made.items():
            start = time.process_time()
            for _ in range(UPDATES):
                trainer.update(next(batches))
            if round_:  # the first fills the caches
                times[name].append(1e3 * (time.process_time() - start) / UPDATES)
    ratio = statistics.median(two / one for one, two in zip(times[OURS], times[AUTOMATIC], strict=True))
    rows = {name: quartiles(spent) for name, spent in times.items()}
    table = Table(
        "update", "median ms", "quartiles ms", title=f"Contrastive update, 1 thread, {repeats} rounds"
    )
    for name, row in rows.items():
        spread = f"{row['lower_quartile_ms']:.1f} – {row['upper_quartile_ms']:.1f}"
        table.add_row(name, f"{row['median_ms']:.1f}", spread)
    Console().print(table)
    if path is not None:
        command = " ".join(["python -m benchmarks.training", *sys.argv[1:]])
        ratios = {"autograd_to_contrastive_update": round(ratio, 3)}
        results = {"threads": 1, "clock": "processor", "ratios": ratios, "updates": rows}
        write_record(path, results, provenance(command, [0], time.perf_counter() - began))


def contender(data: RolloutBuffer, kind: type[TransitionEnergy]) -> tuple[Trainer, Iterator[Batch]]:
    """A trainer of the demo's model with energies of a class, and its batches."""
    # The time of an update does not depend on how well the base is fitted.
    settings = replace(Demo().train, updates=1, base_updates=50)
    model = fit_model(data, settings, progress=False)
    assert isinstance(model.energy, TransitionEnergy)
    model.energy.__class__ = kind
    model.energy.network.requires_grad_(True)
    batches = batches_for(data, model, settings.batch_size, settings.seed)
    return trainer_for(model, batches, Demo().train), batches


def quartiles(spent: list[float]) -> dict[str, float]:
    """Median and quartiles of times in ms."""
    low, median, high = statistics.quantiles(spent, n=4)
    return {
        "median_ms": round(median, 3),
        "lower_quartile_ms": round(low, 3),
        "upper_quartile_ms": round(high, 3),
    }


if __name__ == "__main__":
    as_program(lambda: tyro.cli(main))
