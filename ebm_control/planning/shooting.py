"""Single shooting: plan over actions only, with the states predicted by a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from ebm_control.checks import require
from ebm_control.energies.base import Energy
from ebm_control.energies.base_measure import GaussianBase
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.trajectory import TransitionEnergy
from ebm_control.energies.transition_arrays import TransitionArrays

_FEW = 2**12  # numbers up to which a rollout computes with NumPy arrays


class Dynamics(Protocol):
    """A model that predicts states from actions: one future, or several particles."""

    @property
    def layout(self) -> TrajectoryLayout:
        """Meaning of the coordinates of its trajectories."""
        ...

    def rollout(self, x: Tensor) -> Tensor:
        """Trajectories `x` `(B, T, D)` with every state after the first replaced by the predicted ones.

        Deterministic: any noise is drawn beforehand, so that a sampler evaluates one fixed energy.

        Returns:
            `(B, P, T, D)` with `P` particles per trajectory, each under the actions of `x`.

        """
        ...


class ExpectedDynamics(nn.Module):
    """Successive means of the next state under the base measure of a transition energy: one particle.

    Args:
        energy: energy of window 2 whose base predicts the next state (for example a `RegressionBase`).
        context: `(context_dim,)` context of `energy`, or None.

    Raises:
        InputError: the energy has another window, no actions, or no base that predicts the next state.

    """

    def __init__(self, energy: TransitionEnergy, context: Tensor | None = None) -> None:
        super().__init__()
        # A base that predicts rest everywhere would silently leave every plan at its start.
        require(
            isinstance(energy, TransitionEnergy)
            and energy.window == 2
            and energy.layout.act_dim > 0
            and not isinstance(energy.base, GaussianBase | None),
            "energy",
            given=_describe(energy),
            expected="a TransitionEnergy of window 2 with actions, whose base predicts the next state "
            "(a RegressionBase, say)",
        )
        self.energy, self.context = energy, context

    @property
    def layout(self) -> TrajectoryLayout:
        """Layout of the trajectories of its energy."""
        return self.energy.layout

    def rollout(self, x: Tensor) -> Tensor:
        """Mean trajectories, `(B, T, D) -> (B, 1, T, D)`; see `Dynamics`."""
        context = None if self.context is None else self.context.to(x).expand(len(x), -1)
        found = self._on_arrays(x, context)
        if found is not None:
            path = x.detach().numpy().copy()
            for t in range(x.shape[1] - 1):
                path[:, t + 1, : self.layout.obs_dim] = found.expected_next(path[:, t])
            return torch.from_numpy(path)[:, None]
        return unroll(x, self.layout, lambda row, _: self.energy.expected_next(row[:, None], context))[
            :, None
        ]

    def _on_arrays(self, x: Tensor, context: Tensor | None) -> TransitionArrays | None:
        """The energy as a function of arrays, for few time steps without a graph; None if it has no such form."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.numel() > _FEW:
            return None
        own = type(self.energy).expected_next is TransitionEnergy.expected_next
        found = self.energy.on_arrays(x, context) if own else None
        return found if isinstance(found, TransitionArrays) else None


class AlongMean(Energy):
    """A transition energy of trajectories that its own base predicted, so that only the tilt counts.

    The residuals of the base are zero there, up to rounding, and need not be computed again.

    Args:
        energy: energy of clean data, of the kind that `ExpectedDynamics` takes.

    """

    def __init__(self, energy: TransitionEnergy) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of predicted trajectories, `(B, T, D) -> (B,)`."""
        energy = self.energy
        inputs, displacement = energy.windows(x, context)
        tilt: Tensor = energy.network(torch.cat([inputs, torch.zeros_like(displacement)], dim=-1))
        return energy.tilt_weight * tilt.sum(dim=(1, 2))


class RolledOut(Energy):
    """An energy of action sequences: the energy of the trajectories that they lead to, averaged over particles.

    States after the first are replaced by the successive predictions of `dynamics`, so only actions have a gradient.
    Gradient-free samplers need this: noise on states would violate every transition at once.

    Args:
        energy: energy of trajectories `(B, T, D)`, including costs. The particles of a chain are adjacent in its
            batch, so that costs with tensors of `N` problems match each particle with its problem.
        dynamics: predicts the states.

    """

    def __init__(self, energy: Energy, dynamics: Dynamics) -> None:
        super().__init__()
        self.energy, self.dynamics = energy, dynamics

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean energy of the rolled-out trajectories, `(B, T, D) -> (B,)`."""
        paths = self.dynamics.rollout(x)
        particles = paths.shape[1]
        if context is not None:
            context = context.repeat_interleave(particles, dim=0)
        return self.energy(paths.flatten(0, 1), context).unflatten(0, (-1, particles)).mean(dim=1)

    def roll(self, x: Tensor) -> Tensor:
        """`x` `(B, T, D)` with every state after the first replaced by the mean over particles."""
        layout, paths = self.dynamics.layout, self.dynamics.rollout(x)
        states = layout.states(paths)
        # As displacements from one particle, so that periodic coordinates are averaged in the shorter direction.
        mean = states[:, 0] + layout.difference(states, states[:, :1]).mean(dim=1)
        return torch.cat([mean, layout.actions(x)], dim=-1)


def unroll(x: Tensor, layout: TrajectoryLayout, step: Callable[[Tensor, int], Tensor]) -> Tensor:
    """`x` `(..., T, D)` with the state of time step `t + 1` replaced by `step(x[..., t, :], t)`, for each `t` in turn.

    `step` takes a time step `(..., D)` and its index, and returns the next state `(..., obs_dim)`.
    """
    rows = [x[..., 0, :]]
    for t in range(x.shape[-2] - 1):
        rows.append(torch.cat([step(rows[-1], t), layout.actions(x)[..., t + 1, :]], dim=-1))
    return torch.stack(rows, dim=-2)


def _describe(energy: Energy) -> str:
    if not isinstance(energy, TransitionEnergy):
        return type(energy).__name__
    base, actions = type(energy.base).__name__, energy.layout.act_dim
    return f"window {energy.window}, {actions} actions, base {base}"
