"""What a trajectory energy is trained by, chosen by one word, and the chains that it is trained with."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ebm_control.data.windows import StateBatches, WindowBatches
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.trajectory import TransitionEnergy, WindowEnergy
from ebm_control.samplers.langevin import Langevin
from ebm_control.samplers.schedules import Linear
from ebm_control.training.improved import ImprovedContrastiveDivergence
from ebm_control.training.losses import ContrastiveDivergence, InfoNCE, LogSumExp, Objective, Softplus
from ebm_control.training.model import TrajectoryModel
from ebm_control.training.sample_buffer import Fresh, displaced, scattered
from ebm_control.training.score_matching import DenoisingScoreMatching

LOSSES = ("cd", "cd-kl", "infonce", "dsm", "softplus", "logsumexp")


class ObjectiveSettings(Protocol):
    """Those of `TrainSettings` that an objective is made from."""

    @property
    def loss(self) -> str:
        """Its name."""
        ...

    @property
    def energy_l2(self) -> float:
        """Weight of the squared tilt."""
        ...

    @property
    def proposals(self) -> int:
        """Draws from the base for each datum."""
        ...

    @property
    def noise(self) -> tuple[float, float]:
        """Least and greatest noise level."""
        ...


def objective_for(settings: ObjectiveSettings, energy: TransitionEnergy | WindowEnergy) -> Objective:
    """The objective that `settings.loss` names, in the units of the energy."""
    penalty = settings.energy_l2
    match settings.loss:
        case "dsm":
            return DenoisingScoreMatching(*settings.noise, scale=row_scale(energy))
        case "infonce":
            return InfoNCE(penalty, proposals=settings.proposals if energy.base is not None else 0)
        case "cd-kl":
            return ImprovedContrastiveDivergence(penalty)
        case "softplus":
            return Softplus(penalty)
        case "logsumexp":
            return LogSumExp(penalty)
        case _:
            return ContrastiveDivergence(penalty)


def row_scale(energy: TransitionEnergy | WindowEnergy) -> Tensor:
    """Natural unit of each coordinate: `(D,)`, or `(T, D)` where rows differ; 1 for actions and the first row."""
    scale = energy.next_deviation()
    scale = torch.cat([scale, scale.new_ones(*scale.shape[:-1], energy.layout.act_dim)], dim=-1)
    return scale if scale.ndim == 1 else torch.cat([torch.ones_like(scale[:1]), scale])


def negatives_for(
    model: TrajectoryModel, batches: WindowBatches | StateBatches, steps: int
) -> tuple[Langevin, Fresh]:
    """Sampler of training negatives and where its fresh chains start: at the model's scale, within the data's range."""
    energy, layout = model.energy, model.layout
    scale = energy.next_deviation()
    if not model.settings.joint:
        return negative_sampler(model, steps), displaced(layout, 3 * scale)
    low, high = _data_range(batches, layout)
    return negative_sampler(model, steps, (low, high)), scattered(layout, low, high, scale)


def negative_sampler(
    model: TrajectoryModel, steps: int, bounds: tuple[Tensor, Tensor] | None = None
) -> Langevin:
    """Langevin for training negatives, preconditioned by the energy's own scale.

    For a joint energy it is exact at temperature 1, and states stay within `bounds` (low, high), `(obs_dim,)`
    each: there its density has to be learned, which is flat beyond the data otherwise.

    Around a regression base the energy is near a standard normal in that scale, and exact Langevin mixes in tens
    of steps. Without one the tilt alone shapes the density; the cold dynamics of Du & Mordatch 2019 are used.
    """
    energy = model.energy
    if isinstance(energy.base, RegressionBase):
        return Langevin(steps, Linear(0.3, 0.06), scale=row_scale(energy))
    scale = (*energy.displacement_scale.tolist(), *[1.0] * model.layout.act_dim)
    if bounds is not None:
        free = [float("inf")] * model.layout.act_dim
        low, high = (bound.tolist() for bound in bounds)
        clamp = ((*low, *[-f for f in free]), (*high, *free))
        return Langevin(steps, Linear(0.3, 0.06), scale=scale, clamp=clamp)
    return Langevin(steps, 0.5, noise=0.02, scale=scale, gradient_clip=1.0)


def _data_range(batches: WindowBatches | StateBatches, layout: TrajectoryLayout) -> tuple[Tensor, Tensor]:
    """Corners `(obs_dim,)` of the box of all states, a twentieth wider on each side than the data."""
    source = batches.batches if isinstance(batches, StateBatches) else batches
    low, high = (bound[: layout.obs_dim] for bound in source.range())
    margin = 0.05 * (high - low)
    return low - margin, high + margin
