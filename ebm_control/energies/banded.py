"""Symmetric banded matrices over trajectories, as block tridiagonal ones: products and Cholesky factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dpbsv
from torch import Tensor

_DENSE = 160  # unknowns up to which one dense factor is faster than a loop over blocks
_WIDE = 32  # width of a banded matrix from which zeros at its edge are looked for
_SMALL = 8192  # entries of a stored matrix up to which several are solved for in one call
_BLOCK = 32  # unknowns of a block: small enough to be linear in T, large enough to hide the cost of a call


@dataclass(frozen=True)
class Banded:
    """Symmetric matrices `(..., T*D, T*D)` in blocks of neighbouring time steps; the last block is padded with zeros.

    Attributes:
        main: `(..., blocks, n, n)` blocks on the diagonal.
        below: `(..., blocks-1, n, n)` blocks below them; None for one block.
        length: time steps `T`.
        dim: coordinates `D` of a time step.

    """

    main: Tensor
    below: Tensor | None
    length: int
    dim: int

    @classmethod
    def of(cls, bands: Sequence[Tensor]) -> Banded:
        """The matrices with the given bands; see `Quadratic`."""
        batch, length, dim = bands[0].shape[:3]
        reach = max(len(bands) - 1, 1, _BLOCK // dim)
        g = length if length * dim <= _DENSE else min(length, reach)
        blocks = -(-length // g)
        main = bands[0].new_zeros(batch, blocks, g, dim, g, dim)
        below = bands[0].new_zeros(batch, blocks - 1, g, dim, g, dim) if blocks > 1 else None
        for k, band in enumerate(bands):
            if band.shape[1] == 0:
                continue
            missing = blocks * g - band.shape[1]
            if missing and blocks > 1:
                band = torch.cat([band, band.new_zeros(batch, missing, dim, dim)], dim=1)
            # Time step t couples with t + k: within a block (i, i + k), or with the next block (i, i + k - g).
            rows = (band.unflatten(1, (blocks, g)) if blocks > 1 else band[:, None]).permute(0, 1, 4, 3, 2)
            if k < g:
                main.diagonal(offset=-k, dim1=2, dim2=4).copy_(rows[..., : g - k])
                if k:
                    main.diagonal(offset=k, dim1=2, dim2=4).copy_(rows[..., : g - k].transpose(2, 3))
            if k and below is not None:
                below.diagonal(offset=g - k, dim1=2, dim2=4).copy_(rows[:, :-1, :, :, g - k :])
        n = g * dim
        return cls(
            main.view(batch, blocks, n, n),
            None if below is None else below.view(batch, blocks - 1, n, n),
            length,
            dim,
        )

    def split(self, vector: Tensor) -> Tensor:
        """A vector `(..., T, D)` in blocks `(..., blocks, n)`, padded with zeros."""
        blocks, n = self.main.shape[-3:-1]
        lead, missing = vector.shape[:-2], blocks * n // self.dim - self.length
        if missing:
            vector = torch.cat([vector, vector.new_zeros(*lead, missing, self.dim)], dim=-2)
        return vector.reshape(*lead, blocks, n)

    def joined(self, parts: Tensor) -> Tensor:
        """A vector in blocks `(..., blocks, n)` as `(..., T, D)`."""
        *lead, blocks, n = parts.shape
        whole = parts.reshape(*lead, blocks * n // self.dim, self.dim)
        return whole if whole.shape[-2] == self.length else whole[..., : self.length, :]

    def factor(self, diagonal: Tensor, kept: Tensor | None = None) -> Factor:
        """Cholesky factor of the matrix plus a diagonal.

        Args:
            diagonal: `(..., blocks, n)`; axes before those of the matrix give several matrices.
            kept: `(..., blocks, n)` 1 for rows and columns that count, 0 for those that become the identity's; None
                for all.

        """
        main, below = self.main, self.below
        if kept is not None:
            main = main * (kept.unsqueeze(-1) * kept.unsqueeze(-2))
            diagonal = diagonal * kept + (1 - kept)
            if below is not None:
                below = below * (kept[..., 1:, :].unsqueeze(-1) * kept[..., :-1, :].unsqueeze(-2))
        if kept is None or main.ndim <= diagonal.ndim:
            main = main.expand(*diagonal.shape, diagonal.shape[-1]).clone()
        main.diagonal(dim1=-2, dim2=-1).add_(diagonal)
        extra = main.shape[-3] * main.shape[-2] - self.length * self.dim
        if extra:
            main[..., -1, :, :].diagonal(dim1=-2, dim2=-1)[..., -extra:] = 1.0
        return Factor.of(main, below)


@dataclass(frozen=True)
class Factor:
    """Cholesky factor `L` of block tridiagonal matrices `A`. Not positive definite matrices give non-finite results.

    Attributes:
        diagonal: its blocks on the diagonal, `(..., n, n)` each.
        below: its blocks below them.

    """

    diagonal: tuple[Tensor, ...]
    below: tuple[Tensor, ...]

    @classmethod
    def of(cls, main: Tensor, below: Tensor | None) -> Factor:
        """Factor of the matrices with blocks `main` `(..., blocks, n, n)` and `below` `(..., blocks-1, n, n)`."""
        if below is None:
            return cls((_cholesky(main.squeeze(-3)),), ())
        factors: list[Tensor] = []
        lower: list[Tensor] = []
        for b, block in enumerate(main.unbind(-3)):
            if b:
                upper = factors[-1].mT
                beside = below[..., b - 1, :, :].expand(*upper.shape[:-2], -1, -1)
                lower.append(torch.linalg.solve_triangular(upper, beside, upper=True, left=False))
                block = block - lower[-1] @ lower[-1].mT
            factors.append(_cholesky(block))
        return cls(tuple(factors), tuple(lower))

    def solve(self, right: Tensor) -> Tensor:
        """`A⁻¹` times vectors in blocks `(..., blocks, n)`."""
        if not self.below:
            return torch.cholesky_solve(right.mT, self.diagonal[0]).mT
        found: list[Tensor] = []
        for b, part in enumerate(right.unsqueeze(-1).unbind(-3)):
            part = part if b == 0 else part - self.below[b - 1] @ found[-1]
            found.append(torch.linalg.solve_triangular(self.diagonal[b], part, upper=False))
        return self._backward(found)

    def spread(self, noise: Tensor) -> Tensor:
        """`L⁻ᵀ` times vectors in blocks: the covariance of standard normal noise becomes `A⁻¹`."""
        return self._backward(list(noise.unsqueeze(-1).unbind(-3)))

    def squared(self, vector: Tensor) -> Tensor:
        """`vᵀ A v` `(...)` of vectors in blocks `(..., blocks, n)`."""
        parts = vector.unsqueeze(-1).unbind(-3)
        total = vector.new_zeros(vector.shape[:-2])
        for b, factor in enumerate(self.diagonal):
            part = factor.mT @ parts[b]
            if b < len(self.below):
                part = part + self.below[b].mT @ parts[b + 1]
            total = total + part.flatten(-2).square().sum(dim=-1)
        return total

    def log_determinant(self) -> Tensor:
        """`(...)` logarithm of the determinant of `A`."""
        parts = [factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1) for factor in self.diagonal]
        return 2 * sum(parts[1:], parts[0])

    def _backward(self, parts: list[Tensor]) -> Tensor:
        found: list[Tensor] = []
        for b in reversed(range(len(parts))):
            part = parts[b] if not found else parts[b] - self.below[b].mT @ found[-1]
            found.append(torch.linalg.solve_triangular(self.diagonal[b].mT, part, upper=True))
        return torch.stack(found[::-1], dim=-3).squeeze(-1)


def _cholesky(matrix: Tensor) -> Tensor:
    """Cholesky factors, NaN for matrices that are not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where(failed[..., None, None] > 0, torch.nan, factor)


