"""Regression of a conditional Gaussian base measure, which precedes the training of the tilt."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ebm_control.checks import require_is, require_number
from ebm_control.data.batch import Batch
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.energies.window import WindowEnergy
from ebm_control.training.logger import Logger
from ebm_control.training.regression import regress


def fit_base(
    energy: TransitionEnergy | WindowEnergy,
    batches: Iterator[Batch],
    held_out: Iterator[Batch],
    steps: int = 3000,
    *,
    learning_rate: float = 1e-3,
    minimum: float = 1e-3,
    logger: Logger | None = None,
) -> Tensor:
    """Fit the mean of the energy's `RegressionBase` by least squares, then its std on held-out windows.

    Afterwards the base's parameters no longer require gradients: contrastive training changes only the tilt.

    Args:
        energy: an energy with a `RegressionBase`.
        batches: endless windows of `energy.window` time steps; a transition energy also takes longer ones.
        held_out: endless windows of other episodes.
        steps: Adam steps; the learning rate falls to 0 along a cosine.
        learning_rate: initial learning rate.
        minimum: smallest std, in units of the data's displacements: a lower limit that bounds the energy's stiffness.
        logger: progress bar and events.

    Returns:
        `(obs_dim,)` the std: held-out root mean squared error in units of the data's displacements;
        `((window - 1) * obs_dim,)` for a window energy.

    Raises:
        InputError: the energy's base is not a `RegressionBase`, or a setting is out of its range.

    """
    require_number("minimum", minimum, 0, above=True)
    base = require_is(energy.base, RegressionBase, "energy.base")
    regress(
        base.parameters(),
        lambda batch: _squared_error(energy, base, batch).mean(),
        batches,
        steps,
        learning_rate=learning_rate,
        gradient_clip=1.0,
        logger=logger,
        name="base",
        metric="base_loss",
    )
    base.requires_grad_(False)
    with torch.no_grad():
        error = torch.stack(
            [_squared_error(energy, base, next(held_out)).mean(dim=(0, 1)) for _ in range(40)]
        )
    std = error.mean(dim=0).sqrt().clamp_min(minimum)
    base.set_std(std)
    return std


def _squared_error(energy: TransitionEnergy | WindowEnergy, base: RegressionBase, batch: Batch) -> Tensor:
    """`(B, windows, outputs)` squared errors in units of the data's displacements."""
    inputs, displacement = energy.windows(batch.x, batch.context)
    return (displacement - base.mean(inputs)).square()
