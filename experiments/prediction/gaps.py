"""Whether long futures are better sampled in strides: does an energy of every tenth state know the far ones better?

Coarse-to-fine prediction samples states far apart first and then those between. It can only help where the coarse
states are closer to their true law than those that are reached step by step. `python -m experiments.prediction.gaps`
compares the two at the same times, and writes `DIR/prediction-gaps.json`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from ebm_control.data import RolloutBuffer
from ebm_control.prediction import metrics
from ebm_control.provenance import provenance, write_record
from experiments.prediction import data
from experiments.prediction.jobs import CASES
from experiments.prediction.methods import METHODS, Fitted
from experiments.tables import summarised

GAP, LONGEST = 10, 100
HISTORIES, SAMPLES, TRUTH = 512, 4, 4000
AT = (1, 2, 5, 10)  # strides


@dataclass
class Gaps:
    """States alone, where futures are many."""

    seeds: int = 1
    """Trainings of each."""
    cases: tuple[str, ...] = ("hand-reach, states alone", "halfcheetah-trained, states alone")
    """Of `experiments.prediction`."""
    out: Path = Path("experiments/results")
    """Folder of the record."""
    data: Path = data.FOLDER
    """Folder of the datasets."""


def strided(buffer: RolloutBuffer) -> RolloutBuffer:
    """Every `GAP`-th state, from each of the first `GAP` on: as many transitions, nearly. Actions are not kept."""
    made = RolloutBuffer(buffer.obs_dim, 1, periods=buffer.periods)
    for episode in buffer.episodes():
        for first in range(GAP):
            states = episode.observations[first::GAP]
            if len(states) > 1:
                made.add_episode(states, np.zeros((len(states) - 1, 1)))
    return made


def compared(name: str, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Distances of pairs of states `GAP` steps apart, by strides and step by step."""
    case = CASES[name]
    train, held = data.load(case.dataset, 0, folder)
    rows = []
    for method, learned, ratio in (("in strides", strided(train), 1), ("step by step", train, GAP)):
        fitted = METHODS["EBM, dsm"].fit(learned, case.setting, seed, False)
        began = time.perf_counter()
        found = pairs(fitted, train, held, ratio, seed)
        took = time.perf_counter() - began
        for at in AT:
            row = {"case": name, "method": method, "seed": seed, "horizon": at * GAP}
            row["frechet"] = metrics.frechet_distance(found[0][at - 1], found[1][at - 1])
            row["energy_distance"] = metrics.energy_distance(found[0][at - 1], found[1][at - 1], most=2000)
            rows.append(row | {"train_seconds": fitted.seconds, "sample_seconds": took})
    return rows


def pairs(
    fitted: Fitted, train: RolloutBuffer, held: RolloutBuffer, ratio: int, seed: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Predicted and true states at multiples of `GAP`, each beside the one `GAP` before: `(N, 2 obs_dim)` a time."""
    rng = np.random.default_rng(seed)
    past, _ = held.sample_windows(HISTORIES, LONGEST + 1, rng=rng)
    truth, _ = held.sample_windows(TRUTH, LONGEST + 1, rng=rng)
    normal = fitted.normalizer.normalize_observations(torch.from_numpy(train.observations)).float()
    history = fitted.normalizer.normalize_observations(torch.from_numpy(past[:, :1])).float()
    futures = fitted.futures(
        history,
        None,
        horizon=LONGEST // GAP * ratio,
        samples=SAMPLES,
        generator=torch.Generator().manual_seed(seed),
        bounds=(normal.amin(dim=0), normal.amax(dim=0)),
    )
    coarse = futures[:, :, ratio - 1 :: ratio]
    paths = torch.cat([history[:, None].expand(-1, SAMPLES, -1, -1), coarse], dim=2).flatten(0, 1)
    # In units of all data, so that both methods are measured alike.
    mean, deviation = (torch.from_numpy(part(train.observations, axis=0)) for part in (np.mean, np.std))

    def units(states: torch.Tensor) -> torch.Tensor:
        return ((states.double() - mean) / deviation.clamp(min=1e-6)).float()

    found = units(fitted.normalizer.denormalize_observations(paths))
    true = units(torch.from_numpy(truth[:, ::GAP]))
    times = range(1, LONGEST // GAP + 1)
    return (
        [found[:, t - 1 : t + 1].flatten(1) for t in times],
        [true[:, t - 1 : t + 1].flatten(1) for t in times],
    )


def main() -> None:
    asked, console, began = tyro.cli(Gaps), Console(), time.perf_counter()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in asked.cases:
        for seed in range(asked.seeds):
            rows += compared(name, asked.data, seed)
            console.print(f"{time.perf_counter() - began:6.0f} s  {name}, seed {seed}")
            command = f"python -m experiments.prediction.gaps --seeds {asked.seeds}"
            origin = provenance(command, range(asked.seeds), time.perf_counter() - began)
            summary = summarised(rows, ("case", "method", "horizon"), ("frechet", "energy_distance"))
            write_record(asked.out / "prediction-gaps.json", {"rows": summary, "by_seed": rows}, origin)
    for row in rows:
        console.print(row)


if __name__ == "__main__":
    main()
