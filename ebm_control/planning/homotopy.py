"""Homotopy classes of paths (on which side they pass), which a diverse set of plans should cover."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.energies.layout import TrajectoryLayout


def side_of(paths: Tensor, centre: Tensor) -> Tensor:
    """Side on which planar paths pass an obstacle: the sign of the angle that they sweep around its centre.

    Args:
        paths: `(..., T, 2)`; each step turns by less than π around the centre.
        centre: `(2,)`, or `(..., 2)` with one centre per path, in the units of `paths`.

    Returns:
        `(...)` integers: +1 anticlockwise (or straight through), -1 clockwise.

    Raises:
        InputError: a shape does not fit.

    """
    require(
        paths.ndim >= 2 and paths.shape[-1] == 2, "paths", given=tuple(paths.shape), expected="(..., T, 2)"
    )
    fits = centre.shape[-1:] == (2,) and centre.shape[:-1] in ((), paths.shape[:-2])
    require(fits, "centre", given=tuple(centre.shape), expected=f"(2,) or {(*paths.shape[:-2], 2)}")
    offset = paths - centre.unsqueeze(-2)
    turn = torch.atan2(offset[..., 1], offset[..., 0]).diff(dim=-1)
    turn = turn - 2 * math.pi * torch.round(turn / (2 * math.pi))
    return torch.where(turn.sum(dim=-1) >= 0, 1, -1)


def winding(layout: TrajectoryLayout, states: Tensor, index: int) -> Tensor:
    """Direction in which a periodic coordinate turns: the sign of its total unwrapped displacement.

    Args:
        layout: meaning of the coordinates.
        states: `(..., T, obs_dim)`; each step is less than half a period.
        index: index of the periodic coordinate.

    Returns:
        `(...)` integers: +1, -1, or 0 if the coordinate ends where it began.

    Raises:
        InputError: the states have another shape, or the coordinate is not periodic.

    """
    require_shape("states", states, (*[None] * max(states.ndim - 1, 1), layout.obs_dim))
    require(index in layout.periodic, "index", given=index, expected=f"one of {layout.periodic}")
    turn = layout.difference(states[..., 1:, :], states[..., :-1, :])[..., index].sum(dim=-1)
    return turn.sign().to(torch.int64)
