"""A `TransitionEnergy` of two states around a regression, as a function of arrays; see `arrays`.

One evaluation of the windows gives energy, gradient and curvature, and the Jacobian of the base serves both of the
latter. Windows that are equal to the one before, as in a chain that holds still, are evaluated once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ebm_control.energies.arrays import Array, ArrayQuadratic, repeated, takes_arrays, wrapped
from ebm_control.energies.base_measure import BaseMeasure, RegressionBase
from ebm_control.energies.jacobians import outputs_and_jacobian
from ebm_control.energies.networks import MLP
from ebm_control.energies.pullbacks import Layer, layers_outputs, untouched

if TYPE_CHECKING:
    from ebm_control.energies.trajectory import TransitionEnergy


_OWN = ("mean", "residual", "forward")


def transition_arrays(energy: TransitionEnergy, x: Tensor, context: Tensor | None) -> TransitionArrays | None:
    """The energy for trajectories like `x` `(B, T, D)`; None unless its base and tilt are plain `MLP`s in float32."""
    if not takes_arrays(x, energy.displacement_scale, *(() if context is None else (context,))):
        return None
    shaped = x.shape[1] > 1 and x.shape[2] == energy.layout.dim
    known = 0 if context is None else context.shape[1] if context.ndim == 2 else -1
    if not shaped or known != energy.context_dim:
        return None
    base = _layers(energy.base.network) if _is_plain(energy.base) else None
    tilt = _layers(energy.network)
    return None if base is None or tilt is None else TransitionArrays(energy, base, tilt, context)


def _is_plain(base: BaseMeasure | None) -> bool:
    """Whether a base is a regression that no subclass or hook changes."""
    own = all(getattr(type(base), name, None) is getattr(RegressionBase, name) for name in _OWN)
    return own and base is not None and untouched(base) and base.__dict__.keys().isdisjoint(_OWN)


def _layers(network: nn.Module) -> list[Layer] | None:
    return network.plain() if isinstance(network, MLP) else None


class TransitionArrays:
    """The energy under its present weights; see `ArrayEnergy`."""

    def __init__(
        self, energy: TransitionEnergy, base: list[Layer], tilt: list[Layer], context: Tensor | None
    ) -> None:
        assert energy.base is not None
        self.layout = layout = energy.layout
        self.base, self.tilt, self.weight = base, tilt, energy.tilt_weight
        self.unit, self.std = energy.displacement_scale.detach().numpy(), energy.base.std.detach().numpy()
        self.context = None if context is None else context.numpy()
        self.width = layout.feature_dim + layout.act_dim + energy.context_dim  # inputs of the base
        around = set(layout.periodic)
        self.plain = [i for i in range(layout.obs_dim) if i not in around]
        self.around = list(layout.periodic)
        self.rate = np.array([2 * math.pi / layout.periods[i] for i in self.around], dtype=np.float32)

    def value(self, x: Array) -> Array:
        """See `ArrayEnergy`."""
        rows = self._rows(x)
        mean = layers_outputs(self.base, torch.from_numpy(rows[:, : self.width])).numpy()
        residual = (rows[:, self.width :] - mean) / self.std
        np.arcsinh(residual, out=rows[:, self.width :])
        tilt = layers_outputs(self.tilt, torch.from_numpy(rows)).numpy()[:, 0]
        energy = self.weight * tilt + 0.5 * (residual * residual).sum(axis=1)
        return energy.reshape(len(x), -1).sum(axis=1)

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """See `ArrayEnergy`."""
        size = self.layout.obs_dim
        rows = self._rows(x)
        rows, places = _distinct(rows)
        mean, slopes = outputs_and_jacobian(self.base, torch.from_numpy(rows[:, : self.width]))
        residual = (rows[:, self.width :] - mean.numpy()) / self.std
        states = self._angles(rows)
        np.arcsinh(residual, out=rows[:, self.width :])
        tilt, by_row = outputs_and_jacobian(self.tilt, torch.from_numpy(rows))
        by_rows = self.weight * by_row.numpy()[0]
        energy = self.weight * tilt.numpy()[:, 0] + 0.5 * (residual * residual).sum(axis=1)
        by_move = residual + by_rows[:, self.width :] / np.sqrt(residual * residual + 1)
        by_move /= self.std
        # Derivatives by the first time step of a window: of the base's mean less the displacement, then of the tilt.
        inner = np.empty((size + 1, len(rows), self.width), dtype=x.dtype)
        inner[:size], inner[size] = slopes.numpy(), by_rows[:, : self.width]
        inner = self._by_step(inner, *states)
        off = inner[:size]
        np.einsum("ini->in", off[:, :, :size])[...] += (1 / self.unit)[:, None]
        first = inner[size] - np.einsum("ni,ind->nd", by_move, off)
        return self._assembled(x, places, energy, first, by_move / self.unit, off / self.std[:, None, None])

    def expected_next(self, x: Array) -> Array:
        """Mean of the base for the states after time steps `(B, D)`: `(B, obs_dim)`."""
        inputs = self._inputs(x[:, None])
        mean = layers_outputs(self.base, torch.from_numpy(inputs.reshape(len(x), -1))).numpy()
        return x[:, : self.layout.obs_dim] + mean * self.unit

    def _rows(self, x: Array) -> Array:
        """Inputs and displacements of all windows, one after the other: `(B * windows, width + obs_dim)`."""
        size = self.layout.obs_dim
        states = x[..., :size]
        rows = np.empty((len(x), x.shape[1] - 1, self.width + size), dtype=x.dtype)
        self._inputs(x[:, :-1], rows)
        rows[..., self.width :] = wrapped(states[:, 1:] - states[:, :-1], self.layout) / self.unit
        return rows.reshape(-1, self.width + size)

    def _inputs(self, x: Array, rows: Array | None = None) -> Array:
        """Inputs of the base `(B, steps, width)` for time steps `(B, steps, D)`, written to `rows` if given."""
        layout, features = self.layout, self.layout.feature_dim
        if rows is None:
            rows = np.empty((*x.shape[:2], self.width), dtype=x.dtype)
        if self.around:
            plain, waves = len(self.plain), len(self.around)
            angle = x[..., self.around] * self.rate
            rows[..., :plain] = x[..., self.plain]
            np.sin(angle, out=rows[..., plain : plain + waves])
            np.cos(angle, out=rows[..., plain + waves : features])
        else:
            rows[..., :features] = x[..., :features]
        rows[..., features : features + layout.act_dim] = x[..., layout.obs_dim :]
        if self.context is not None:
            rows[..., features + layout.act_dim : self.width] = repeated(self.context, len(x))[:, None]
        return rows

    def _angles(self, rows: Array) -> tuple[Array, Array]:
        """Sines and cosines of the periodic coordinates, `(rows, periodic)` each."""
        start, waves = len(self.plain), len(self.around)
        return rows[:, start : start + waves], rows[:, start + waves : start + 2 * waves]

    def _by_step(self, slopes: Array, sine: Array, cosine: Array) -> Array:
        """Derivatives `(K, rows, D)` by time steps from those by the inputs of the base `(K, rows, width)`."""
        layout, features = self.layout, self.layout.feature_dim
        found = np.empty((*slopes.shape[:2], layout.dim), dtype=slopes.dtype)
        if self.around:
            plain, waves = len(self.plain), len(self.around)
            found[..., self.plain] = slopes[..., :plain]
            by_sine, by_cosine = slopes[..., plain : plain + waves], slopes[..., plain + waves : features]
            found[..., self.around] = self.rate * (by_sine * cosine - by_cosine * sine)
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
        gradient = np.zeros_like(x)
        gradient[:, :-1] = first.reshape(*shape, dim)
        gradient[:, 1:, :size] += second.reshape(*shape, size)
        main = np.zeros((batch, length, dim, dim), dtype=x.dtype)
        beside = np.zeros((*shape, dim, dim), dtype=x.dtype)
        main[:, :-1] = product.reshape(*shape, dim, dim)
        np.einsum("btii->bti", main)[:, 1:, :size] += weight * weight
        beside[..., :size] = across.reshape(*shape, dim, size)
        return ArrayQuadratic(energy.reshape(shape).sum(axis=1), gradient, (main, beside))


def _distinct(rows: Array) -> tuple[Array, Array | None]:
    """Rows `(n, k)` that differ from the one before, and for each row its place among them; None for its own."""
    differs = (rows[1:] != rows[:-1]).any(axis=1)
    if differs.all():
        return rows, None
    kept = np.concatenate([[True], differs])
    return rows[kept], np.cumsum(kept) - 1
