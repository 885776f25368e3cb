"""Negative chains for the training of a trajectory energy: their sampler, and where new chains start."""

from __future__ import annotations

from torch import Tensor

from ebm_control.data.windows import StateBatches, WindowBatches
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.models.trajectory import TrajectoryModel
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.recipes import negative_sampler
from ebm_control.training.sample_buffer import Fresh, displaced, scattered


def negatives_for(
    model: TrajectoryModel, batches: WindowBatches | StateBatches, steps: int
) -> tuple[Langevin, Fresh]:
    """Sampler of training negatives and start of new chains: at the model's scale, within the data's range."""
    energy, layout = model.energy, model.layout
    scale = energy.next_std()
    if not model.settings.joint:
        return negative_sampler(energy, steps), displaced(layout, 3 * scale)
    low, high = _data_range(batches, layout)
    return negative_sampler(energy, steps, (low, high)), scattered(layout, low, high, scale)


def _data_range(batches: WindowBatches | StateBatches, layout: TrajectoryLayout) -> tuple[Tensor, Tensor]:
    """Corners `(obs_dim,)` of a box around all states, 5 % wider on each side than the data."""
    source = batches.batches if isinstance(batches, StateBatches) else batches
    low, high = (bound[: layout.obs_dim] for bound in source.range())
    margin = 0.05 * (high - low)
    return low - margin, high + margin
