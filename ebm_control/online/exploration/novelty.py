"""Exploration without a task: a cost that is low where no trajectory has been."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ebm_control.checks import require, require_finite, require_number, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.layout import TrajectoryLayout, pick, require_index
from ebm_control.tensors import as_tensor, ordinary_tensors

_APART = 0.5  # distance in widths between stored places: close enough that the sum of their kernels is smooth
_LEAST = (
    -60.0
)  # smallest exponent of a kernel: below it exp underflows, which is a hundred times slower on a CPU
_CHUNK = 512  # number of points thinned at once, which limits the square matrix of their distances


class NoveltyCost(Energy):
    """Smooth visit count of each time step's place: 0 at new places, growing with the logarithm of the count.

    `E(τ) = Σ_{t ≥ 1} log(1 + n_t / floor)`, `n_t = Σ_i k(s_t, m_i) + repetition Σ_{u < t} k(s_t, s_u)` with a Gaussian
    kernel `k = exp(-½ d²)`, `d` the distance in widths, over the stored places `m_i` and the trajectory's own
    earlier states. So the cost decreases outwards up to about three widths from visited places and is flat beyond. A
    plan that sweeps new places is cheaper than one that rests there. (A smooth version of count-based bonuses, Strehl
    & Littman 2008; the logarithm preserves the gradient at the frontier for any count.)

    For a periodic coordinate `d` is the chord, `period / (π width) sin(π δ / period)`: about `δ / width` for small
    distances, in the shorter direction, and smooth at half a period too.

    Args:
        layout: meaning of the coordinates.
        index: observation coordinates that define a place.
        width: `(len(index),)` or a number, the size of a place in the units of `x`; less than half the period of
            a periodic coordinate.
        capacity: number of stored places; beyond it each new one replaces the oldest.
        floor: count below which a place is new.
        repetition: weight of a visit by an earlier state of the trajectory, relative to a stored place; 0 for none.

    Attributes:
        places: `(capacity, len(index))` stored places, in the units of `x`; 0 for unused entries.
        added: number of places ever added, an integer scalar; a ring buffer of `capacity` stores the last ones.

    Raises:
        InputError: a setting is invalid.

    """

    places: Tensor
    added: Tensor
    scale: Tensor

    @ordinary_tensors()
    def __init__(
        self,
        layout: TrajectoryLayout,
        index: Sequence[int],
        width: Tensor | ArrayLike,
        *,
        capacity: int = 2000,
        floor: float = 0.1,
        repetition: float = 1.0,
    ) -> None:
        super().__init__()
        require_index("index", index, layout.obs_dim)
        require_number("capacity", capacity, 1, whole=True)
        require_number("floor", floor, 0, above=True)
        require_number("repetition", repetition, 0)
        self.index, self.capacity = [int(i) for i in index], capacity
        self.floor, self.repetition = floor, repetition
        periods = tuple(layout.periods[i] for i in self.index) if layout.periods else ()
        self.place_layout = TrajectoryLayout(len(self.index), periods=periods)
        # Not persistent: a checkpoint stores the visited places, and not this setting.
        self.register_buffer("scale", _feature_scale(self.place_layout, width), persistent=False)
        self.register_buffer("places", torch.zeros(capacity, len(self.index), dtype=torch.float32))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    @property
    def count(self) -> int:
        """Number of places stored now, at most `capacity`."""
        return min(int(self.added), self.capacity)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        rows = self._features(pick(x, self.index))
        visits = self._remembered_visits(rows[:, 1:])
        if self.repetition > 0:
            visits = visits + self.repetition * _earlier_visits(rows)
        return (visits / self.floor).log1p().sum(dim=1)

    @torch.no_grad()
    def visit(self, points: Tensor | ArrayLike) -> int:
        """Add points `(N, len(index))`, in the units of `x`, and return how many were new.

        A point is new if no stored place is closer than half a width, including those added in this call. The memory
        is changed in place, so a compiled or captured chain uses the new one.

        Raises:
            InputError: the shape is wrong, or a value is not finite.

        """
        before = int(self.added)
        for chunk in self._checked(points).split(min(_CHUNK, self.capacity)):
            new = chunk[self._novel(chunk)]
            new = new[_first_of_each_place(self._near(new, new))]
            slots = (self.added + torch.arange(len(new), device=new.device)) % self.capacity
            self.places[slots] = new
            self.added += len(new)
        return int(self.added) - before

    @torch.no_grad()
    def novel(self, points: Tensor | ArrayLike) -> Tensor:
        """Whether no stored place is closer than half a width: `(N, len(index)) -> (N,)` boolean.

        Raises:
            InputError: the shape is wrong, or a value is not finite.

        """
        chunks = self._checked(points).split(_CHUNK)
        return torch.cat([self._novel(chunk) for chunk in chunks])

    def remembered(self) -> Tensor:
        """Copy of the stored places, `(count, len(index))` in the units of `x`, in no particular order."""
        return self.places[: self.count].clone()

    def forget(self) -> None:
        """Remove all stored places, in place."""
        self.added.zero_()
        self.places.zero_()

    def _checked(self, points: Tensor | ArrayLike) -> Tensor:
        points = as_tensor("points", points, self.places.dtype, self.places.device)
        require_shape("points", points, (None, len(self.index)))
        require_finite("points", points)
        return points

    def _novel(self, points: Tensor) -> Tensor:
        return ~self._near(points, self.places[: self.count]).any(dim=1)

    def _near(self, points: Tensor, others: Tensor) -> Tensor:
        a, b = self._features(points), self._features(others)
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") < _APART

    def _features(self, points: Tensor) -> Tensor:
        """Map points `(..., len(index))` to features whose Euclidean distance is the distance in widths."""
        return self.place_layout.features(points) * self.scale.to(points)

    def _remembered_visits(self, rows: Tensor) -> Tensor:
        """Visit count `(B, T)` of features `(B, T, F)` from the stored places."""
        places = self._features(self.places.to(rows))
        used = torch.arange(self.capacity, device=rows.device) < self.added
        # Relative to a stored place: the squares of large offsets would lose precision.
        visits, _ = _KernelSum.apply((rows - places[0]).flatten(0, 1), places - places[0], used.to(rows))
        return visits.unflatten(0, rows.shape[:2])


class _KernelSum(Function):
    """`Σ_i w_i k(a, b_i)` for points `a` `(N, F)`, places `b` `(M, F)` and weights `w` `(M,)`: `(N,)`.

    The kernels `(N, M)` are by far the largest tensor of the cost. They are computed by one matrix product, reduced by
    another to the sum and the term for its gradient, and not stored. This is four times as fast as autograd on a CPU,
    but supports only first derivatives in `a`.
    """

    @staticmethod
    def forward(rows: Tensor, places: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The sums, and `Σ_i w_i k(a, b_i) b_i` `(N, F)`."""
        # -½|a - b|² = a·b - ½|a|² - ½|b|²
        left = torch.cat([rows, -0.5 * rows.square().sum(-1, keepdim=True), torch.ones_like(rows[:, :1])], -1)
        right = torch.cat(
            [places, torch.ones_like(places[:, :1]), -0.5 * places.square().sum(-1, keepdim=True)], -1
        )
        summed = weight[:, None] * torch.cat([torch.ones_like(places[:, :1]), places], dim=-1)
        sums = (left @ right.T).clamp_(min=_LEAST).exp_() @ summed
        return sums[:, 0].clone(), sums[:, 1:].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        """Save the points and both sums for the backward pass."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        """Gradient in `a`: `Σ_i w_i k(a, b_i) (b_i - a)`, times the gradient of the sums."""
        rows, sums, pull = ctx.saved_tensors
        return grad[:, None] * (pull - sums[:, None] * rows), None, None


def _earlier_visits(rows: Tensor) -> Tensor:
    """Visit count `(B, T-1)` of features `(B, T, F)` from time step 1 on, by the trajectory's earlier states."""
    apart = rows[:, 1:, None] - rows[:, None, :-1]
    return (-0.5 * apart.square().sum(dim=-1)).clamp(min=_LEAST).exp().tril().sum(dim=-1)


