"""Plots of continual learning: accuracies on all tasks over time, and energies of all classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ebm_control.extras import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_accuracies(path: Path, found: Mapping[str, NDArray[np.float64]]) -> Path:
    """Plot accuracies on every task after every task, one panel per learner.

    Args:
        path: file of the picture; its folder is created.
        found: `Outcome.accuracies`, or a mean over seeds, by name of the learner.

    """
    figure = new_figure(figsize=(2.6 * len(found), 2.9))
    axes = figure.subplots(1, len(found), squeeze=False)
    for axis, (name, accuracies) in zip(axes[0], found.items(), strict=True):
        axis.imshow(accuracies, vmin=0, vmax=1, cmap="viridis")
        for (i, j), value in np.ndenumerate(accuracies):
            colour = "white" if value < 0.6 else "black"
            axis.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=7)
        axis.set(title=name, xlabel="task tested", ylabel="after task")
        axis.title.set_fontsize(8)
        learned, tested = (range(count) for count in accuracies.shape)
        axis.set(xticks=tested, yticks=learned)
        axis.set(xticklabels=[i + 1 for i in tested], yticklabels=[i + 1 for i in learned])
    return _saved(path, figure)


def draw_landscape(path: Path, scores: NDArray[np.float64]) -> Path:
    """Plot mean energies of every class for images of every class, one panel per task; low energies are blue.

    Args:
        path: file of the picture; its folder is created.
        scores: `(T, classes, classes)`, `Outcome.scores`: centred over observed classes; NaN for the others.

    """
    figure = new_figure(figsize=(2.2 * len(scores), 2.5))
    axes = figure.subplots(1, len(scores), squeeze=False)
    bound = np.nanmax(np.abs(scores))
    for i, (axis, after) in enumerate(zip(axes[0], scores, strict=True)):
        axis.imshow(-after, vmin=-bound, vmax=bound, cmap="coolwarm")
        axis.set(title=f"after task {i + 1}", xlabel="class asked for", ylabel="images of" if i == 0 else "")
        axis.set(xticks=range(len(after)), yticks=range(len(after)))
    return _saved(path, figure)


def _saved(path: Path, figure: Figure) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    return path
