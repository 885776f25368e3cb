"""Fitting of baselines to rollouts, with the units and the data split of `fit_model`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.baselines.baseline import Baseline, layout_of
from ebm_control.baselines.bootstrap import bootstrap_counts
from ebm_control.baselines.settings import BaselineSettings, Model
from ebm_control.checks import require, require_flag
from ebm_control.data.batch import Batch
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.preparation import prepare
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.data.windows import StateBatches, WindowBatches, displacement_scale, window_batches
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.models.recorded import RecordedRewards
from ebm_control.training.fitting import Training
from ebm_control.training.logger import Logger
from ebm_control.training.regression import regress, seeded


def fit_baseline(
    buffer: RolloutBuffer,
    settings: BaselineSettings | None = None,
    *,
    progress: bool = True,
    device: torch.device | str = "cpu",
) -> Baseline:
    """Fit a dynamics model to displacements, in typical displacements of the data.

    Args:
        buffer: rollouts, at least 2 episodes; for a recurrent model with `window` states on both sides of the split.
        settings: choice of model and fit; None for a feed-forward model.
        progress: show a progress bar.
        device: training device.

    Raises:
        InputError: there are too few episodes, or they are too short.

    """
    settings = BaselineSettings() if settings is None else settings
    expected = "BaselineSettings"
    require(
        isinstance(settings, BaselineSettings), "settings", given=type(settings).__name__, expected=expected
    )
    require_flag("progress", progress)
    settings = settings.resolved()
    assert settings.batch_size is not None
    assert settings.updates is not None
    started = time.perf_counter()
    data = _Data.of(buffer, settings, device)
    with seeded(settings.seed):
        model = settings.model(data.layout, data.displacement_scale).to(device)
    batches = data.batches(model.members * settings.batch_size, settings.seed + 1)
    counts = None
    if settings.kind == "ensemble":
        counts = bootstrap_counts(model.members, batches.num_windows, settings.seed).to(device)
    last = regress(
        model.parameters(),
        lambda batch: model.loss(batch, counts),
        batches,
        settings.updates,
        learning_rate=settings.learning_rate,
        logger=Logger(progress=progress),
        name="baseline",
    )
    model.eval().requires_grad_(False)
    error = held_out_error(model, data.batches(1024, settings.seed + 2, held=True)).cpu()
    metrics = {"loss": last, "held_out_error": float(error.square().mean().sqrt())}
    training = Training(settings.updates, time.perf_counter() - started, metrics=metrics)
    recorded = RecordedRewards.of(buffer, settings.seed)
    return Baseline(model, data.normalizer, training, error, recorded)


@torch.no_grad()
def held_out_error(model: Model, windows: Iterator[Batch]) -> Tensor:
    """Root mean squared error `(obs_dim,)` of one displacement, in typical displacements, over ten batches."""
    errors = torch.stack([model.residual(next(windows).x).square().mean(dim=0) for _ in range(10)])
    return errors.mean(dim=0).sqrt()


@dataclass(frozen=True, eq=False)
class _Data:
    """Rollouts, split and normalised by the same code as in `fit_model`."""

    train: RolloutBuffer
    held: RolloutBuffer
    normalizer: Normalizer
    layout: TrajectoryLayout
    displacement_scale: Tensor
    states: int
    device: torch.device | str

    @classmethod
    def of(cls, buffer: RolloutBuffer, settings: BaselineSettings, device: torch.device | str) -> _Data:
        seed, states = settings.seed, settings.states
        train, held, normalizer = prepare(buffer, settings.held_out, seed, states - 1)
        scale = displacement_scale(window_batches(train, normalizer, 4096, seed=seed), normalizer.layout)
        layout = layout_of(normalizer, settings.states_only)
        return cls(train, held, normalizer, layout, scale, states, device)

    def batches(self, batch_size: int, seed: int, *, held: bool = False) -> WindowBatches | StateBatches:
        source = self.held if held else self.train
        batches = window_batches(
            source, self.normalizer, batch_size, self.states, device=self.device, seed=seed
        )
        return batches if self.layout.act_dim else StateBatches(batches, self.layout.obs_dim)
