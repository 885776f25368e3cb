"""Energies over trajectories `(B, T, D)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebm_control.checks import require, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.base_measure import BaseMeasure
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import MLP, TemporalConvolution


class TransitionEnergy(Energy):
    """A network over short windows, summed along the trajectory: `E(τ) = Σ_t base(w_t) + f(w_t)`.

    `w_t = (x_t, ..., x_{t+window-1})` is seen as the features of its first state, the actions of all rows but
    the last (none if the layout has none: then the energy is over states alone), the displacements between
    its states, each in units of the data's own displacement, and the context. With `window=2` this is
    `e(s, a, Δs)`, the transition energy of Du, Lin & Mordatch 2019, whose low values mark transitions
    that the dynamics allow.

    Args:
        layout: meaning of the coordinates.
        network: `(..., inputs) -> (..., 1)`, the tilt `f`; None for `MLP(inputs)`. `inputs_of` gives `inputs`.
        window: states a window spans, at least 2.
        base: Gaussian over the last displacement of a window; None for none.
        displacement_scale: `(obs_dim,)` the data's deviation of one displacement, in the units of `x`.
        context_dim: length of the context (a time gap, say); 0 for none.

    """

    displacement_scale: Tensor

    def __init__(
        self,
        layout: TrajectoryLayout,
        network: nn.Module | None = None,
        *,
        window: int = 2,
        base: BaseMeasure | None = None,
        displacement_scale: Tensor | None = None,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        require(window >= 2, "window", given=window, expected="at least 2 states")
        self.layout = layout
        self.window = window
        self.context_dim = context_dim
        self.network = MLP(self.inputs_of(layout, window, context_dim)) if network is None else network
        self.base = base
        self.register_buffer("displacement_scale", _displacement_scale(layout, displacement_scale))

    @staticmethod
    def inputs_of(layout: TrajectoryLayout, window: int = 2, context_dim: int = 0) -> int:
        """Inputs of the tilt network; the base's network sees `obs_dim` fewer."""
        return layout.feature_dim + (window - 1) * (layout.act_dim + layout.obs_dim) + context_dim

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of trajectories: `x` `(B, T, D)`, `context` `(B, context_dim)` or None, to `(B,)`."""
        base, tilt = self.split(x, context)
        return base + tilt

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base and tilt, summed along the trajectory, each `(B,)`."""
        inputs, displacement = self.windows(x, context)
        if self.base is None:
            tilt = self.network(torch.cat([inputs, displacement], dim=-1)).squeeze(-1).sum(dim=1)
            return torch.zeros_like(tilt), tilt
        # One pass through the base serves both: the tilt sees the residual, so that it can shape the density
        # at the base's own (possibly very fine) scale. asinh keeps far-away samples within its range.
        residual = self.base.residual(inputs, displacement)
        tilt = self.network(torch.cat([inputs, torch.asinh(residual)], dim=-1)).squeeze(-1)
        return 0.5 * residual.square().sum(dim=(1, 2)), tilt.sum(dim=1)

    def windows(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Every window of `x` as the base sees it.

        Returns:
            inputs `(B, T-window+1, inputs - obs_dim)`: everything but the last displacement, and
            displacement `(B, T-window+1, obs_dim)`: the last one, in units of the data's.

        """
        self.layout.check("x", x)
        require(x.shape[1] >= self.window, "x", given=f"{x.shape[1]} rows", expected=f">= {self.window} rows")
        states, actions = self.layout.states(x), self.layout.actions(x)
        count = x.shape[1] - self.window + 1
        steps = self.layout.difference(states[:, 1:], states[:, :-1]) / self.displacement_scale
        parts = [self.layout.features(states[:, :count])]
        parts += [actions[:, i : i + count] for i in range(self.window - 1)]
        parts += [steps[:, i : i + count] for i in range(self.window - 2)]
        if self.context_dim:
            parts.append(self._context(x, context)[:, None].expand(-1, count, -1))
        return torch.cat(parts, dim=-1), steps[:, self.window - 2 :]

    def _context(self, x: Tensor, context: Tensor | None) -> Tensor:
        require(context is not None, "context", given=None, expected=f"shape ({len(x)}, {self.context_dim})")
        assert context is not None
        require_shape("context", context, (x.shape[0], self.context_dim))
        return context

    def expected_next(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """State that the base expects after the last full window of `x`: `(B, obs_dim)`.

        Args:
            x: `(B, window-1, D)` the rows before it.
            context: as in `forward`.

        """
        last = self.layout.states(x)[:, -1]
        if self.base is None:
            return last
        ghost = torch.cat([x, x[:, -1:]], dim=1)
        inputs, _ = self.windows(ghost, context)
        return last + self.base.mean(inputs[:, -1]) * self.displacement_scale

    def next_deviation(self) -> Tensor:
        """Deviation `(obs_dim,)` of the next state under the base, in the units of `x`: a natural step size."""
        return self.displacement_scale * (1.0 if self.base is None else self.base.deviation)


class OnStates(Energy):
    """An energy over states alone, as a term of one over states and actions.

    Args:
        energy: over trajectories of states `(B, T, obs_dim)`.
        layout: of the trajectories `(B, T, D)` that it is to rate.

    """

    def __init__(self, energy: Energy, layout: TrajectoryLayout) -> None:
        super().__init__()
        self.energy, self.layout = energy, layout

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of the states of trajectories `(B, T, D) -> (B,)`."""
        self.layout.check("x", x)
        return self.energy(self.layout.states(x), context)


class WindowEnergy(Energy):
    """One network over the whole window: features, actions and displacements of every row.

    Args:
        layout: meaning of the coordinates.
        network: `(B, T, channels) -> (B, 1)`; None for a `TemporalConvolution`. `channels_of` gives `channels`.
        displacement_scale: `(obs_dim,)` the data's deviation of one displacement, in the units of `x`.
        context_dim: length of the context; 0 for none.

    """

    displacement_scale: Tensor

    def __init__(
        self,
        layout: TrajectoryLayout,
        network: nn.Module | None = None,
        *,
        displacement_scale: Tensor | None = None,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.context_dim = context_dim
        channels = self.channels_of(layout, context_dim)
        self.network = TemporalConvolution(channels) if network is None else network
        self.register_buffer("displacement_scale", _displacement_scale(layout, displacement_scale))

    @staticmethod
    def channels_of(layout: TrajectoryLayout, context_dim: int = 0) -> int:
        """Channels of the network's input."""
        return layout.feature_dim + layout.act_dim + layout.obs_dim + context_dim

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of windows: `x` `(B, T, D)`, `context` `(B, context_dim)` or None, to `(B,)`."""
        self.layout.check("x", x)
        states = self.layout.states(x)
        before = torch.cat([states[:, :1], states[:, :-1]], dim=1)
        steps = self.layout.difference(states, before) / self.displacement_scale
        parts = [self.layout.features(states), self.layout.actions(x), steps]
        if self.context_dim:
            require(context is not None, "context", given=None, expected=f"({len(x)}, {self.context_dim})")
            assert context is not None
            require_shape("context", context, (x.shape[0], self.context_dim))
            parts.append(context[:, None].expand(-1, x.shape[1], -1))
        return self.network(torch.cat(parts, dim=-1)).squeeze(-1)


def _displacement_scale(layout: TrajectoryLayout, given: Tensor | None) -> Tensor:
    scale = torch.ones(layout.obs_dim) if given is None else given.detach().float().clone()
    require_shape("displacement_scale", scale, (layout.obs_dim,))
    require(bool((scale > 0).all()), "displacement_scale", given=scale.tolist(), expected="positive figures")
    return scale
