"""Single shooting: plan over actions alone, states following from them."""

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


class Dynamics(Protocol):
    """A model that says what states follow from actions: one future, or several particles."""

    @property
    def layout(self) -> TrajectoryLayout:
        """Meaning of the coordinates of its trajectories."""
        ...

    def rollout(self, x: Tensor) -> Tensor:
        """Trajectories `x` `(B, T, D)` with every state after the first replaced by those that follow.

        Deterministic: what noise there is was drawn beforehand, so that a sampler sees one energy.

        Returns:
            `(B, P, T, D)`, `P` particles a trajectory, each under the actions of `x`.

        """
        ...


class ExpectedDynamics(nn.Module):
    """The states that the base measure of a transition energy expects, one after the other: one particle.

    Args:
        energy: of window 2, its base one that predicts the next state (a `RegressionBase`, say).
        context: `(context_dim,)` of `energy`, or None.

    Raises:
        InputError: the energy has another window, no actions, or no base that predicts.

    """

    def __init__(self, energy: TransitionEnergy, context: Tensor | None = None) -> None:
        super().__init__()
        # A base that expects rest everywhere would leave every plan where it starts, and say nothing.
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
        """`(B, T, D) -> (B, 1, T, D)`, see `Dynamics`."""
        context = None if self.context is None else self.context.to(x).expand(len(x), -1)
        return unroll(x, self.layout, lambda row, _: self.energy.expected_next(row[:, None], context))[
            :, None
        ]


class RolledOut(Energy):
    """An energy of the actions: that of the trajectories which they lead to, averaged over particles.

    States after the first are replaced by those that `dynamics` predicts one after the other, so only actions
    have a gradient. Gradient-free samplers need this: noise on states would break every transition at once.

    Args:
        energy: over trajectories `(B, T, D)`, costs included. The particles of a chain reach it one beside the
            other, so costs with figures of `N` problems read them problem by problem.
        dynamics: says what states follow.

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
        """`x` `(B, T, D)` with every state after the first replaced by the particles' mean."""
        layout, paths = self.dynamics.layout, self.dynamics.rollout(x)
        states = layout.states(paths)
        # As displacements from one particle, so that periodic coordinates are averaged the shorter way round.
        mean = states[:, 0] + layout.difference(states, states[:, :1]).mean(dim=1)
        return torch.cat([mean, layout.actions(x)], dim=-1)


def unroll(x: Tensor, layout: TrajectoryLayout, step: Callable[[Tensor, int], Tensor]) -> Tensor:
    """`x` `(..., T, D)` with the state of every row `t + 1` replaced by `step(row t, t)`.

    `step` takes a row `(..., D)` and its time, and gives the next state `(..., obs_dim)`.
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
