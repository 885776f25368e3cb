"""Baselines from rollouts, in the units and on the split of `fit_model`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_control.baselines.models import Ensemble, FeedForward
from ebm_control.baselines.recurrent import Recurrent
from ebm_control.checks import InputError, require_flag, require_number, require_seed
from ebm_control.data.batch import Batch
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.preparation import prepare
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.windows import StateBatches, WindowBatches, displacement_scale, window_batches
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from ebm_control.training.logger import Logger
from ebm_control.training.regression import regress, seeded

Model = FeedForward | Ensemble | Recurrent

_KINDS: dict[str, type[FeedForward] | type[Ensemble] | type[Recurrent]] = {
    "feed-forward": FeedForward,
    "ensemble": Ensemble,
    "recurrent": Recurrent,
}


@dataclass(frozen=True, eq=False)
class Baseline:
    """A dynamics model with the units it speaks.

    Attributes:
        dynamics: over normalised trajectories.
        normalizer: between them and the environment.
        updates: that it was trained for.
        train_seconds: wall clock of the fit.
        held_out_error: `(obs_dim,)` root mean squared error of one displacement on held-out episodes, in units
            of the data's: what `fit_base` returns. Of a recurrent model, of the last one of a window.

    """

    dynamics: Model
    normalizer: Normalizer
    updates: int
    train_seconds: float
    held_out_error: Tensor

    @property
    def layout(self) -> TrajectoryLayout:
        """Layout of the normalised trajectories: the normaliser's, less the actions of a model of states alone."""
        return self.dynamics.layout

    def save(self, folder: Path | str) -> Path:
        """Write weights (safetensors) and settings (JSON) as a checkpoint of `folder`, and return its path.

        Raises:
            CheckpointError: it could not be written.

        """
        dynamics = self.dynamics
        settings: dict[str, Any] = {
            "kind": next(kind for kind, made in _KINDS.items() if type(dynamics) is made),
            "model": dynamics.settings,
            "states_only": self.layout.act_dim == 0,
            "normalizer": self.normalizer.to_dict(),
            "updates": self.updates,
            "train_seconds": self.train_seconds,
            "held_out_error": self.held_out_error.tolist(),
        }
        return save_checkpoint(folder, self.updates, Checkpoint(dynamics.state_dict(), settings, {}))

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> Baseline:
        """Baseline of a checkpoint, or of the newest in a folder of them.

        Raises:
            CheckpointError: the checkpoint is not sound or not of a baseline.

        """
        checkpoint = load_checkpoint(path)
        settings = checkpoint.settings
        try:
            normalizer = Normalizer.from_dict(settings["normalizer"])
            # Checkpoints from before there were models of states alone do not say.
            layout = _layout(normalizer, bool(settings.get("states_only", False)))
            # The scale itself comes with the weights, as a buffer.
            scale = torch.ones(layout.obs_dim, dtype=torch.float32)
            dynamics = _KINDS[settings["kind"]](layout, scale, **settings["model"])
            dynamics.load_state_dict(dict(checkpoint.weights))
            error = torch.tensor(settings["held_out_error"], dtype=torch.float32)
            seconds = float(settings["train_seconds"])
            made = cls(dynamics, normalizer, int(settings["updates"]), seconds, error)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, InputError) as bad:
            raise CheckpointError(f"{path}: not a checkpoint of a baseline ({bad})") from bad
        dynamics.to(device).eval().requires_grad_(False)
        return made