class Solver(Protocol):
    """Solutions of `(C + diagonal) d = right`, in float64, for matrices `C` `(B, T*D, T*D)`.

    Attributes:
        shape: `(B, T, D)`.
        largest: `(B, 1, 1)` greatest entry on the diagonal of each `C`.

    """

    shape: tuple[int, ...]
    largest: Any

    def solve(self, diagonal: Any, right: Any, wanted: Any = None) -> Any:
        """Solutions `(K, B, T, D)` for K diagonals and right-hand sides `(K, B, T, D)`; NaN if there is none.

        Args:
            diagonal: `(K, B, T, D)`.
            right: `(K, B, T, D)`.
            wanted: boolean `(K, B)`, False where no solution is needed: anything may be returned; None for all.

        """
        ...


def solver_of(bands: Sequence[Tensor]) -> Solver:
    """Solver for the matrices with the given bands: LAPACK's for banded matrices on the CPU, else by blocks."""
    return _Lapack(bands) if bands[0].is_cpu else _Blocks(bands)


class _Blocks:
    def __init__(self, bands: Sequence[Tensor]) -> None:
        self._matrix = Banded.of([band.double() for band in bands])
        self.shape = tuple(bands[0].shape[:3])
        self.largest = bands[0].double().diagonal(dim1=-2, dim2=-1).amax(dim=(1, 2))[:, None, None]

    def solve(self, diagonal: Tensor, right: Tensor, wanted: Tensor | None = None) -> Tensor:
        matrix = self._matrix
        return matrix.joined(matrix.factor(matrix.split(diagonal)).solve(matrix.split(right)))


