"""Energies over trajectories `(B, T, D)`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ebm_control.checks import (
    require,
    require_is,
    require_levels,
    require_number,
    require_positive,
    require_shape,
)
from ebm_control.energies.base import SplitEnergy
from ebm_control.energies.base_measure import BaseMeasure, RegressionBase
from ebm_control.energies.curvature import Quadratic
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import MLP, TemporalConvolution
from ebm_control.energies.noise import noised_residual, split_context
from ebm_control.energies.transition_curvature import transition_quadratic
from ebm_control.tensors import cast_like, ordinary_tensors


class TransitionEnergy(SplitEnergy):
    """A network over short windows, summed along the trajectory: `E(τ) = Σ_t base(w_t) + f(w_t)`.

    Trajectories and contexts of another dtype are cast to that of the weights.

    The inputs for `w_t = (x_t, ..., x_{t+window-1})` are the features of its first state, the actions of all time
    steps but the last (none if the layout has no actions: the energy is then over states only), the displacements
    between its states in units of the data's own displacement, and the context. With `window=2` this is
    `e(s, a, Δs)`, the transition energy of Du, Lin & Mordatch 2019: low values mark transitions that the
    dynamics allow.

    With `noise` it is the energy of windows whose last displacement has noise of std σ (in stds of the base); the
    context ends with log σ. The base is then a Gaussian convolved with the noise, and the tilt grows as 1/σ, as a
    score does (Song & Ermon 2019).

    Args:
        layout: layout of the trajectories.
        network: `(..., inputs) -> (..., 1)`, the tilt `f`; None for `MLP(inputs)`. `inputs_of` gives `inputs`.
        window: number of states in a window, at least 2.
        base: Gaussian over the last displacement of a window; None for none.
        displacement_scale: `(obs_dim,)` std of the data's one-step displacements, in the units of `x`.
        context_dim: length of the context without the noise level (for example 1 for a time gap); 0 for none.
        noise: least and greatest noise level; None for clean data.

    Attributes:
        steady: `(obs_dim,)` mask of coordinates that always move by the same displacement: constants and clocks.
        rate: `(obs_dim,)` that displacement, in the units of `x`; 0 elsewhere.

    """

    displacement_scale: Tensor
    steady: Tensor
    rate: Tensor

    @ordinary_tensors()
    def __init__(
        self,
        layout: TrajectoryLayout,
        network: nn.Module | None = None,
        *,
        window: int = 2,
        base: BaseMeasure | None = None,
        displacement_scale: Tensor | None = None,
        context_dim: int = 0,
        noise: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        require_number("window", window, 2, whole=True)
        _check_context(context_dim, noise)
        self.layout = layout
        self.window = window
        self.context_dim = context_dim
        self.noise = noise
        inputs = self.inputs_of(layout, window, context_dim, noisy=noise is not None)
        self.network = MLP(inputs) if network is None else network
        self.base = base
        self.register_buffer("displacement_scale", _displacement_scale(layout, displacement_scale))
        self.register_buffer("steady", torch.zeros(layout.obs_dim, dtype=torch.bool))
        self.register_buffer("rate", torch.zeros(layout.obs_dim))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Older checkpoints lack these two buffers.
        for name in ("steady", "rate"):
            state_dict.setdefault(prefix + name, torch.zeros_like(getattr(self, name)))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def set_steady(self, steady: Tensor, rate: Tensor) -> None:
        """Set which coordinates always move by the same displacement, and that displacement; both `(obs_dim,)`.

        A constant moves by 0, a clock by its step. A planner need not plan them.
        """
        require_shape("steady", steady, (self.layout.obs_dim,))
        require_shape("rate", rate, (self.layout.obs_dim,))
        self.steady.copy_(steady)
        self.rate.copy_(torch.where(steady, rate.to(self.rate), torch.zeros_like(self.rate)))

    def with_std(self, std: Tensor) -> TransitionEnergy:
        """The same energy with shared networks, but another std `(obs_dim,)` of the base.

        Raises:
            InputError: the base is not a `RegressionBase`.

        """
        base = require_is(self.base, RegressionBase, "base")
        softer = RegressionBase(base.network, self.layout.obs_dim).to(std)
        softer.set_std(std)
        made = TransitionEnergy(
            self.layout,
            self.network,
            window=self.window,
            base=softer,
            displacement_scale=self.displacement_scale,
            context_dim=self.context_dim,
            noise=self.noise,
        ).to(self.displacement_scale)
        made.set_steady(self.steady, self.rate)
        return made.train(self.training)

    @staticmethod
    def inputs_of(
        layout: TrajectoryLayout, window: int = 2, context_dim: int = 0, *, noisy: bool = False
    ) -> int:
        """Inputs of the tilt network; the base network has `obs_dim` fewer and does not get the noise level."""
        return layout.feature_dim + (window - 1) * (layout.act_dim + layout.obs_dim) + context_dim + noisy

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base and tilt of trajectories `(B, T, D)`, contexts `(B, context_dim)`, summed over windows: `(B,)` each."""
        self.layout.check("x", x)
        x, context = cast_like(self.displacement_scale, x, context)
        known, noise = split_context(x, context, self.context_dim, self.noise is not None)
        inputs, displacement = self.windows(x, known)
        # One pass through the base serves both: the tilt gets the residual, so that it can shape the density
        # at the base's own (possibly very fine) scale. asinh keeps far-away samples within its range.
        residual = displacement if self.base is None else self.base.residual(inputs, displacement)
        if noise is not None:
            residual, rate = noised_residual(residual, noise[:, None])
            condition = noise[:, None].expand(-1, residual.shape[1], -1)
            tilt = self.network(torch.cat([inputs, residual, condition], dim=-1)) * rate
        else:
            shown = residual if self.base is None else torch.asinh(residual)
            tilt = self.network(torch.cat([inputs, shown], dim=-1))
        tilt = tilt.squeeze(-1).sum(dim=1)
        if self.base is None and noise is None:
            return torch.zeros_like(tilt), tilt
        return 0.5 * residual.square().sum(dim=(1, 2)), tilt

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        """Energy, gradient and Gauss-Newton curvature; see `transition_quadratic`."""
        return transition_quadratic(self, x, context)

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the Gauss-Newton curvature; see `transition_quadratic`."""
        return self.quadratic(x, context).bands

    def windows(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The base's inputs and outputs for every window of `x`.

        Args:
            x: `(B, T, D)`.
            context: `(B, context_dim)` without the noise level, or None.

        Returns:
            inputs `(B, T-window+1, inputs - obs_dim)`: everything except the last displacement, and
            displacement `(B, T-window+1, obs_dim)`: the last one, in units of the data's displacements.

        """
        self.layout.check("x", x)
        x, context = cast_like(self.displacement_scale, x, context)
        require(x.shape[1] >= self.window, "x", given=f"{x.shape[1]} rows", expected=f">= {self.window} rows")
        states, actions = self.layout.states(x), self.layout.actions(x)
        count = x.shape[1] - self.window + 1
        steps = self.layout.difference(states[:, 1:], states[:, :-1]) / self.displacement_scale
        parts = [self.layout.features(states[:, :count])]
        parts += [actions[:, i : i + count] for i in range(self.window - 1)]
        parts += [steps[:, i : i + count] for i in range(self.window - 2)]
        if self.context_dim:
            known, _ = split_context(x, context, self.context_dim, noisy=False)
            assert known is not None
            parts.append(known[:, None].expand(-1, count, -1))
        return torch.cat(parts, dim=-1), steps[:, self.window - 2 :]

    def expected_next(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean of the base for the state after `x`: `(B, obs_dim)`.

        Args:
            x: `(B, window-1, D)` the preceding time steps.
            context: `(B, context_dim)` or None.

        """
        last = self.layout.states(x)[:, -1]
        if self.base is None:
            return last
        ghost = torch.cat([x, x[:, -1:]], dim=1)
        inputs, _ = self.windows(ghost, context)
        return last + self.base.mean(inputs[:, -1]) * self.displacement_scale

    def next_std(self) -> Tensor:
        """Std `(obs_dim,)` of the next state under the base, in the units of `x`: a natural step size."""
        return self.displacement_scale * (1.0 if self.base is None else self.base.std)

    def coordinate_scale(self) -> Tensor:
        """Natural unit `(D,)` of each coordinate of a time step: `next_std` for states, 1 for actions."""
        scale = self.next_std()
        return torch.cat([scale, scale.new_ones(self.layout.act_dim)])

    def propose(
        self,
        x: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        spread: float = 1.0,
    ) -> Tensor:
        """Windows `(B, window, D)` with the last state redrawn from the base (without one: around the state before).

        Args:
            x: `(B, window, D)`; everything except the last state stays.
            context: `(B, context_dim)` or None.
            generator: random generator of the draws.
            spread: std of the draws, in stds of the base; 0 for the mean.

        """
        mean, shape = self.expected_next(x[:, :-1], context), (len(x), self.layout.obs_dim)
        drawn = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
        state = mean + spread * self.next_std() * drawn
        last = torch.cat([state, x[:, -1, self.layout.obs_dim :]], dim=-1)
        return torch.cat([x[:, :-1], last[:, None]], dim=1)


class WindowEnergy(SplitEnergy):
    """One network over the whole window, conditioned on its first state.

    Without a base the network's inputs per time step are the state's features, the action and the displacement that
    led there. A base is a Gaussian over the displacements of all later states from the first. With it, the inputs per
    time step are the first state's features, the action, the base's mean and the residual in stds.
    For `noise` and dtypes see `TransitionEnergy`.

    Args:
        layout: layout of the trajectories.
        network: `(B, T, channels) -> (B, 1)`; None for a `TemporalConvolution`. `channels_of` gives `channels`.
        displacement_scale: `(obs_dim,)` std of the data's one-step displacements, in the units of `x`.
        context_dim: length of the context without the noise level; 0 for none.
        base: Gaussian over `(T-1) * obs_dim` displacements in units of the data's; None for none. It fixes T.
        noise: least and greatest noise level; None for clean data.

    """

    displacement_scale: Tensor

    @ordinary_tensors()
    def __init__(
        self,
        layout: TrajectoryLayout,
        network: nn.Module | None = None,
        *,
        displacement_scale: Tensor | None = None,
        context_dim: int = 0,
        base: BaseMeasure | None = None,
        noise: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        require(base is not None or noise is None, "noise", given=noise, expected="None without a base")
        _check_context(context_dim, noise)
        self.layout = layout
        self.context_dim = context_dim
        self.base, self.noise = base, noise
        channels = self.channels_of(layout, context_dim, base=base is not None, noisy=noise is not None)
        self.network = TemporalConvolution(channels) if network is None else network
        self.register_buffer("displacement_scale", _displacement_scale(layout, displacement_scale))

    @staticmethod
    def channels_of(
        layout: TrajectoryLayout, context_dim: int = 0, *, base: bool = False, noisy: bool = False
    ) -> int:
        """Input channels of `network` per time step of the window."""
        seen = 2 * layout.obs_dim if base else layout.obs_dim
        return layout.feature_dim + layout.act_dim + seen + context_dim + noisy

    @staticmethod
    def inputs_of(layout: TrajectoryLayout, window: int, context_dim: int = 0) -> int:
        """Inputs of the base network: the first state, all actions but the last time step's and the context."""
        return layout.feature_dim + (window - 1) * layout.act_dim + context_dim

    @property
    def window(self) -> int | None:
        """Number of time steps `T` that the base fixes; None without a base."""
        return None if self.base is None else self.base.std.numel() // self.layout.obs_dim + 1

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base and tilt of windows `(B, T, D)` and contexts `(B, context_dim)`: `(B,)` each."""
        self.layout.check("x", x)
        x, context = cast_like(self.displacement_scale, x, context)
        known, noise = split_context(x, context, self.context_dim, self.noise is not None)
        if self.base is None:
            tilt = self._tilt(self._rows(x), known, noise)
            return torch.zeros_like(tilt), tilt
        inputs, displacement = self.windows(x, known)
        residual = self.base.residual(inputs, displacement).flatten(1)
        rate = torch.ones_like(residual[:, :1])
        if noise is None:
            shown = torch.asinh(residual)
        else:
            residual, rate = noised_residual(residual, noise)
            shown = residual
        # One time step per later state, in the base's units, each with the first state's features.
        shape = (len(x), x.shape[1] - 1, self.layout.obs_dim)
        expected = self.base.mean(inputs).reshape(shape) / shape[1] ** 0.5
        first = self.layout.features(self.layout.states(x[:, :1])).expand(-1, shape[1], -1)
        rows = torch.cat([first, self.layout.actions(x)[:, :-1], expected, shown.reshape(shape)], dim=-1)
        return 0.5 * residual.square().sum(dim=1), self._tilt(rows, known, noise) * rate[:, 0]

    def windows(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The base's inputs and outputs for a window.

        Args:
            x: `(B, T, D)`.
            context: `(B, context_dim)` without the noise level, or None.

        Returns:
            inputs `(B, 1, inputs)`: first state's features, all actions but the last time step's and the context, and
            displacement `(B, 1, (T-1) * obs_dim)`: later states minus the first, in units of the data's displacements.

        """
        self.layout.check("x", x)
        x, context = cast_like(self.displacement_scale, x, context)
        rows = self.window
        require(
            rows is None or x.shape[1] == rows, "x", given=f"{x.shape[1]} rows", expected=f"the base's {rows}"
        )
        states = self.layout.states(x)
        steps = self.layout.difference(states[:, 1:], states[:, :1]) / self.displacement_scale
        parts = [self.layout.features(states[:, 0]), self.layout.actions(x)[:, :-1].flatten(1)]
        known, _ = split_context(x, context, self.context_dim, noisy=False)
        parts += [] if known is None else [known]
        return torch.cat(parts, dim=-1)[:, None], steps.flatten(1)[:, None]

    def expected(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Means of the base for the states after the first time step of `x` `(B, T, D)`: `(B, T-1, obs_dim)`."""
        first = self.layout.states(x[:, :1])
        if self.base is None:
            return first.expand(-1, x.shape[1] - 1, -1)
        mean = self.base.mean(self.windows(x, context)[0]).reshape(len(x), -1, self.layout.obs_dim)
        return first + mean * self.displacement_scale

    def next_std(self) -> Tensor:
        """Std of states under the base `(T-1, obs_dim)`, in the units of `x`; without a base `displacement_scale`."""
        if self.base is None:
            return self.displacement_scale
        return self.displacement_scale * self.base.std.reshape(-1, self.layout.obs_dim)

    def coordinate_scale(self) -> Tensor:
        """Natural unit of each coordinate: `(D,)`, or `(T, D)` with a base; 1 for actions and the first time step."""
        scale = self.next_std()
        scale = torch.cat([scale, scale.new_ones(*scale.shape[:-1], self.layout.act_dim)], dim=-1)
        return scale if scale.ndim == 1 else torch.cat([torch.ones_like(scale[:1]), scale])

    def propose(
        self,
        x: Tensor,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        spread: float = 1.0,
    ) -> Tensor:
        """Windows `(B, T, D)` with all states but the first redrawn from the base (without one: as a random walk).

        For the arguments see `TransitionEnergy.propose`.
        """
        shape = (len(x), x.shape[1] - 1, self.layout.obs_dim)
        drawn = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
        drawn = drawn.cumsum(dim=1) if self.base is None else drawn
        states = self.expected(x, context) + spread * self.next_std() * drawn
        return torch.cat([x[:, :1], torch.cat([states, x[:, 1:, self.layout.obs_dim :]], dim=-1)], dim=1)

    def _rows(self, x: Tensor) -> Tensor:
        states = self.layout.states(x)
        before = torch.cat([states[:, :1], states[:, :-1]], dim=1)
        steps = self.layout.difference(states, before) / self.displacement_scale
        return torch.cat([self.layout.features(states), self.layout.actions(x), steps], dim=-1)

    def _tilt(self, rows: Tensor, context: Tensor | None, noise: Tensor | None) -> Tensor:
        condition = [
            part[:, None].expand(-1, rows.shape[1], -1) for part in (context, noise) if part is not None
        ]
        return self.network(torch.cat([rows, *condition], dim=-1)).squeeze(-1)


def _displacement_scale(layout: TrajectoryLayout, given: Tensor | None) -> Tensor:
    scale = (
        torch.ones(layout.obs_dim, dtype=torch.float32) if given is None else given.detach().float().clone()
    )
    require_shape("displacement_scale", scale, (layout.obs_dim,))
    require_positive("displacement_scale", scale)
    return scale


def _check_context(context_dim: int, noise: tuple[float, float] | None) -> None:
    require_number("context_dim", context_dim, 0, whole=True)
    if noise is not None:
        require_levels("noise", noise)