def fit_feed_forward(
    buffer: RolloutBuffer,
    *,
    hidden: Sequence[int] = (256, 256),
    frequencies: int = 0,
    bandwidth: float = 2.0,
    updates: int = 6000,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    held_out: float = 0.05,
    seed: int = 0,
    states_only: bool = False,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> Baseline:
    """Fit `FeedForward` by least squares on displacements in units of the data's own.

    Args:
        buffer: rollouts, at least 2 episodes.
        hidden: widths of the network.
        frequencies: random Fourier features of the state, for dynamics with edges; 0 for none.
        bandwidth: of their directions.
        updates: of Adam, the learning rate falling to 0 along a cosine.
        batch_size: windows an update.
        learning_rate: at the start.
        held_out: share of the transitions that the error is measured on.
        seed: of the split, the first weights and the batches.
        states_only: fit a model that sees no actions, for futures without them.
        progress: show a progress bar.
        device: where to train.

    Raises:
        InputError: fewer than 2 episodes, no updates, or a width of no sense.

    """
    _check_fit(updates, batch_size, learning_rate)
    started = time.perf_counter()
    data = _Data.of(buffer, held_out, seed, device, states_only)
    with seeded(seed):
        model = FeedForward(
            data.layout, data.displacement_scale, hidden, frequencies=frequencies, bandwidth=bandwidth
        ).to(device)

    def loss(drawn: Batch) -> Tensor:
        return model.residual(drawn.x).square().mean()

    _fit(model, loss, data.batches(batch_size, seed + 1), updates, learning_rate, progress)
    return _fitted(model, data, updates, started)


def fit_ensemble(
    buffer: RolloutBuffer,
    *,
    hidden: Sequence[int] = (200, 200, 200),
    members: int = 5,
    frequencies: int = 0,
    bandwidth: float = 2.0,
    updates: int = 6000,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    held_out: float = 0.05,
    seed: int = 0,
    states_only: bool = False,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> Baseline:
    """Fit `Ensemble` by maximum likelihood (PETS, Chua et al. 2018), each member on a bootstrap of its own.

    A member's bootstrap is as many windows as there are, drawn with replacement; how often a window was drawn is
    its weight in the member's loss. Every member sees `batch` windows of its own an update.

    Args:
        buffer: rollouts, at least 2 episodes.
        hidden: widths of each member.
        members: networks.
        frequencies: as in `fit_feed_forward`, and so for the arguments below.
        bandwidth: of their directions.
        updates: of Adam.
        batch_size: windows an update and member.
        learning_rate: at the start.
        held_out: share of the transitions that the error is measured on.
        seed: of the split, the first weights, the bootstraps and the batches.
        states_only: as in `fit_feed_forward`.
        progress: show a progress bar.
        device: where to train.

    Raises:
        InputError: fewer than 2 episodes, no updates, no members, or a width of no sense.

    """
    _check_fit(updates, batch_size, learning_rate)
    require_number("members", members, 1, whole=True)
    started = time.perf_counter()
    data = _Data.of(buffer, held_out, seed, device, states_only)
    with seeded(seed):
        model = Ensemble(
            data.layout,
            data.displacement_scale,
            hidden,
            members,
            frequencies=frequencies,
            bandwidth=bandwidth,
        ).to(device)
    batches = data.batches(members * batch_size, seed + 1)
    counts = _bootstrap(members, batches.num_windows, seed).to(device)

    def loss(drawn: Batch) -> Tensor:
        each = model.negative_log_likelihood(drawn.x.unflatten(0, (members, batch_size)))
        assert drawn.index is not None
        weight = counts.gather(1, drawn.index.unflatten(0, (members, batch_size)))
        # Summed over members, whose weights are their own: each learns as fast as it would alone.
        return (each * weight).sum() / batch_size + 0.01 * model.slack()

    _fit(model, loss, batches, updates, learning_rate, progress)
    return _fitted(model, data, updates, started)


def fit_recurrent(
    buffer: RolloutBuffer,
    *,
    hidden: int = 192,
    window: int = 20,
    frequencies: int = 0,
    bandwidth: float = 2.0,
    updates: int = 3000,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    held_out: float = 0.05,
    seed: int = 0,
    states_only: bool = False,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> Baseline:
    """Fit `Recurrent` by least squares on all displacements of windows, each from the true rows before it.

    That is teacher forcing (Williams & Zipser 1989). `held_out_error` is that of a window's last displacement.

    Args:
        buffer: rollouts, at least 2 episodes.
        hidden: width of the GRU.
        window: states of a window: how far back the model learns to look.
        frequencies: as in `fit_feed_forward`, and so for the arguments below.
        bandwidth: of their directions.
        updates: of Adam.
        batch_size: windows an update.
        learning_rate: at the start.
        held_out: share of the transitions that the error is measured on.
        seed: of the split, the first weights and the batches.
        states_only: fit a model that sees no actions, for futures without them.
        progress: show a progress bar.
        device: where to train.

    Raises:
        InputError: fewer than 2 episodes, none of `window` states on one side of the split, no updates, or a width
            of no sense.

    """
    _check_fit(updates, batch_size, learning_rate)
    require_number("window", window, 2, whole=True)
    started = time.perf_counter()
    data = _Data.of(buffer, held_out, seed, device, states_only, window)
    with seeded(seed):
        model = Recurrent(
            data.layout, data.displacement_scale, hidden, frequencies=frequencies, bandwidth=bandwidth
        ).to(device)

    def loss(drawn: Batch) -> Tensor:
        return model.residuals(drawn.x).square().mean()

    _fit(model, loss, data.batches(batch_size, seed + 1, window), updates, learning_rate, progress)
    return _fitted(model, data, updates, started, window)


def _check_fit(updates: int, batch_size: int, learning_rate: float) -> None:
    """Before anything is made of the data."""
    require_number("updates", updates, 1, whole=True)
    require_number("batch_size", batch_size, 1, whole=True)
    require_number("learning_rate", learning_rate, 0, above=True)


@dataclass(frozen=True, eq=False)
class _Data:
    """Rollouts split and measured as `fit_model` does."""

    train: RolloutBuffer
    held: RolloutBuffer
    normalizer: Normalizer
    layout: TrajectoryLayout
    displacement_scale: Tensor
    seed: int
    device: torch.device | str

    @classmethod
    def of(
        cls,
        buffer: RolloutBuffer,
        held_out: float,
        seed: int,
        device: torch.device | str,
        states_only: bool,
        rows: int = 2,
    ) -> _Data:
        require_number("held_out", held_out, 0, 1, above=True, below=True)
        require_seed("seed", seed)
        require_flag("states_only", states_only)
        train, held, normalizer = prepare(buffer, held_out, seed, rows - 1)
        scale = displacement_scale(window_batches(train, normalizer, 4096, seed=seed), normalizer.layout)
        return cls(train, held, normalizer, _layout(normalizer, states_only), scale, seed, device)

    def batches(
        self, batch_size: int, seed: int, rows: int = 2, *, held: bool = False
    ) -> WindowBatches | StateBatches:
        source = self.held if held else self.train
        batches = window_batches(source, self.normalizer, batch_size, rows, device=self.device, seed=seed)
        return batches if self.layout.act_dim else StateBatches(batches, self.layout.obs_dim)

    def held_out_error(self, model: Model, rows: int) -> Tensor:
        windows = self.batches(1024, self.seed + 2, rows, held=True)
        with torch.no_grad():
            errors = torch.stack([model.residual(next(windows).x).square().mean(dim=0) for _ in range(10)])
        return errors.mean(dim=0).sqrt().cpu()


def _layout(normalizer: Normalizer, states_only: bool) -> TrajectoryLayout:
    return replace(normalizer.layout, act_dim=0) if states_only else normalizer.layout


def _fit(
    model: Model,
    loss_of: Callable[[Batch], Tensor],
    batches: WindowBatches | StateBatches,
    updates: int,
    learning_rate: float,
    progress: bool,
) -> None:
    logger = Logger(progress=progress)
    regress(
        model.parameters(),
        loss_of,
        batches,
        updates,
        learning_rate=learning_rate,
        logger=logger,
        name="baseline",
    )


def _fitted(model: Model, data: _Data, updates: int, started: float, rows: int = 2) -> Baseline:
    model.eval().requires_grad_(False)
    error = data.held_out_error(model, rows)
    return Baseline(model, data.normalizer, updates, time.perf_counter() - started, error)


def _bootstrap(members: int, windows: int, seed: int) -> Tensor:
    """How often each member drew each window, `(members, windows)`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(windows, (members, windows), generator=generator)
    return torch.stack([row.bincount(minlength=windows) for row in drawn]).float()
