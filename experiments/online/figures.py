"""Learning curves: return by environment steps, with intervals, compared with reinforcement learning.

`python -m experiments.online.figures [--out docs/figures]` plots the records in `experiments/results/`: `online.png`,
and `exploration.png`, the visited share of the maze by environment steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

from experiments.planning.report import trained
from experiments.processes import as_program
from experiments.records import load

Row = dict[str, Any]
ENOUGH = 0.95  # share of the maze's cells
PANELS = {"Particle": "particle", "Reacher": "reacher", "Arm7": "arm7", "Maze, S": "maze-s"}
COLOURS = {"EBM": "#1f5fa8", "feed-forward": "#d98324", "ensemble of 5": "#5a8f4e", "SAC": "#888888"}


def curves(path: Path, rows: list[Row], others: list[Row]) -> Path:
    """Plot the return lost against the oracle, one panel per problem, with logarithmic axes."""
    known = [name for name in PANELS if any(row["env"] == name and row.get("oracle") for row in rows)]
    figure, panels = plt.subplots(1, len(known), figsize=(3.6 * len(known), 3.2), squeeze=False)
    for panel, name in zip(panels[0], known, strict=True):
        draw(panel, name, [row for row in rows if row["env"] == name and row.get("oracle")])
        if not any(row["env"] == name and row["method"] == "SAC" for row in rows):
            draw_sac(panel, name, rows, others)
        panel.set(title=name, xscale="log", yscale="log", xlabel="environment steps")
    panels[0][0].set_ylabel("return lost to the oracle")
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def draw(panel: Any, name: str, rows: list[Row]) -> None:
    """Draw each method's mean and the band of its 95 % interval."""
    known = dict.fromkeys(row["method"] for row in rows)
    for method in (method for method in known if method.removesuffix(", actions") in COLOURS):
        group = sorted((row for row in rows if row["method"] == method), key=lambda row: row["checkpoint"])
        steps = [row["env_steps"] for row in group]
        lost = np.array([row["oracle"] - row["return"] for row in group]).clip(1e-3)
        half = np.array([row["return_ci95"] or 0.0 for row in group])
        colour = COLOURS[method.removesuffix(", actions")]
        panel.plot(
            steps,
            lost,
            "-" if method == "SAC" else "o-",
            ms=3,
            color=colour,
            label=method.removesuffix(", actions"),
        )
        panel.fill_between(steps, (lost - half).clip(1e-3), lost + half, color=colour, alpha=0.2, lw=0)


def draw_sac(panel: Any, name: str, rows: list[Row], others: list[Row]) -> None:
    """Draw training returns of SAC, one line per seed."""
    oracle = next(row["oracle"] for row in rows if row["env"] == name and row.get("oracle"))
    for i, row in enumerate(row for row in others if row["job"] == f"{PANELS[name]}-sac-100000"):
        curve = np.array(row["training_curve"])
        panel.plot(
            curve[:, 0],
            oracle - curve[:, 1],
            color="#888888",
            lw=1,
            label=None if i else "SAC, while training",
        )


def exploration(path: Path, by_seed: list[Row]) -> Path:
    """Plot the visited share of the maze, one line per seed."""
    figure, panel = plt.subplots(figsize=(5.2, 3.4))
    rows = [row for row in by_seed if row["part"] == "exploration, maze"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for row in rows:
        steps, share = np.array(row["curve"]).T
        first = row["seed"] == min(r["seed"] for r in rows if r["method"] == row["method"])
        label = row["method"] if first else None
        panel.plot(steps.clip(50), share, color=f"C{methods.index(row['method'])}", lw=1, label=label)
    panel.axhline(ENOUGH, color="#bbbbbb", lw=0.8, zorder=0)
    panel.set(xscale="log", xlabel="environment steps", ylabel="cells visited", ylim=(0, 1), xlim=(50, None))
    panel.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


@dataclass
class Figures:
    """Pictures of the record of `experiments.online`."""

    out: Path = Path("docs/figures")
    """Folder of the pictures."""


def main() -> None:
    out = tyro.cli(Figures).out
    folder = Path("experiments/results")
    found = load(folder / "online.json")["results"]
    print(curves(out / "online.png", found["rows"], trained(folder)))
    print(exploration(out / "exploration.png", found["by_seed"]))


if __name__ == "__main__":
    as_program(main)
