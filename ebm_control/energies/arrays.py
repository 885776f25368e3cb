"""Energies of trajectories as functions of NumPy arrays, for second-order steps of few chains on the CPU.

The plan of one start is a hundred operations on a few hundred numbers each. An operation of that size takes torch
several times as long as NumPy, so all but the networks' matrix products is written for arrays. See
`Energy.on_arrays`: what has no such form is evaluated by torch, on the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm_control.checks import require_shape
from ebm_control.energies.curvature import require_quadratic

if TYPE_CHECKING:
    from ebm_control.energies.base import Energy
    from ebm_control.energies.layout import TrajectoryLayout

Array = NDArray[Any]
Columns = slice | list[int]


@dataclass(frozen=True)
class ArrayQuadratic:
    """`Quadratic` in arrays, with a diagonal of its own, as most costs have no other curvature.

    Attributes:
        energy: `(B,)`.
        gradient: `(B, T, D)`.
        bands: blocks of the curvature, `(B, T-k, D, D)` each; may be none.
        diagonal: `(B, T, D)` added to the diagonal of the curvature; None for 0.

    """

    energy: Array
    gradient: Array
    bands: tuple[Array, ...] = ()
    diagonal: Array | None = None

    def __add__(self, other: ArrayQuadratic) -> ArrayQuadratic:
        long, short = self.bands, other.bands
        if len(long) < len(short):
            long, short = short, long
        bands = tuple(a + b for a, b in zip(long, short, strict=False)) + long[len(short) :]
        diagonal = self.diagonal
        if other.diagonal is not None:
            diagonal = other.diagonal if diagonal is None else diagonal + other.diagonal
        return ArrayQuadratic(self.energy + other.energy, self.gradient + other.gradient, bands, diagonal)

    def scaled(self, factor: float) -> ArrayQuadratic:
        """The model of `factor * E`; its curvature stays positive semi-definite, see `Quadratic.scaled`."""
        size = abs(factor)
        diagonal = None if self.diagonal is None else size * self.diagonal
        bands = tuple(size * band for band in self.bands)
        return ArrayQuadratic(factor * self.energy, factor * self.gradient, bands, diagonal)


class ArrayEnergy(Protocol):
    """An energy of trajectories as a function of arrays."""

    def value(self, x: Array) -> Array:
        """Energies `(B * r,)` of `x` `(B * r, T, D)`, with r consecutive trajectories for each entry of the context."""
        ...

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """Energy, gradient and curvature at `x` `(B, T, D)`; see `Energy.quadratic`."""
        ...


@dataclass(frozen=True)
class ByTensors:
    """Any energy, evaluated by torch on the memory of the arrays."""

    energy: Energy
    context: Tensor | None

    def value(self, x: Array) -> Array:
        """See `ArrayEnergy`."""
        context = self.context
        if context is not None and len(context) != len(x):
            context = context.repeat_interleave(len(x) // len(context), dim=0)
        energy = self.energy(torch.from_numpy(x), context)
        require_shape("energy(x)", energy, (len(x),))
        return _array(energy)

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """See `ArrayEnergy`."""
        given = torch.from_numpy(x)
        model = require_quadratic(self.energy.quadratic(given, self.context), given)
        return ArrayQuadratic(
            _array(model.energy), _array(model.gradient), tuple(_array(band) for band in model.bands)
        )


@dataclass(frozen=True)
class ArraySum:
    """A sum of energies."""

    terms: Sequence[ArrayEnergy]

    def value(self, x: Array) -> Array:
        """See `ArrayEnergy`."""
        first, *rest = [term.value(x) for term in self.terms]
        return sum(rest, first)

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """See `ArrayEnergy`."""
        first, *rest = [term.quadratic(x) for term in self.terms]
        return sum(rest, first)


@dataclass(frozen=True)
class ArrayScaled:
    """A multiple of an energy."""

    energy: ArrayEnergy
    factor: float

    def value(self, x: Array) -> Array:
        """See `ArrayEnergy`."""
        return self.factor * self.energy.value(x)

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """See `ArrayEnergy`."""
        return self.energy.quadratic(x).scaled(self.factor)


def takes_arrays(x: Tensor, *held: Tensor) -> bool:
    """Whether trajectories `x` and an energy's tensors are such that the energy has a form in arrays."""
    for tensor in (x, *held):
        if tensor.dtype != torch.float32 or not tensor.is_cpu:
            return False
    return x.ndim == 3 and x.shape[0] > 0


def columns_of(index: Sequence[int]) -> Columns:
    """Coordinates as a slice where they are neighbours, which NumPy reads without a copy."""
    first, count = index[0] if len(index) else 0, len(index)
    return slice(first, first + count) if list(index) == list(range(first, first + count)) else list(index)


def wrapped(delta: Array, layout: TrajectoryLayout) -> Array:
    """Differences of states `(..., obs_dim)`, in place by the shorter way round; see `TrajectoryLayout.difference`."""
    for columns, period in layout.runs:
        if period > 0:
            part = delta[..., columns]
            part -= period * np.rint(part / period)
    return delta


def repeated(value: Array, count: int) -> Array:
    """Rows `(B, ...)` repeated for `count = B * r` samples, r consecutive ones for each."""
    return value if len(value) == count else np.repeat(value, count // len(value), axis=0)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().numpy()
