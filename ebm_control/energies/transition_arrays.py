"""A `TransitionEnergy` of two states around a regression, as a function of arrays; see `arrays`.

One evaluation of the windows gives energy, gradient and curvature, and the Jacobian of the base serves both of the
latter. Windows that are equal to the one before, as in a chain that holds still, are evaluated once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ebm_control.energies.arrays import (
    Array,
    ArrayQuadratic,
    Columns,
    columns_of,
    repeated,
    takes_arrays,
    wrapped,
)
from ebm_control.energies.base_measure import RegressionBase
from ebm_control.energies.jacobians import outputs_and_jacobian, outputs_of
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import MLP
from ebm_control.energies.pullbacks import Layer, kept, untouched

if TYPE_CHECKING:
    from ebm_control.energies.trajectory import TransitionEnergy


_OWN = ("mean", "residual", "forward")  # methods that say what a base is


def transition_arrays(energy: TransitionEnergy, x: Tensor, context: Tensor | None) -> TransitionArrays | None:
    """The energy for trajectories like `x` `(B, T, D)`; None unless its base and tilt are plain `MLP`s in float32."""
    given = (x, energy.displacement_scale) if context is None else (x, energy.displacement_scale, context)
    known = 0 if context is None else context.shape[1] if context.ndim == 2 else -1
    fits = takes_arrays(*given) and x.shape[1] > 1 and x.shape[2] == energy.layout.dim
    if not fits or known != energy.context_dim:
        return None
    forms, key = kept.forms if context is None else None, (id(energy), energy.training)
    if forms is not None and key in forms:
        return forms[key]
    if not isinstance(energy.base, RegressionBase) or not _plain(energy.base):
        return None
    base, tilt = _layers(energy.base.network), _layers(energy.network)
    if base is None or tilt is None:
        return None
    found = TransitionArrays(energy, base, tilt, context)
    if forms is not None:
        forms[key] = found
    return found


def _plain(base: RegressionBase) -> bool:
    """Whether no subclass or hook changes a base."""
    own = all(getattr(type(base), name) is getattr(RegressionBase, name) for name in _OWN)
    return own and untouched(base) and base.__dict__.keys().isdisjoint(_OWN)


def _layers(network: nn.Module) -> list[Layer] | None:
    return network.plain() if isinstance(network, MLP) else None


class TransitionArrays:
    """The energy under its present weights; see `ArrayEnergy`."""

    def __init__(
        self, energy: TransitionEnergy, base: list[Layer], tilt: list[Layer], context: Tensor | None
    ) -> None:
        assert energy.base is not None
        self.energy = energy  # which `forms_kept` knows by its identity: it must stay
        self.layout = layout = energy.layout
        self.base, self.tilt, self.weight = base, tilt, energy.tilt_weight
        self.unit, self.std = energy.displacement_scale.detach().numpy(), energy.base.std.detach().numpy()
        self.context = None if context is None else context.numpy()
        self.width = layout.feature_dim + layout.act_dim + energy.context_dim  # inputs of the base
        self.waves = len(layout.periodic)
        self.plain, self.around, self.rate = _columns(layout)

    def value(self, x: Array) -> Array:
        """See `ArrayEnergy`."""
        rows = self._rows(x)
        move = rows[:, self.width :]
        residual = (move - outputs_of(self.base, torch.from_numpy(rows[:, : self.width])).numpy()) / self.std
        np.arcsinh(residual, out=move)
        tilt = outputs_of(self.tilt, torch.from_numpy(rows)).numpy()[:, 0]
        energy = self.weight * tilt + 0.5 * np.einsum("ni,ni->n", residual, residual)
        return np.add.reduce(energy.reshape(len(x), -1), 1)

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """See `ArrayEnergy`."""
        size, width = self.layout.obs_dim, self.width
        rows, places = _distinct(self._rows(x))
        move = rows[:, width:]
        mean, slopes = outputs_and_jacobian(self.base, torch.from_numpy(rows[:, :width]))
        residual = (move - mean.numpy()) / self.std
        np.arcsinh(residual, out=move)
        tilt, by_rows = outputs_and_jacobian(self.tilt, torch.from_numpy(rows))
        by_row = self.weight * by_rows.numpy()[0]
        square = residual * residual
        energy = self.weight * tilt.numpy()[:, 0] + 0.5 * np.add.reduce(square, 1)
        by_move = (residual + by_row[:, width:] / np.sqrt(square + 1)) / self.std
        # Derivatives by the first time step of a window: of the base's mean plus the state, and last of the tilt.
        inner = np.empty((size + 1, len(rows), width), dtype=x.dtype)
        inner[:size], inner[size] = slopes.numpy(), by_row[:, :width]
        inner = self._by_step(inner, rows)
        off = inner[:size]
        np.einsum("ini->in", off[:, :, :size])[...] += (1 / self.unit)[:, None]
        first = inner[size] - np.einsum("ni,ind->nd", by_move, off)
        return self._assembled(x, places, energy, first, by_move / self.unit, off / self.std[:, None, None])

    def expected_next(self, x: Array) -> Array:
        """Mean of the base for the states after time steps `(B, D)`: `(B, obs_dim)`."""
        inputs = np.empty((len(x), 1, self.width), dtype=x.dtype)
        self._inputs(x[:, None], inputs)
        mean = outputs_of(self.base, torch.from_numpy(inputs[:, 0])).numpy()
        return x[:, : self.layout.obs_dim] + mean * self.unit

    def _rows(self, x: Array) -> Array:
        """Inputs and displacements of all windows, one after the other: `(B * windows, width + obs_dim)`."""
        size = self.layout.obs_dim
        states = x[..., :size]
        rows = np.empty((len(x), x.shape[1] - 1, self.width + size), dtype=x.dtype)
        self._inputs(x[:, :-1], rows)
        rows[..., self.width :] = wrapped(states[:, 1:] - states[:, :-1], self.layout) / self.unit
        return rows.reshape(-1, self.width + size)

    def _inputs(self, x: Array, rows: Array) -> None:
        """Write the inputs of the base for time steps `(B, steps, D)` to the first coordinates of `rows`."""
        layout, features = self.layout, self.layout.feature_dim
        if self.waves:
            start, middle = features - 2 * self.waves, features - self.waves
            angle = x[..., self.around] * self.rate
            rows[..., :start] = x[..., self.plain]
            np.sin(angle, out=rows[..., start:middle])
            np.cos(angle, out=rows[..., middle:features])
        else:
            rows[..., :features] = x[..., :features]
        rows[..., features : features + layout.act_dim] = x[..., layout.obs_dim :]
        if self.context is not None:
            rows[..., features + layout.act_dim : self.width] = repeated(self.context, len(x))[:, None]

    def _by_step(self, slopes: Array, rows: Array) -> Array:
        """Derivatives `(K, rows, D)` by time steps from those by the inputs of the base `(K, rows, width)`."""
        layout, features = self.layout, self.layout.feature_dim
        found = np.empty((*slopes.shape[:2], layout.dim), dtype=slopes.dtype)
        if self.waves:
            start, middle = features - 2 * self.waves, features - self.waves
            found[..., self.plain] = slopes[..., :start]
            by_sine, by_cosine = slopes[..., start:middle], slopes[..., middle:features]
            turned = by_sine * rows[:, middle:features] - by_cosine * rows[:, start:middle]
            found[..., self.around] = self.rate * turned
        else:
            found[..., :features] = slopes[..., :features]
        found[..., layout.obs_dim :] = slopes[..., features : features + layout.act_dim]
        return found

    def _assembled(
        self, x: Array, places: Array | None, energy: Array, first: Array, second: Array, slopes: Array
    ) -> ArrayQuadratic:
        """The model of trajectories `x` from those of distinct windows, of which `places` are taken.

        Args:
            x: `(B, T, D)`.
            places: `(B * windows,)` the window's row in the arguments that follow; None for one row each.
            energy: `(rows,)`.
            first: `(rows, D)` gradient by the first time step.
            second: `(rows, obs_dim)` gradient by the second state.
            slopes: `(obs_dim, rows, D)` derivatives of the residuals by the first time step, with the other sign.

        """
        (batch, length, dim), size = x.shape, self.layout.obs_dim
        shape = (batch, length - 1)
        per_window = slopes.transpose(1, 2, 0)
        product = per_window @ per_window.transpose(0, 2, 1)
        weight = 1 / (self.unit * self.std)
        across = per_window * -weight
        if places is not None:
            energy, first, second = energy[places], first[places], second[places]
            product, across = product[places], across[places]
        gradient = np.zeros(x.shape, dtype=x.dtype)
        gradient[:, :-1] = first.reshape(*shape, dim)
        gradient[:, 1:, :size] += second.reshape(*shape, size)
        main = np.zeros((batch, length, dim, dim), dtype=x.dtype)
        beside = np.zeros((*shape, dim, dim), dtype=x.dtype)
        main[:, :-1] = product.reshape(*shape, dim, dim)
        main.reshape(batch, length, -1)[:, 1:, : size * dim : dim + 1] += weight * weight  # its diagonal
        beside[..., :size] = across.reshape(*shape, dim, size)
        return ArrayQuadratic(np.add.reduce(energy.reshape(shape), 1), gradient, (main, beside))


@lru_cache(maxsize=64)
def _columns(layout: TrajectoryLayout) -> tuple[Columns, Columns, Array]:
    """Plain and periodic observation coordinates, and radians per unit of the latter."""
    around = layout.periodic
    plain = [i for i in range(layout.obs_dim) if i not in around]
    rate = np.array([2 * math.pi / layout.periods[i] for i in around], dtype=np.float32)
    return columns_of(plain), columns_of(around), rate


def _distinct(rows: Array) -> tuple[Array, Array | None]:
    """Rows `(n, k)` that differ from the one before, and for each row its place among them; None for its own."""
    kept = np.ones(len(rows), dtype=np.bool_)
    np.logical_or.reduce(rows[1:] != rows[:-1], 1, out=kept[1:])
    if kept.all():
        return rows, None
    return rows[kept], kept.cumsum() - 1
