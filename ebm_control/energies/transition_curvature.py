"""Gauss-Newton curvature of a `TransitionEnergy`: nearly a sum of squares, so its curvature is known and banded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ebm_control.energies.curvature import gauss_newton

if TYPE_CHECKING:
    from ebm_control.energies.trajectory import TransitionEnergy


@dataclass(frozen=True)
class Windows:
    """An evaluation of a transition energy.

    Attributes:
        x: `(B, T, D)` trajectories in the dtype of the weights.
        inputs: `(B, windows, inputs)` of the base.
        noise: `(B, 1)` logarithm of the noise level, or None.
        slopes: `(obs_dim, B, windows, inputs)` derivatives of the base's mean by `inputs`; None if they are not known,
            or the mean is constant.

    """

    x: Tensor
    inputs: Tensor
    noise: Tensor | None
    slopes: Tensor | None


def transition_bands(energy: TransitionEnergy, windows: Windows) -> tuple[Tensor, ...]:
    """Bands of `JᵀJ`, with `J` the derivatives of the base's residuals in its stds; 0 without base and noise."""
    x, layout = windows.x, energy.layout
    if energy.base is None and windows.noise is None:
        return (x.new_zeros(*x.shape, x.shape[-1]),)
    std = torch.ones_like(energy.displacement_scale) if energy.base is None else energy.base.std
    if windows.noise is not None:
        std = std * (1 + (2 * windows.noise).exp()).sqrt()[:, :, None]
    shape, size = windows.inputs.shape[:-1], layout.obs_dim
    parts = [x.new_zeros(*shape, size, layout.dim) for _ in range(energy.window)]
    step = torch.diag(1 / energy.displacement_scale)
    parts[-1][..., :size] += step
    parts[-2][..., :size] -= step
    if windows.slopes is not None:
        _subtract(energy, parts, x, windows.slopes.permute(1, 2, 0, 3))
    return gauss_newton([part / std.unsqueeze(-1) for part in parts], x.shape[1])


def _subtract(energy: TransitionEnergy, parts: list[Tensor], x: Tensor, slopes: Tensor) -> None:
    """Subtract the base's derivatives by its inputs `(B, windows, obs_dim, inputs)` from those by the time steps."""
    layout, place = energy.layout, energy.layout.feature_dim
    size, acts = layout.obs_dim, layout.act_dim
    states = layout.states(x)[:, : slopes.shape[1], None]
    parts[0][..., :size] -= layout.features_gradient(states, slopes[..., :place])
    for i in range(energy.window - 1):
        parts[i][..., size:] -= slopes[..., place : place + acts]
        place += acts
    for i in range(energy.window - 2):
        move = slopes[..., place : place + size] / energy.displacement_scale
        parts[i + 1][..., :size] -= move
        parts[i][..., :size] += move
        place += size
