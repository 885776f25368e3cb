"""Futures of score-matched energies: 30 levels of ancestral sampling and integrators with few gradients.

`python -m benchmarks.prediction [--quick] [--out FILE] [--data DIR]` writes `benchmarks/results/prediction.json`, or
another file. All samplers draw from the same models, in turn, on one thread.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from ebm_control.checks import require_number
from ebm_control.data import RolloutBuffer
from ebm_control.models import TrajectoryModel, fit_model
from ebm_control.provenance import provenance, write_record
from ebm_control.samplers import Annealed, ProbabilityFlow, Sampler, noise_levels, trajectory_sampler
from ebm_control.samplers.recipes import flow_levels
from ebm_control.statistics import half_interval
from experiments.prediction import data, evaluate
from experiments.prediction.jobs import CASES
from experiments.prediction.methods import Fitted, fitted, sampled, settings_of, smaller
from experiments.processes import as_program
from experiments.records import claimed

RESULT = Path(__file__).parent / "results" / "prediction.json"
NAMES = {"fork": "fork, actions given", "hand": "hand-reach, states alone"}
OLD, NEW = "ancestral, 30 levels", "default"
FIRST_SEED = 1000  # of sampling; levels were chosen with other seeds, on other histories
HORIZON, HISTORIES, SAMPLES = 10, 160, 4  # of the hand
FUTURES = 400  # of each of Fork's four action sequences
QUICK = 20  # futures and histories of a quick run


def main(seeds: int = 4, quick: bool = False, data: Path = data.FOLDER, out: Path | None = None) -> None:
    """Time all samplers in turn, so that other load of the machine affects all equally.

    Args:
        seeds: sampling seeds, in each of which every sampler runs once.
        quick: small data, short training, few futures, two seeds; nothing written without `out`.
        data: folder of the datasets, and of the trained models.
        out: file of the results; by default `benchmarks/results/prediction.json`.

    """
    require_number("seeds", seeds, 2, whole=True)
    path = out or (None if quick else RESULT)
    with contextlib.nullcontext() if path is None else claimed(path):
        measure(2 if quick else seeds, quick, data, path)


def measure(seeds: int, quick: bool, folder: Path, path: Path | None) -> None:
    torch.set_num_threads(1)
    began = time.perf_counter()
    drawn = range(FIRST_SEED, FIRST_SEED + seeds)
    results: dict[str, Any] = {"threads": 1, "seeds": seeds, "quick": quick}
    for name, case in NAMES.items():
        results[name] = compared(name, case, drawn, quick, folder)
        show(name, results[name])
    results["ratios"] = {
        f"levels30_to_{name}": results[name][OLD]["ms_per_step"] / results[name][NEW]["ms_per_step"]
        for name in NAMES
    }
    Console().print(results["ratios"])
    if path is not None:
        flags = "".join([" --quick" if quick else "", f" --seeds {seeds}" if seeds != 4 else ""])
        origin = provenance(f"python -m benchmarks.prediction{flags}", drawn, time.perf_counter() - began)
        write_record(path, results, origin)


def compared(name: str, case: str, seeds: range, quick: bool, folder: Path) -> dict[str, dict[str, Any]]:
    """Figures of every sampler on one dataset, means over sampling seeds."""
    model, train, held = model_of(case, quick, folder)
    score = {"fork": on_fork, "hand": on_hand}[name]
    samplers = contenders(model)
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in samplers}
    for seed in seeds:
        for kind, sampler in samplers.items():
            method = replace(fitted(model, 0.0), futures=sampled(model, sampler))
            found[kind].append(score(method, train, held, seed, quick))
    return {kind: over_seeds(rows) | about(samplers[kind]) for kind, rows in found.items()}


def model_of(case: str, quick: bool, folder: Path) -> tuple[TrajectoryModel, RolloutBuffer, RolloutBuffer]:
    """The trained model from its folder next to the data, or trained now; with training and held-out episodes."""
    setting, dataset = CASES[case].setting, CASES[case].dataset
    train, held = data.load(dataset, 0, folder, quick=quick)
    path = folder / f"{dataset}-dsm-seed0{'-quick' if quick else ''}"
    if path.exists():
        return TrajectoryModel.load(path), train, held
    settings = settings_of("dsm", smaller(setting) if quick else setting, 0, quick)
    model = fit_model(train, settings, progress=False)
    model.save(path)
    return model, train, held


def contenders(model: TrajectoryModel) -> dict[str, Sampler]:
    """Samplers of the energy by name; the default is the library's own."""
    energy = model.energy
    assert energy.noise is not None
    noise, scale = energy.noise, energy.coordinate_scale()

    def flow(method: Any, count: int) -> ProbabilityFlow:
        return ProbabilityFlow(flow_levels(*noise, count), method, scale=scale)

    return {
        OLD: Annealed(noise_levels(*noise, 30), scale=scale),
        NEW: trajectory_sampler(energy),
        "DDIM, 6 levels": flow("euler", 6),
        "Heun, 4 levels": flow("heun", 4),
        "multistep, 3 levels": flow("multistep", 3),
        "multistep, 4 levels": flow("multistep", 4),
        "multistep, 8 levels": flow("multistep", 8),
    }


