"""Energies over states, used as terms of energies over states and actions."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.energies.base import Energy
from ebm_control.energies.layout import TrajectoryLayout


class OnStates(Energy):
    """An energy over states only, usable as a term of an energy over states and actions.

    Args:
        energy: energy of state trajectories `(B, T, obs_dim)`.
        layout: layout of the trajectories `(B, T, D)` of states and actions.

    """

    def __init__(self, energy: Energy, layout: TrajectoryLayout) -> None:
        super().__init__()
        self.energy, self.layout = energy, layout

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of the states of trajectories `(B, T, D) -> (B,)`."""
        self.layout.check("x", x)
        return self.energy(self.layout.states(x), context)

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy `(B,)` and its gradient, 0 for actions."""
        self.layout.check("x", x)
        energy, by_states = self.energy.value_and_gradient(self.layout.states(x), context)
        gradient = torch.zeros_like(x)
        self.layout.states(gradient).copy_(by_states)
        return energy, gradient

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of the energy's curvature, 0 for actions."""
        acts = (0, self.layout.act_dim)
        bands = self.energy.curvature(self.layout.states(x), context)
        return tuple(torch.nn.functional.pad(band, (*acts, *acts)) for band in bands)
