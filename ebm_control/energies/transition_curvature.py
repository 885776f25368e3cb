"""Gauss-Newton model of a `TransitionEnergy`: nearly a sum of squares, so its curvature is known and banded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.curvature import Quadratic, gauss_newton
from ebm_control.energies.networks import Pullback, with_pullback
from ebm_control.energies.noise import noised_residual, split_context
from ebm_control.tensors import cast_like

if TYPE_CHECKING:
    from ebm_control.energies.trajectory import TransitionEnergy


def transition_quadratic(energy: TransitionEnergy, x: Tensor, context: Tensor | None = None) -> Quadratic:
    """Energy, gradient, and the curvature of the base at trajectories `(B, T, D)`.

    The residuals `r` of the base, in its stds, have the Gauss-Newton matrix `JᵀJ`. The tilt adds to energy and
    gradient but not to the curvature: it is smooth at the scale of the residuals, and need not be convex.
    """
    energy.layout.check("x", x)
    given = x.dtype
    x, context = cast_like(energy.displacement_scale, x.detach(), context)
    known, level = split_context(x, context, energy.context_dim, energy.noise is not None)
    inputs, displacement = energy.windows(x, known)
    residual, jacobian = _residual(energy, x, inputs, displacement, level)
    value, by_inputs, by_residual = _tilt(energy, inputs, residual, level)
    whole = energy.base is not None or level is not None
    if whole:
        value = value + 0.5 * residual.square().sum(dim=(1, 2))
        by_residual = by_residual + residual
    gradient = torch.zeros_like(x)
    count = inputs.shape[1]
    direct = _on_steps(energy, x, by_inputs, None)
    for i, part in enumerate(jacobian):
        along = (part.mT @ by_residual.unsqueeze(-1)).squeeze(-1)
        gradient[:, i : i + count] += along + direct[i]
    bands = gauss_newton(jacobian, x.shape[1]) if whole else _no_bands(x)
    return Quadratic(value.to(given), gradient.to(given), tuple(band.to(given) for band in bands))


def _residual(
    energy: TransitionEnergy, x: Tensor, inputs: Tensor, displacement: Tensor, level: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """Residuals `(B, windows, obs_dim)` and their derivatives by time step of the window, `(..., obs_dim, D)` each."""
    base, size = energy.base, energy.layout.obs_dim
    eye = torch.eye(size, device=x.device, dtype=x.dtype)[:, None, None].expand(-1, *displacement.shape)
    by_inputs, std = None, torch.ones_like(energy.displacement_scale)
    residual = displacement
    if base is not None:
        std = base.std
        if isinstance(base, RegressionBase):
            mean, pullback = with_pullback(base.network, inputs)
            by_inputs = -pullback(eye) / std[:, None, None, None]
            residual = (displacement - mean) / std
        else:
            residual = base.residual(inputs, displacement)
    by_step = eye / std
    if level is not None:
        residual, _ = noised_residual(residual, level[:, None])
        wide = (1 + (2 * level).exp()).sqrt()[:, :, None]
        by_step = by_step / wide
        by_inputs = None if by_inputs is None else by_inputs / wide
    parts = _on_steps(energy, x, by_inputs, by_step)
    return residual, [part.movedim(0, -2) for part in parts]


def _tilt(
    energy: TransitionEnergy, inputs: Tensor, residual: Tensor, level: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The tilt `(B,)` with its gradients by inputs and by residuals."""
    size, shown = energy.layout.obs_dim, residual
    rate: Tensor | float = 1.0
    parts = [inputs]
    if level is not None:
        _, rate = noised_residual(residual, level[:, None])
        parts += [residual, level[:, None].expand(-1, residual.shape[1], -1)]
    else:
        shown = residual if energy.base is None else torch.asinh(residual)
        parts += [shown]
    pullback: Pullback
    value, pullback = with_pullback(energy.network, torch.cat(parts, dim=-1))
    gradient = pullback(torch.ones_like(value) * rate)
    width = inputs.shape[-1]
    by_residual = gradient[..., width : width + size]
    if level is None and energy.base is not None:
        by_residual = by_residual / (1 + residual.square()).sqrt()
    return (value * rate).squeeze(-1).sum(dim=1), gradient[..., :width], by_residual


def _on_steps(
    energy: TransitionEnergy, x: Tensor, by_inputs: Tensor | None, by_step: Tensor | None
) -> list[Tensor]:
    """Gradients by the time steps of a window, `(..., B, windows, D)` each, from those by a window's inputs and output.

    `by_inputs` `(..., B, windows, inputs)` is with respect to the base's inputs, `by_step` `(..., B, windows,
    obs_dim)` with respect to the last displacement; None for 0.
    """
    layout, window = energy.layout, energy.window
    some = by_inputs if by_inputs is not None else by_step
    assert some is not None
    shape = some.shape[:-1]
    parts = [some.new_zeros(*shape, layout.dim) for _ in range(window)]

    def displaced(i: int, gradient: Tensor) -> None:
        """Add the gradient by the displacement from time step i to i + 1."""
        moved = gradient / energy.displacement_scale
        parts[i + 1][..., : layout.obs_dim] += moved
        parts[i][..., : layout.obs_dim] -= moved

    if by_step is not None:
        displaced(window - 2, by_step)
    if by_inputs is not None:
        count = shape[-1]
        states = layout.states(x[:, :count])
        width, place = layout.feature_dim, layout.feature_dim
        parts[0][..., : layout.obs_dim] += layout.features_pullback(states, by_inputs[..., :width])
        for i in range(window - 1):
            parts[i][..., layout.obs_dim :] += by_inputs[..., place : place + layout.act_dim]
            place += layout.act_dim
        for i in range(window - 2):
            displaced(i, by_inputs[..., place : place + layout.obs_dim])
            place += layout.obs_dim
    return parts


def _no_bands(x: Tensor) -> tuple[Tensor, ...]:
    return (x.new_zeros(*x.shape, x.shape[-1]),)