def about(sampler: Sampler) -> dict[str, Any]:
    assert isinstance(sampler, Annealed | ProbabilityFlow)
    return {
        "gradients": len(sampler.step_parameters()) + isinstance(sampler, Annealed),
        "levels": list(sampler.levels),
    }


def on_fork(
    method: Fitted, train: RolloutBuffer, held: RolloutBuffer, seed: int, quick: bool
) -> dict[str, float]:
    """Total variation of lanes, and CPU milliseconds per step."""
    timed, spent = clocked(method)
    row = evaluate.modes(timed, QUICK if quick else FUTURES, seed)
    names = ("total_variation", "total_variation_floor", "off_mode")
    milliseconds = 1e3 * spent() / evaluate.FORK_HORIZON
    return {name: row[name] for name in names} | {"ms_per_step": milliseconds}


def on_hand(
    method: Fitted, train: RolloutBuffer, held: RolloutBuffer, seed: int, quick: bool
) -> dict[str, float]:
    """Fréchet distance of segments at the horizon, and CPU milliseconds per step."""
    case = replace(CASES[NAMES["hand"]], horizons=(HORIZON,), histories=QUICK if quick else HISTORIES)
    timed, spent = clocked(method)
    row = evaluate.scored(replace(case, samples=SAMPLES), timed, train, held, seed)[-1]
    names = ("frechet", "frechet_floor", "energy_distance")
    return {name: row[name] for name in names} | {"ms_per_step": 1e3 * spent() / HORIZON}


def clocked(method: Fitted) -> tuple[Fitted, Callable[[], float]]:
    """The method, and its CPU seconds so far: other processes do not count."""
    total = 0.0

    def run(*given: Any, **asked: Any) -> Any:
        nonlocal total
        began = time.process_time()
        states = method.futures(*given, **asked)
        total += time.process_time() - began
        return states

    return replace(method, futures=run), lambda: total


def over_seeds(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means, and for all but times and floors half of their 95 % intervals."""
    figures: dict[str, float] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        figures[name] = sum(values) / len(values)
        if name in ("frechet", "total_variation", "energy_distance"):
            figures[f"{name}_ci95"] = half_interval(values) or 0.0
    return figures


def show(name: str, found: dict[str, dict[str, Any]]) -> None:
    score = "total_variation" if name == "fork" else "frechet"
    table = Table("sampler", "gradients", score, "± 95 %", "floor", "CPU ms/step", "times faster", title=name)
    for kind, row in found.items():
        table.add_row(
            kind,
            str(row["gradients"]),
            f"{row[score]:.4g}",
            f"{row[f'{score}_ci95']:.2g}",
            f"{row[f'{score}_floor']:.4g}",
            f"{row['ms_per_step']:.1f}",
            f"{found[OLD]['ms_per_step'] / row['ms_per_step']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    as_program(lambda: tyro.cli(main))
