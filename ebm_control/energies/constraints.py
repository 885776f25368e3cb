"""Costs that keep trajectories within limits: boxes to stay out of, bounds, speed limits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_number, require_shape
from ebm_control.energies.arrays import ArrayEnergy, columns_of, takes_arrays
from ebm_control.energies.base import Energy
from ebm_control.energies.cost_arrays import TIP, BoundArrays
from ebm_control.energies.costs import numbers, per_chain
from ebm_control.energies.curvature import window_bands
from ebm_control.energies.layout import TrajectoryLayout, pick, require_index, unpick
from ebm_control.energies.written_out import unchanged
from ebm_control.tensors import ordinary_tensors


class BoxObstacle(Energy):
    """Depth inside axis-aligned boxes: 0 outside, growing linearly to the middle of the box.

    `E(τ) = Σ_t Σ_boxes max(0, min_i min(x_i - low_i, high_i - x_i) + margin)`. Points between time steps count
    too, so that a plan cannot step over a box wider than `1 / (between + 1)` of its longest step.

    Args:
        boxes: `(M, 2, len(index))` low and high corners in the units of `x`, or `(N, M, 2, len(index))` for N problems.
            Some sides of a box may be infinitely far (half-space, wall of a corridor), but not all of them.
        index: coordinates that the boxes bound.
        margin: distance to keep from the boxes.
        between: points checked between neighbouring time steps.

    Raises:
        InputError: an argument is out of range, or a shape does not fit.

    """

    boxes: Tensor

    @ordinary_tensors()
    def __init__(
        self, boxes: Tensor | ArrayLike, index: Sequence[int], *, margin: float = 0.0, between: int = 3
    ) -> None:
        super().__init__()
        require_index("index", index)
        boxes = numbers("boxes", boxes)
        require_shape("boxes", boxes, (*[None] * (boxes.ndim - 2 if boxes.ndim == 4 else 1), 2, len(index)))
        require(
            bool((boxes[..., 0, :] < boxes[..., 1, :]).all()),
            "boxes",
            given=boxes.tolist(),
            expected="low < high",
        )
        bounded = bool(boxes.isfinite().flatten(-2).any(dim=-1).all())
        require(bounded, "boxes", given=boxes.tolist(), expected="a finite side of each")
        require_number("margin", margin, 0)
        require_number("between", between, 0, whole=True)
        self.index, self.margin, self.between = [int(i) for i in index], margin, between
        self.register_buffer("boxes", boxes)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        points = pick(x, self.index)
        weight = torch.linspace(0, 1, self.between + 2, device=x.device, dtype=x.dtype)[:-1, None]
        dense = points[:, :-1, None] + weight * (points[:, 1:, None] - points[:, :-1, None])
        dense = torch.cat([dense.flatten(1, 2), points[:, -1:]], dim=1).unsqueeze(2)
        boxes = per_chain(self.boxes, len(x)).unsqueeze(1) if self.boxes.ndim == 4 else self.boxes
        depth = torch.minimum(dense - boxes[..., 0, :], boxes[..., 1, :] - dense).amin(dim=-1)
        return torch.relu(depth + self.margin).sum(dim=(1, 2))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the curvature of the quadratic that touches each point's depth from above."""
        points = pick(x, self.index)
        weight = torch.linspace(0, 1, self.between + 2, device=x.device, dtype=x.dtype)[:, None]
        dense = points[:, :-1, None] + weight * (points[:, 1:, None] - points[:, :-1, None])
        boxes = per_chain(self.boxes, len(x))[:, None, None] if self.boxes.ndim == 4 else self.boxes
        inside = dense.unsqueeze(3)
        nearest = torch.minimum(inside - boxes[..., 0, :], boxes[..., 1, :] - inside)
        depth, face = nearest.min(dim=-1)
        depth = depth + self.margin
        share = torch.where(depth > 0, 1 / depth.clamp_min(TIP), 0.0)
        share[:, 1:, 0] = 0  # each time step is the last point of one segment and the first of the next
        slopes = torch.zeros_like(nearest).scatter_(-1, face.unsqueeze(-1), share.unsqueeze(-1)).sum(dim=3)
        blocks = {}
        for (i, j), product in {
            (0, 0): (1 - weight) ** 2,
            (0, 1): (1 - weight) * weight,
            (1, 1): weight**2,
        }.items():
            diagonal = x.new_zeros(len(x), x.shape[1] - 1, x.shape[2])
            diagonal[..., self.index] = (product * slopes).sum(dim=2)
            blocks[i, j] = torch.diag_embed(diagonal)
        return window_bands(blocks, x.shape[1])

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cost and its gradient, written out: that of the nearest side, shared where several are as near."""
        points, count = pick(x, self.index), x.shape[1] - 1
        weight = torch.linspace(0, 1, self.between + 2, device=x.device, dtype=x.dtype)[:-1, None]
        dense = points[:, :-1, None] + weight * (points[:, 1:, None] - points[:, :-1, None])
        dense = torch.cat([dense.flatten(1, 2), points[:, -1:]], dim=1).unsqueeze(2)
        boxes = per_chain(self.boxes, len(x)).unsqueeze(1) if self.boxes.ndim == 4 else self.boxes
        above, below = dense - boxes[..., 0, :], boxes[..., 1, :] - dense
        near = torch.minimum(above, below)
        depth = near.amin(dim=-1, keepdim=True)
        excess = torch.relu(depth + self.margin)
        nearest = (near == depth).to(excess)
        share = nearest / nearest.sum(dim=-1, keepdim=True) * (excess > 0)
        pull = (share * torch.sign(below - above)).sum(dim=2)  # the depth rises from the lower side
        between = pull[:, :-1].unflatten(1, (count, self.between + 1))
        slope = torch.zeros_like(points, dtype=pull.dtype)
        slope[:, :-1] += (between * (1 - weight)).sum(dim=2)
        slope[:, 1:] += (between * weight).sum(dim=2)
        slope[:, -1] += pull[:, -1]
        return excess.sum(dim=(1, 2, 3)), unpick(slope, self.index, x)


class BoundCost(Energy):
    """Squared excess of chosen coordinates beyond bounds: keeps plans inside a workspace or a speed limit.

    Args:
        low: `(len(index),)` lower bounds in the units of `x`.
        high: `(len(index),)` upper bounds.
        index: coordinates of a time step (observations first, then actions).

    Raises:
        InputError: bounds do not fit the coordinates or each other.

    """

    low: Tensor
    high: Tensor

    @ordinary_tensors()
    def __init__(self, low: Tensor | ArrayLike, high: Tensor | ArrayLike, index: Sequence[int]) -> None:
        super().__init__()
        require_index("index", index)
        low, high = numbers("low", low), numbers("high", high)
        require_shape("low", low, (len(index),))
        require_shape("high", high, (len(index),))
        require(
            bool(((low <= high) & (low < torch.inf) & (high > -torch.inf)).all()),
            "low",
            given=low.tolist(),
            expected=f"at most high = {high.tolist()}",
        )
        self.index = [int(i) for i in index]
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        part = pick(x, self.index)
        excess = torch.relu(part - self.high) + torch.relu(self.low - part)
        return 0.5 * excess.square().sum(dim=(1, 2))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the Hessian: 1 for coordinates beyond a bound."""
        part = pick(x, self.index)
        diagonal = torch.zeros_like(x)
        diagonal[..., self.index] = ((part > self.high) | (part < self.low)).to(x.dtype)
        return (torch.diag_embed(diagonal),)

    def on_arrays(self, x: Tensor, context: Tensor | None = None) -> ArrayEnergy | None:
        """For float32 on the CPU."""
        if not takes_arrays(x, self.low, self.high) or x.shape[2] <= max(self.index) or not unchanged(self):
            return None
        return BoundArrays(self.low.detach().numpy(), self.high.detach().numpy(), columns_of(self.index))

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cost and its gradient, written out."""
        part = pick(x, self.index)
        above, below = torch.relu(part - self.high), torch.relu(self.low - part)
        excess = above + below
        return 0.5 * excess.square().sum(dim=(1, 2)), unpick(above - below, self.index, x)


class SpeedCost(Energy):
    """Half the squared excess of each displacement over a limit: a speed limit, summed over time.

    Args:
        layout: layout of the trajectories.
        limit: `(obs_dim,)` largest displacement of one step, in the units of `x`; infinite for none.

    Raises:
        InputError: not one number of at least 0 for each coordinate.

    """

    limit: Tensor

    @ordinary_tensors()
    def __init__(self, layout: TrajectoryLayout, limit: Tensor | ArrayLike) -> None:
        super().__init__()
        limit = numbers("limit", limit)
        require_shape("limit", limit, (layout.obs_dim,))
        require(bool((limit >= 0).all()), "limit", given=limit.tolist(), expected="numbers of 0 or more")
        self.layout = layout
        self.register_buffer("limit", limit)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        states = self.layout.states(x)
        step = self.layout.difference(states[:, 1:], states[:, :-1]).abs()
        return 0.5 * torch.relu(step - self.limit).square().sum(dim=(1, 2))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the Hessian: 1 for displacements beyond the limit."""
        states = self.layout.states(x)
        step = self.layout.difference(states[:, 1:], states[:, :-1]).abs()
        diagonal = x.new_zeros(len(x), x.shape[1] - 1, x.shape[2])
        diagonal[..., : self.layout.obs_dim] = (step > self.limit).to(x.dtype)
        block = torch.diag_embed(diagonal)
        return window_bands({(0, 0): block, (0, 1): -block, (1, 1): block}, x.shape[1])

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cost and its gradient, written out."""
        states, gradient = self.layout.states(x), torch.zeros_like(x)
        step = self.layout.difference(states[:, 1:], states[:, :-1])
        excess = torch.relu(step.abs() - self.limit)
        slope, place = excess * step.sign(), self.layout.states(gradient)
        place[:, 1:] += slope
        place[:, :-1] -= slope
        return 0.5 * excess.square().sum(dim=(1, 2)), gradient
