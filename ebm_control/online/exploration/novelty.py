"""Exploration without a goal: a cost that is low where no trajectory has been."""

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

_APART = 0.5  # widths between remembered places: close enough that their kernels join without ripples
_LEAST = -60.0  # exponent of a kernel: below it exp underflows, which costs a CPU a hundred times the work
_CHUNK = 512  # points thinned at once: their distances to each other are a square matrix


class NoveltyCost(Energy):
    """Soft count of the visits to each row's place: 0 on new ground, growing with the logarithm of the count.

    `E(τ) = Σ_{t ≥ 1} log(1 + n_t / floor)`, `n_t = Σ_i k(s_t, m_i) + repetition Σ_{u < t} k(s_t, s_u)` with a Gaussian
    kernel `k = exp(-½ d²)`, `d` the distance in widths, over the remembered places `m_i` and the trajectory's own
    earlier rows. So a cost within some three widths of what was visited falls outwards, beyond them it is flat,
    and a plan that sweeps new ground is cheaper than one that rests on it. (A count-based bonus, Strehl &
    Littman 2008, made smooth; the logarithm keeps the gradient of the frontier whatever the count.)

    Of a periodic coordinate `d` is the chord, `period / (π width) sin(π δ / period)`: `δ / width` for close
    ones, by the shorter way round, and smooth half-way round too.

    Args:
        layout: meaning of the coordinates.
        index: observation coordinates that make a place.
        width: `(len(index),)` or a number, the size of a place in the units of `x`; less than half the period of
            a periodic coordinate.
        capacity: places remembered; beyond it each new one takes the place of the oldest.
        floor: count below which a place is new.
        repetition: what a visit by an earlier row counts, beside 1 of a remembered place; 0 for nothing.

    Attributes:
        places: `(capacity, len(index))` remembered places, in the units of `x`; 0 where there is none yet.
        added: places ever added, an integer scalar; a ring of `capacity` keeps the last.

    Raises:
        InputError: a setting is of no sense.

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
        # A setting, not memory: what is saved is what was visited.
        self.register_buffer("scale", _feature_scale(self.place_layout, width), persistent=False)
        self.register_buffer("places", torch.zeros(capacity, len(self.index), dtype=torch.float32))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    @property
    def count(self) -> int:
        """Places remembered now, at most `capacity`."""
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
        """Remember points `(N, len(index))`, in the units of `x`, and return how many were new.

        A point is new where no remembered one, of this call neither, is nearer than half a width. In place: a
        compiled or captured chain sees the new memory.

        Raises:
            InputError: another shape, or a figure that is not finite.

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
        """Where no remembered place is nearer than half a width: `(N, len(index)) -> (N,)` boolean.

        Raises:
            InputError: another shape, or a figure that is not finite.

        """
        chunks = self._checked(points).split(_CHUNK)
        return torch.cat([self._novel(chunk) for chunk in chunks])

    def remembered(self) -> Tensor:
        """Copy of the remembered places, `(count, len(index))` in the units of `x`, in no particular order."""
        return self.places[: self.count].clone()

    def forget(self) -> None:
        """Empty the memory, in place."""
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
        """Points `(..., len(index))` where their distance in widths is the Euclidean one."""
        return self.place_layout.features(points) * self.scale.to(points)

    def _remembered_visits(self, rows: Tensor) -> Tensor:
        """Visits to features `(B, T, F)` by the remembered places, `(B, T)`."""
        places = self._features(self.places.to(rows))
        used = torch.arange(self.capacity, device=rows.device) < self.added
        # About a place of the memory: the squares of far offsets would cost the digits.
        visits, _ = _KernelSum.apply((rows - places[0]).flatten(0, 1), places - places[0], used.to(rows))
        return visits.unflatten(0, rows.shape[:2])


class _KernelSum(Function):
    """`Σ_i w_i k(a, b_i)` of rows `a` `(N, F)`, places `b` `(M, F)` and weights `w` `(M,)`: `(N,)`.

    The kernels `(N, M)` are by far the largest tensor of the cost. They are made by one matrix product, reduced by
    another to the sum and to what its gradient needs, and not kept: four times as fast as autograd on a CPU, at
    the price of first derivatives in `a` alone.
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
        """Keep the rows and both sums."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        """`Σ_i w_i k(a, b_i) (b_i - a)`, times the gradient of the sums."""
        rows, sums, pull = ctx.saved_tensors
        return grad[:, None] * (pull - sums[:, None] * rows), None, None


def _earlier_visits(rows: Tensor) -> Tensor:
    """Visits to features `(B, T, F)` of rows 1.. by the rows before them, `(B, T-1)`."""
    apart = rows[:, 1:, None] - rows[:, None, :-1]
    return (-0.5 * apart.square().sum(dim=-1)).clamp(min=_LEAST).exp().tril().sum(dim=-1)


def _first_of_each_place(near: Tensor) -> Tensor:
    """Which of N points to keep, `(N,)` boolean, so that none is `near` `(N, N)` one that is kept before it."""
    near = near.cpu()
    keep = torch.ones(len(near), dtype=torch.bool)
    for i in range(len(near)):
        if keep[i]:
            keep[i + 1 :] &= ~near[i, i + 1 :]
    return keep


def _feature_scale(layout: TrajectoryLayout, width: Tensor | ArrayLike) -> Tensor:
    """What takes `layout.features` to units of a width, `(feature_dim,)`: plain ones, then sines, cosines."""
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
        expected=f"positive figures, less than half of the periods {periods.tolist()} that are not 0",
    )
    radius = periods[turning] / (2 * math.pi * width[turning])
    return torch.cat([1 / width[~turning], radius, radius]).float()
