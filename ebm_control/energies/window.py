"""Energies of whole windows of trajectories `(B, T, D)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebm_control.checks import require
from ebm_control.energies.base import SplitEnergy
from ebm_control.energies.base_measure import BaseMeasure
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import TemporalConvolution, outputs_and_gradient
from ebm_control.energies.noise import noised_residual, split_context
from ebm_control.energies.trajectory import check_context, displacement_scale_of
from ebm_control.tensors import cast_like, ordinary_tensors


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
        check_context(context_dim, noise)
        self.layout = layout
        self.context_dim = context_dim
        self.base, self.noise = base, noise
        channels = self.channels_of(layout, context_dim, base=base is not None, noisy=noise is not None)
        self.network = TemporalConvolution(channels) if network is None else network
        self.register_buffer("displacement_scale", displacement_scale_of(layout, displacement_scale))

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

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy `(B,)` and gradient of windows `(B, T, D)`, written out; see `Energy.value_and_gradient`."""
        base, layout = self.base, self.layout
        if base is not None and type(base).residual is not BaseMeasure.residual:
            return super().value_and_gradient(x, context)
        layout.check("x", x)
        x, context = cast_like(self.displacement_scale, x, context)
        known, noise = split_context(x, context, self.context_dim, self.noise is not None)
        if base is None:
            outputs, by_rows = outputs_and_gradient(
                self.network, self._conditioned(self._rows(x), known, noise)
            )
            return outputs.squeeze(-1), self._rows_gradient(x, by_rows)
        inputs, displacement = self.windows(x, known)
        mean, pullback = base.mean_with_pullback(inputs)
        residual = ((displacement - mean) / base.std).flatten(1)
        rate = wide = torch.ones_like(residual[:, :1])
        if noise is not None:
            wide = (1 + noise.exp().square()).sqrt()
            residual, rate = noised_residual(residual, noise)
        shown = residual if noise is not None else torch.asinh(residual)
        shape, features, acts = (len(x), x.shape[1] - 1, layout.obs_dim), layout.feature_dim, layout.act_dim
        first = layout.features(layout.states(x[:, :1])).expand(-1, shape[1], -1)
        expected = mean.reshape(shape) / shape[1] ** 0.5
        rows = torch.cat([first, layout.actions(x)[:, :-1], expected, shown.reshape(shape)], dim=-1)
        outputs, by_rows = outputs_and_gradient(self.network, self._conditioned(rows, known, noise), rate)
        by_first, by_actions, by_mean, by_shown, _ = by_rows.split(
            [features, acts, shape[2], shape[2], by_rows.shape[2] - features - acts - 2 * shape[2]], dim=2
        )
        by_shown = by_shown.flatten(1)
        slope = by_shown if noise is not None else by_shown / (residual.square() + 1).sqrt()
        by_displacement = (residual + slope) / wide / base.std
        by_inputs = pullback((by_mean.flatten(1) / shape[1] ** 0.5 - by_displacement)[:, None])[:, 0]
        move = by_displacement.reshape(shape) / self.displacement_scale
        gradient = x.new_zeros(x.shape)
        by_features = by_first.sum(dim=1) + by_inputs[:, :features]
        layout.states(gradient)[:, 0] = layout.features_gradient(layout.states(x)[:, 0], by_features)
        layout.states(gradient)[:, 0] -= move.sum(dim=1)
        layout.states(gradient)[:, 1:] = move
        of_actions = by_inputs[:, features : features + shape[1] * acts].reshape(len(x), shape[1], acts)
        layout.actions(gradient)[:, :-1] = by_actions + of_actions
        return 0.5 * residual.square().sum(dim=1) + outputs[:, 0] * rate[:, 0], gradient

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

    def _rows_gradient(self, x: Tensor, by_rows: Tensor) -> Tensor:
        """Gradient with respect to `x` from that with respect to what `_rows` returns."""
        layout, features = self.layout, self.layout.feature_dim
        gradient = torch.zeros_like(x)
        states, by_steps = layout.states(gradient), by_rows[..., features + layout.act_dim :]
        move = by_steps[..., : layout.obs_dim] / self.displacement_scale
        states.copy_(layout.features_gradient(layout.states(x), by_rows[..., :features]))
        layout.actions(gradient).copy_(by_rows[..., features : features + layout.act_dim])
        states[:, 1:] += move[:, 1:]
        states[:, :-1] -= move[:, 1:]
        return gradient

    def _conditioned(self, rows: Tensor, context: Tensor | None, noise: Tensor | None) -> Tensor:
        condition = [
            part[:, None].expand(-1, rows.shape[1], -1) for part in (context, noise) if part is not None
        ]
        return torch.cat([rows, *condition], dim=-1)

    def _tilt(self, rows: Tensor, context: Tensor | None, noise: Tensor | None) -> Tensor:
        return self.network(self._conditioned(rows, context, noise)).squeeze(-1)
