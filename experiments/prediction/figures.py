"""Figures of multi-step prediction.

`python -m experiments.prediction.figures` plots distances by horizon, from `experiments/results/prediction.json`, and
trains three methods on Fork (about three minutes) to compare their futures with true ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from ebm_envs.fork import lane_centres, transition
from experiments.prediction import data
from experiments.prediction.evaluate import Row
from experiments.prediction.jobs import CASES
from experiments.prediction.methods import METHODS, Fitted
from experiments.processes import as_program
from experiments.records import load

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path("docs/figures")
COLOURS = {
    "EBM, step by step": "#1f5fa8",
    "feed-forward": "#d98324",
    "ensemble of 5": "#5a8f4e",
    "recurrent": "#8d6a9f",
}
SHOWN = ("EBM, dsm", "feed-forward", "ensemble of 5")
HORIZON, FUTURES = 18, 60


def distances(rows: list[Row], path: Path) -> Path:
    """Plot the Fréchet distance by horizon, one panel per case with more than one horizon."""
    cases = [case for case in CASES if len({row["horizon"] for row in rows if row["case"] == case}) > 2]
    across = min(3, len(cases))
    down = -(-len(cases) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(3.4 * across, 2.7 * down), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(cases) :]:
        axis.axis("off")
    for axis, case in zip(axes.flat, cases, strict=False):
        group = [row for row in rows if row["case"] == case and row["objective"] in ("dsm", "regression")]
        for method, colour in COLOURS.items():
            line = sorted((r for r in group if r["method"] == method), key=lambda r: r["horizon"])
            if line:
                horizons = [row["horizon"] for row in line]
                axis.plot(
                    horizons, [r.get("frechet", np.nan) for r in line], "o-", color=colour, label=method, ms=3
                )
        floor = sorted({(r["horizon"], r["frechet_floor"]) for r in group if "frechet_floor" in r})
        if floor:
            best: dict[int, float] = {}
            for horizon, value in floor:
                best[horizon] = min(value, best.get(horizon, np.inf))
            axis.plot(list(best), list(best.values()), ":", color="#444444", label="true segments")
        axis.set(title=case, yscale="log", xlabel="horizon, steps", ylabel="Fréchet distance")
        axis.title.set_size(9)
    axes.flat[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def fork(path: Path, seed: int = 0) -> Path:
    """Plot true and predicted futures from one start under one action sequence (zeros)."""
    case = CASES["fork, actions given"]
    train, _ = data.load("fork", seed)
    figure, axes = plt.subplots(1, 1 + len(SHOWN), figsize=(11, 2.9), layout="constrained", sharey=True)
    paths = {"true": true_paths(seed)}
    for name in SHOWN:
        method = METHODS[name]
        fitted = method.fit(train, case.setting, seed, False)
        paths[method.name] = predicted(fitted, seed)
    for axis, (name, drawn) in zip(axes, paths.items(), strict=True):
        for y in lane_centres(3):
            axis.axhline(y, color="#dddddd", linewidth=0.8)
        axis.plot(
            drawn[..., 0].T, drawn[..., 1].T, color=COLOURS.get(name, "#444444"), alpha=0.25, linewidth=0.8
        )
        axis.set(title=name, xlabel="x", ylim=(-0.95, 0.95))
    axes[0].set_ylabel("y")
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def true_paths(seed: int) -> np.ndarray[Any, Any]:
    """True paths `(FUTURES, HORIZON + 1, 2)` from the environment."""
    rng = np.random.default_rng(seed)
    states = [np.tile([-1.0, 0.0], (FUTURES, 1))]
    for _ in range(HORIZON):
        states.append(transition(states[-1], np.zeros((FUTURES, 1)), rng))
    return np.stack(states, axis=1)


def predicted(fitted: Fitted, seed: int) -> np.ndarray[Any, Any]:
    """Predicted paths of a method, in the shape of `true_paths`."""
    normalizer = fitted.normalizer
    start = torch.tensor([[[-1.0, 0.0]]], dtype=torch.float64)
    history = normalizer.normalize(start, torch.zeros(1, 1, 1, dtype=torch.float64)).float()
    actions = normalizer.normalize_actions(torch.zeros(1, HORIZON, 1))
    found = fitted.futures(
        history,
        actions,
        horizon=HORIZON,
        samples=FUTURES,
        generator=torch.Generator().manual_seed(seed),
    )
    states = normalizer.denormalize_observations(found[0]).double().numpy()
    return np.concatenate([np.tile([[[-1.0, 0.0]]], (FUTURES, 1, 1)), states], axis=1)


def main() -> None:
    rows = load(Path("experiments/results/prediction.json"))["results"]["rows"]
    print(distances(rows, FOLDER / "prediction.png"))
    print(fork(FOLDER / "fork.png"))


if __name__ == "__main__":
    as_program(main)
