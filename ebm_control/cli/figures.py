"""Plots of energies, predictions and plans."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ebm_control.cli.run_folder import RunFolder, whole_file
from ebm_control.data.actions import UNBOUNDED
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.extras import new_figure
from ebm_control.models.prediction_error import PredictionError
from ebm_control.models.trajectory import TrajectoryModel
from ebm_control.planning.episodes import Episodes
from ebm_control.planning.plan import Plan

_SPREAD = 100  # range of the curves in one panel above which the axis is logarithmic

_COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#8d6a9f", "#444444")


def energy_along(path: Path, model: TrajectoryModel, buffer: RolloutBuffer, *, seed: int = 0) -> Path:
    """Plot the energy of each window along true trajectories, and along the same with noise on their states.

    The noise is 1, 3 and 10 % of a typical displacement; a good energy separates these from true trajectories.
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
    """Plot predicted and true futures, one column per history and one row per coordinate; and error by horizon."""
    count, show = min(layout.obs_dim, 6), min(show, len(error.truth))
    figure = new_figure(figsize=(3.2 * show, 1.4 * (count + 1) + 1), layout="constrained")
    axes = figure.subplots(count + 1, show, squeeze=False)
    steps = np.arange(1, error.truth.shape[1] + 1)
    # Predicted periodic coordinates are unwrapped, so the true ones are unwrapped for the plot too.
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


def plan_and_path(
    path: Path, normalizer: Normalizer, episodes: Episodes, goal_index: Sequence[int], action_space: Box
) -> Path:
    """Plot the first plan of the first episode and the executed path, one panel per coordinate, in raw units.

    Grey: all chains of the plan, the best one in colour; black: the executed path. The agent replanned on the way, so
    the path need not follow the first plan. Goals are dotted, bounds of actions dashed.
    """
    plan, layout = episodes.states[0], normalizer.layout
    assert episodes.lengths is not None
    driven_steps = int(episodes.lengths[0])
    states, actions = normalizer.denormalize(plan.chains[0].cpu())
    path_driven = _unwrapped(normalizer, episodes.observations[: driven_steps + 1, 0])
    goal, best = _raw_goal(normalizer, plan, goal_index), int(plan.energies[0].argmin())
    count = layout.obs_dim + actions.shape[-1]  # without actions if the energy is over states only
    columns = min(3, count)
    rows = -(-count // columns)
    figure = new_figure(figsize=(3.6 * columns, 2.3 * rows + 0.9), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for i in range(layout.obs_dim):
        _panel(panels[i], states[..., i], best, path_driven[:, i], f"observation {i}")
        if i in goal:
            panels[i].axhline(goal[i], color=_COLOURS[1], linestyle=":", label="goal")
    for j in range(actions.shape[-1]):
        axis = panels[layout.obs_dim + j]
        _panel(axis, actions[:, :-1, j], best, episodes.actions[:driven_steps, 0, j], f"action {j}")
        for bound in (float(action_space.low[j]), float(action_space.high[j])):
            if abs(bound) < UNBOUNDED:
                axis.axhline(
                    bound, color=_COLOURS[3], linestyle="--", linewidth=1, label="bound of the action"
                )
    for axis in panels[count:]:
        axis.remove()
    pairs = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in figure.axes]
    known = {label: line for pair in pairs for line, label in pair}
    figure.legend(
        known.values(), known.keys(), loc="outside lower center", ncols=5, frameon=False, fontsize=8
    )
    figure.suptitle("First episode, in units of the environment", fontsize=10)
    return _saved(figure, path)


def _panel(axis: Any, chains: Tensor, best: int, driven: Any, name: str) -> None:
    """Draw one coordinate of all chains `(K, T)` of a plan and of the executed path `(T',)`."""
    for k, chain in enumerate(chains):
        label = {"label": "other chains"} if k != best else {}
        axis.plot(chain, color="grey", linewidth=0.8, alpha=0.7, **label)
    axis.plot(chains[best], color=_COLOURS[0], linewidth=2, label="plan at the start")
    axis.plot(driven, color="black", linewidth=1.2, label="driven")
    axis.set(xlabel="step", ylabel=name)


def _unwrapped(normalizer: Normalizer, observations: NDArray[Any]) -> Tensor:
    """A raw path `(T, obs_dim)` with unwrapped periodic coordinates, as in plans."""
    x = normalizer.normalize_observations(torch.from_numpy(observations))
    moves = normalizer.layout.difference(x[1:], x[:-1])
    return normalizer.denormalize_observations(torch.cat([x[:1], x[:1] + moves.cumsum(dim=0)]))


def _raw_goal(normalizer: Normalizer, plan: Plan, index: Sequence[int]) -> dict[int, float]:
    """Raw goal of the first problem by observation coordinate; empty if the plan has no goal."""
    if plan.goal is None:
        return {}
    whole = torch.zeros(normalizer.layout.obs_dim, dtype=torch.float64)
    whole[list(index)] = plan.goal[0].cpu().double()
    raw = normalizer.denormalize_observations(whole)
    return {i: float(raw[i]) for i in index}


def training_curves(folder: RunFolder, events: Path) -> None:
    """Plot the logged losses and energies of data and samples over updates, as `figures/training.png`.

    No plot is written for runs that were too short to log anything.
    """
    energies = {"data": "energy_data", "samples": "energy_samples"}
    wanted = [("loss", {"": "loss"}), ("energy", energies), ("gradient norm", {"": "gradient_norm"})]
    curves, base = _scalars(events), _scalars(events / "base")
    panels = [
        (title, {label: curves[tag] for label, tag in tags.items() if tag in curves})
        for title, tags in wanted
    ]
    panels += [("base: " + tag.replace("_", " "), {"": curve}) for tag, curve in base.items()][:1]
    panels = [(title, lines) for title, lines in panels if lines]
    if not panels:
        return
    figure = new_figure(figsize=(3.6 * len(panels), 3.0), layout="constrained")
    for axis, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for (label, (steps, values)), colour in zip(lines.items(), _COLOURS, strict=False):
            axis.plot(steps, values, color=colour, label=label, marker="." if len(steps) < 20 else "")
        axis.set(xlabel="update", ylabel=title)
        largest = [max(map(abs, values)) for _, values in lines.values()]
        if max(largest) > _SPREAD * max(min(largest), 1.0):
            axis.set_yscale("symlog")
        if len(lines) > 1:
            axis.legend(frameon=False, fontsize=8)
    with whole_file(folder.figures / "training.png") as path:
        _saved(figure, path)


def _scalars(events: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values by tag from a folder of TensorBoard events; empty without events or TensorBoard."""
    if not events.is_dir():
        return {}
    try:
        accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    except ImportError:
        return {}
    read = accumulator.EventAccumulator(str(events), size_guidance={"scalars": 0}).Reload()
    found = {tag: read.Scalars(tag) for tag in read.Tags()["scalars"]}
    return {tag: ([e.step for e in curve], [e.value for e in curve]) for tag, curve in found.items()}


def animation(path: Path, frames: list[NDArray[Any]], fps: int = 20) -> Path:
    """Write frames `(H, W, 3)` uint8 as a GIF."""
    first, *rest = (Image.fromarray(frame) for frame in frames)
    encoded = BytesIO()  # encode first: a full disk must not leave a truncated picture
    first.save(encoded, "GIF", save_all=True, append_images=rest, duration=1000 / fps, loop=0)
    path.write_bytes(encoded.getvalue())
    return path


def overview(path: Path, frames: list[NDArray[Any]], pictures: list[Path]) -> Path:
    """Write one picture of a run: its first frames above the other pictures side by side."""
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