def _first_of_each_place(near: Tensor) -> Tensor:
    """Which of N points to select, `(N,)` boolean, so that none is `near` `(N, N)` an earlier selected one."""
    near = near.cpu()
    keep = torch.ones(len(near), dtype=torch.bool)
    for i in range(len(near)):
        if keep[i]:
            keep[i + 1 :] &= ~near[i, i + 1 :]
    return keep


def _feature_scale(layout: TrajectoryLayout, width: Tensor | ArrayLike) -> Tensor:
    """Factors `(feature_dim,)` that convert `layout.features` to widths: plain coordinates, then sines, cosines."""
    width = as_tensor("width", width, torch.float64)
    if width.ndim == 0:
        width = width.expand(layout.obs_dim)
    require_shape("width", width, (layout.obs_dim,))
    periods = torch.tensor(layout.periods or (0.0,) * layout.obs_dim, dtype=torch.float64)
    turning = periods > 0
    require(
        bool((torch.isfinite(width) & (width > 0) & (~turning | (width < periods / 2))).all()),
        "width",
        given=width.tolist(),
        expected=f"positive numbers, less than half of the periods {periods.tolist()} that are not 0",
    )
    radius = periods[turning] / (2 * math.pi * width[turning])
    return torch.cat([1 / width[~turning], radius, radius]).float()