class _Lapack:
    def __init__(self, bands: Sequence[Tensor]) -> None:
        self._solver = ArraySolver([band.numpy() for band in bands])
        self.shape, self.largest = self._solver.shape, torch.from_numpy(self._solver.largest)

    def solve(self, diagonal: Tensor, right: Tensor, wanted: Tensor | None = None) -> Tensor:
        flags = None if wanted is None else wanted.numpy()
        return torch.from_numpy(self._solver.solve(diagonal.numpy(), right.numpy(), flags))


class ArraySolver:
    """Solver by LAPACK: for these sizes it takes less time than one operation of torch.

    Args:
        bands: blocks of the matrices, `(B, T-k, D, D)`; see `Quadratic`.
        added: `(B, T, D)` part of their diagonal that is not in the blocks; None for 0.

    """

    def __init__(self, bands: Sequence[NDArray[Any]], added: NDArray[Any] | None = None) -> None:
        self.shape = batch, length, dim = bands[0].shape[:3]
        index, zero = _storage(length, dim, len(bands))
        flat = [band.reshape(batch, (length - k) * dim * dim) for k, band in enumerate(bands) if k < length]
        flat += [np.zeros((batch, 1), bands[0].dtype)] if zero else []
        self._stored = np.concatenate(flat, axis=1).take(index, axis=1).astype(np.float64)
        if added is not None:
            self._stored[:, :, 0] += added.reshape(batch, -1)
        if self._stored.shape[2] > _WIDE:  # columns of zeros cost as much as others
            used = np.flatnonzero(np.logical_or.reduce(self._stored != 0, (0, 1)))
            self._stored = self._stored[:, :, : 1 + used.max(initial=0)]
        self.largest: NDArray[np.float64] = self._stored[:, :, 0].max(axis=1)[:, None, None]

    def solve(
        self, diagonal: NDArray[Any], right: NDArray[Any], wanted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """See `Solver`."""
        count, n = right.shape[0] * right.shape[1], self._stored.shape[1]
        found = np.array(right, order="C").reshape(count, n)
        which = np.arange(count) if wanted is None else np.flatnonzero(wanted)
        if len(which) == 0:
            return found.reshape(right.shape)
        added, wished = diagonal.reshape(count, n), found[which]
        # Small ones as one matrix with blocks, in one call; large ones each by itself, which stays in the cache.
        together = len(which) == 1 or self._stored[0].size <= _SMALL
        solved = self._solved(which, added, wished) if together else None
        if solved is None or (len(which) > 1 and not math.isfinite(np.add.reduce(solved, None))):
            # Or one has no solution or is not finite, which would spread to the blocks after it.
            each = [self._solved(which[i : i + 1], added, wished[i : i + 1]) for i in range(len(which))]
            solved = np.concatenate([np.full((1, n), np.nan) if one is None else one for one in each])
        found[which] = solved
        return found.reshape(right.shape)

    def _solved(
        self, which: NDArray[Any], added: NDArray[Any], right: NDArray[Any]
    ) -> NDArray[np.float64] | None:
        """Solutions `(m, n)` of the systems with numbers `which` `(m,)`; None if one has none."""
        matrices = self._stored[which % len(self._stored)]
        matrices[:, :, 0] += added[which]
        stored = matrices.reshape(-1, matrices.shape[2]).T
        _, solution, failed = dpbsv(stored, right.reshape(-1, 1), lower=1, overwrite_ab=1)
        return None if failed else solution.reshape(right.shape)


@lru_cache(maxsize=64)
def _storage(length: int, dim: int, bands: int) -> tuple[NDArray[np.int64], bool]:
    """Where the entries of LAPACK's lower banded storage `(n, width)` lie among all bands, one after the other.

    The last place stands for 0. Entry `(c, r)` of the storage is the matrix's in column `c` and row `c + r`.
    """
    n, width = length * dim, min(bands, length) * dim
    starts = np.cumsum([0, *[max(length - k, 0) * dim * dim for k in range(bands)]])
    column, offset = np.meshgrid(np.arange(n), np.arange(width), indexing="ij")
    row = column + offset
    t, i, j = column // dim, column % dim, row % dim
    k = row // dim - t
    known = (row < n) & (k < bands)
    place = starts[np.minimum(k, bands - 1)] + (t * dim + i) * dim + j
    return np.where(known, place, starts[-1]), not bool(known.all())
