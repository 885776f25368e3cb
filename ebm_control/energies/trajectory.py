"""Energies of transitions, summed along trajectories `(B, T, D)`."""

from __future__ import annotations

from collections.abc import Callable
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
from ebm_control.energies.arrays import ArrayEnergy
from ebm_control.energies.base import SplitEnergy
from ebm_control.energies.base_measure import BaseMeasure, RegressionBase
from ebm_control.energies.curvature import Quadratic
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import MLP, following_inputs, outputs_and_gradient
from ebm_control.energies.noise import noised_residual, split_context
from ebm_control.energies.transition_arrays import transition_arrays
from ebm_control.energies.transition_curvature import Windows, transition_bands
from ebm_control.energies.written_out import plainly_called, unchanged
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
        tilt_weight: factor of the tilt; 1 but for plans, see `with_std`.

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
        check_context(context_dim, noise)
        self.layout = layout
        self.window = window
        self.context_dim = context_dim
        self.noise = noise
        self.tilt_weight = 1.0
        inputs = self.inputs_of(layout, window, context_dim, noisy=noise is not None)
        self.network = MLP(inputs) if network is None else network
        self.base = base
        self.register_buffer("displacement_scale", displacement_scale_of(layout, displacement_scale))
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

    def with_std(self, std: Tensor, tilt_weight: float = 1.0) -> TransitionEnergy:
        """The same energy with shared networks, but another std `(obs_dim,)` of the base and weight of the tilt.

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
        made.tilt_weight = self.tilt_weight * float(tilt_weight)
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
        tilt = self.tilt_weight * tilt.squeeze(-1).sum(dim=1)
        if self.base is None and noise is None:
            return torch.zeros_like(tilt), tilt
        return 0.5 * residual.square().sum(dim=(1, 2)), tilt

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy `(B,)` and gradient of trajectories `(B, T, D)`, written out; see `Energy.value_and_gradient`."""
        if self.base is not None and type(self.base).residual is not BaseMeasure.residual:
            return super().value_and_gradient(x, context)
        energy, gradient, _ = self._written_out(x, context)
        return energy, gradient

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        """Energy, gradient and the Gauss-Newton curvature of the base; see `Energy.quadratic`.

        The residuals of the base in its stds, with derivatives `J`, have the curvature `JᵀJ`. The tilt does not count:
        it is smooth at the scale of the residuals, and need not be convex.
        """
        if self.base is not None and type(self.base).residual is not BaseMeasure.residual:
            return super().quadratic(x, context)
        with torch.no_grad():
            energy, gradient, windows = self._written_out(x.detach(), context, slopes=True)
            bands = transition_bands(self, windows)
        return Quadratic(energy, gradient.to(x.dtype), tuple(band.to(x.dtype) for band in bands))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the Gauss-Newton curvature of the base; see `quadratic`."""
        return self.quadratic(x, context).bands

    def on_arrays(self, x: Tensor, context: Tensor | None = None) -> ArrayEnergy | None:
        """For two states, a base that is a regression, a tilt that is an `MLP`, and float32 on the CPU."""
        if self.window != 2 or self.noise is not None or not unchanged(self):
            return None
        return transition_arrays(self, x, context)

    def _written_out(
        self, x: Tensor, context: Tensor | None, *, slopes: bool = False
    ) -> tuple[Tensor, Tensor, Windows]:
        """Energy `(B,)`, gradient, and the windows they were computed from, if asked with the slopes of the base."""
        base = self.base
        self.layout.check("x", x)
        x, context = cast_like(self.displacement_scale, x, context)
        known, noise = split_context(x, context, self.context_dim, self.noise is not None)
        inputs, residual = self.windows(x, known)
        pullback = None
        if base is not None:
            mean, pullback = base.mean_with_pullback(inputs)
            residual = (residual - mean) / base.std
        width = inputs.shape[-1]
        if noise is not None:
            residual, rate = noised_residual(residual, noise[:, None])
            rate = rate.expand(-1, residual.shape[1], -1)
            seen = torch.cat([inputs, residual, noise[:, None].expand_as(rate)], dim=-1)
            rate = self.tilt_weight * rate
            outputs, gradient = outputs_and_gradient(self.network, seen, rate)
            outputs, by_residual = outputs * rate, gradient[..., width:-1] + residual
        else:
            shown = residual if base is None else torch.asinh(residual)
            outputs, gradient = outputs_and_gradient(self.network, torch.cat([inputs, shown], dim=-1))
            if self.tilt_weight != 1:
                outputs, gradient = self.tilt_weight * outputs, self.tilt_weight * gradient
            by_residual = gradient[..., width:]
            if base is not None:
                by_residual = torch.addcdiv(residual, by_residual, (residual.square() + 1).sqrt())
        energy = outputs.sum(dim=(1, 2))
        if base is not None or noise is not None:
            energy = energy + 0.5 * residual.square().sum(dim=(1, 2))
        if noise is not None:
            by_residual = by_residual / (1 + noise[:, None].exp().square()).sqrt()
        by_inputs = gradient[..., :width]
        by_mean = None
        if base is not None and pullback is not None:
            by_residual = by_residual / base.std
            if slopes:  # of each coordinate, in one pass with the gradient
                each = torch.eye(self.layout.obs_dim, device=x.device, dtype=x.dtype)[:, None, None]
                asked = torch.cat([each.expand(-1, *inputs.shape[:2], -1), by_residual[None]])
                found = pullback(asked)
                by_mean, by_inputs = found[:-1], by_inputs - found[-1]
            else:
                by_inputs = by_inputs - pullback(by_residual)
        gradient = self._windows_gradient(x, by_inputs, by_residual)
        return energy, gradient, Windows(x, inputs, noise, by_mean)

    def restricted(
        self, x: Tensor, free: Tensor | None, context: Tensor | None = None
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """For one window of which only the last state is free, as in training: the base's mean is then fixed."""
        base, layout = self.base, self.layout
        known = (
            free is not None
            and self.noise is None
            and self.tilt_weight == 1
            and type(self).value_and_gradient is TransitionEnergy.value_and_gradient
            and plainly_called(self)
            and (base is None or type(base).residual is BaseMeasure.residual)
            and x.dtype == self.displacement_scale.dtype
            and x.shape[1:] == (self.window, layout.dim)
            and not free.expand(x.shape)[:, :-1].any()
        )
        if not known:
            return None
        inputs, _ = self.windows(x, context)
        unit, expected = self.displacement_scale, None
        if base is not None:
            expected, unit = base.mean(inputs)[:, 0] / base.std, unit * base.std
        before, per_unit = layout.states(x)[:, -2], 1 / unit
        network = following_inputs(self.network, inputs[:, 0], layout.obs_dim)
        if network is None:
            return None

        def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
            residual = layout.difference(layout.states(x)[:, -1], before) * per_unit
            gradient = torch.zeros_like(x)
            place = layout.states(gradient)[:, -1]
            if expected is None:
                energy, slope = network(residual)
                torch.mul(slope, per_unit, out=place)
                return energy, gradient
            residual -= expected
            energy, slope = network(residual.asinh())
            torch.addcdiv(residual, slope, (residual.square() + 1).sqrt(), out=slope)
            torch.mul(slope, per_unit, out=place)
            return energy.add_(residual.square().sum(dim=1), alpha=0.5), gradient

        return evaluate

    def _windows_gradient(self, x: Tensor, by_inputs: Tensor, by_displacement: Tensor) -> Tensor:
        """Gradient with respect to `x` from those with respect to what `windows` returns."""
        layout, count, features = self.layout, by_inputs.shape[1], self.layout.feature_dim
        acts, steps = layout.act_dim, self.window - 1
        gradient = x.new_zeros(x.shape)
        states = layout.states(gradient)
        states[:, :count] = layout.features_gradient(layout.states(x)[:, :count], by_inputs[..., :features])
        actions = by_inputs[..., features : features + steps * acts]
        for i in range(steps if acts else 0):
            layout.actions(gradient)[:, i : i + count] += actions[..., i * acts : (i + 1) * acts]
        moves = by_inputs[..., features + steps * acts :]
        for i in range(steps):
            last = i == steps - 1
            move = by_displacement if last else moves[..., i * layout.obs_dim : (i + 1) * layout.obs_dim]
            move = move / self.displacement_scale
            states[:, i + 1 : i + 1 + count] += move
            states[:, i : i + count] -= move
        return gradient

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


def displacement_scale_of(layout: TrajectoryLayout, given: Tensor | None) -> Tensor:
    """The given std `(obs_dim,)` of displacements as a float32 copy; ones for None."""
    scale = (
        torch.ones(layout.obs_dim, dtype=torch.float32) if given is None else given.detach().float().clone()
    )
    require_shape("displacement_scale", scale, (layout.obs_dim,))
    require_positive("displacement_scale", scale)
    return scale


def check_context(context_dim: int, noise: tuple[float, float] | None) -> None:
    """Raise `InputError` unless these can be an energy's context length and noise levels."""
    require_number("context_dim", context_dim, 0, whole=True)
    if noise is not None:
        require_levels("noise", noise)
