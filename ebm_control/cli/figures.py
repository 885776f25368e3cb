"""Pictures of energies, predictions and plans."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.extras import new_figure
from ebm_control.models.prediction_error import PredictionError
from ebm_control.models.trajectory import TrajectoryModel
from ebm_control.planning.plan import Plan

_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#8d6a9f", "#444444")


def energy_along(path: Path, model: TrajectoryModel, buffer: RolloutBuffer, *, seed: int = 0) -> Path:
    """Energy of each window along true trajectories and along the same with noise on their states.

    The noise is 1, 3 and 10 % of a typical displacement: what an energy is good for is telling these apart.
    """
    rng, layout, window = np.random.default_rng(seed), model.layout, model.settings.window
    length = min(40, max(len(episode) for episode in buffer.episodes()))
    observations, actions = buffer.sample_windows(64, length, rng=rng)
    x = model.normalizer.normalize(torch.from_numpy(observations), torch.from_numpy(actions)).float()
    x = x[..., : layout.dim]
    generator = torch.Generator().manual_seed(seed)
    figure = new_figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for share, colour in zip((0.0, 0.01, 0.03, 0.1), _COLOURS, strict=False):
        noise = torch.randn(x.shape, generator=generator)
        noise[..., layout.obs_dim :] = 0
        noisy = x.clone()
        noisy[..., : layout.obs_dim] += (share * noise)[
            ..., : layout.obs_dim
        ] * model.energy.displacement_scale
        with torch.no_grad():
            along = torch.stack(
                [model.energy(noisy[:, t : t + window]) for t in range(length - window + 1)], dim=1
            )
        label = "true" if share == 0 else f"noise of {share:.0%} of a displacement"
        axes.plot(along.median(dim=0).values, color=colour, label=label)
        low, high = along.quantile(torch.tensor([0.1, 0.9]), dim=0)
        axes.fill_between(range(along.shape[1]), low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(
        xlabel="step", ylabel="energy", yscale="symlog", title="Energy along trajectories (median, 10–90 %)"
    )
    axes.set_ylim(top=3e6)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    return _saved(figure, path)


def predicted_against_true(
    path: Path, layout: TrajectoryLayout, error: PredictionError, show: int = 3
) -> Path:
    """Predicted futures over what happened, a column a history, a row a coordinate; and error by horizon."""
    count, show = min(layout.obs_dim, 6), min(show, len(error.truth))
    figure = new_figure(figsize=(3.2 * show, 1.4 * (count + 1) + 1), layout="constrained")
    axes = figure.subplots(count + 1, show, squeeze=False)
    steps = np.arange(1, error.truth.shape[1] + 1)
    # Predictions run on past a period's end; drawn the same way, the truth does too.
    moves = layout.difference(error.truth[:, 1:], error.truth[:, :-1])
    truth = torch.cat([error.truth[:, :1], error.truth[:, :1] + moves.cumsum(dim=1)], dim=1)
    for column in range(show):
        for row in range(count):
            axis, colour = axes[row][column], _COLOURS[row % len(_COLOURS)]
            for future in error.prediction.states[column]:
                axis.plot(steps, future[:, row], ".", color=colour, alpha=0.5, markersize=4)
            axis.plot(steps, truth[column, :, row], "k", linewidth=1)
            if column == 0:
                axis.set_ylabel(f"obs {row}")
    axes[0][0].set_title("line: true, dots: predicted", fontsize=9)
    grid = axes[0][0].get_gridspec()
    for axis in axes[count]:
        axis.remove()
    last = figure.add_subplot(grid[count, :])
    last.semilogy(steps, error.rmse, color=_COLOURS[0], label="predicted")
    last.semilogy(steps, error.rmse_still, color="grey", label="no change")
    last.set(xlabel="steps ahead", ylabel="RMSE / std")
    last.legend(frameon=False, fontsize=8)
    return _saved(figure, path)


def plan_chains(
    path: Path, layout: TrajectoryLayout, plan: Plan, goal: Tensor | None, problem: int = 0
) -> Path:
    """All chains of one planning problem, a panel a coordinate, the best one drawn bold."""
    chains, energies = plan.chains[problem], plan.energies[problem]
    names = [f"obs {i}" for i in range(layout.obs_dim)] + [f"action {i}" for i in range(layout.act_dim)]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(figsize=(3.4 * columns, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    best = int(energies.argmin())
    for i, name in enumerate(names):
        axis = axes[i // columns][i % columns]
        until = None if i < layout.obs_dim else -1
        for k in range(len(chains)):
            axis.plot(chains[k, :until, i], color="grey", linewidth=0.8, alpha=0.7)
        axis.plot(chains[best, :until, i], color=_COLOURS[0], linewidth=2)
        if goal is not None and i < goal.shape[-1]:
            axis.axhline(float(goal[i]), color=_COLOURS[1], linestyle=":")
        axis.set_title(name, fontsize=9)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    return _saved(figure, path)


def animation(path: Path, frames: list[NDArray[Any]], fps: int = 20) -> Path:
    """Frames `(H, W, 3)` uint8 as a GIF."""
    first, *rest = (Image.fromarray(frame) for frame in frames)
    encoded = BytesIO()  # first: a picture cut short by a full disk is none
    first.save(encoded, "GIF", save_all=True, append_images=rest, duration=1000 / fps, loop=0)
    path.write_bytes(encoded.getvalue())
    return path


def overview(path: Path, frames: list[NDArray[Any]], pictures: list[Path]) -> Path:
    """One picture of a run: its first frames above other pictures side by side."""
    shown = frames[:16:2]
    loaded = [np.asarray(Image.open(picture).convert("RGB")) for picture in pictures]
    figure = new_figure(figsize=(14, 5.4), layout="constrained")
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=[1, 1.9]))
    for axis, frame in zip(above.subplots(1, len(shown)), shown, strict=True):
        axis.imshow(frame)
        axis.axis("off")
    ratios = [picture.shape[1] / picture.shape[0] for picture in loaded]
    for axis, picture in zip(below.subplots(1, len(loaded), width_ratios=ratios), loaded, strict=True):
        axis.imshow(picture)
        axis.axis("off")
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=110)
    return path
