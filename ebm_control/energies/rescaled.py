"""An energy of states in other units."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.energies.base import Energy
from ebm_control.energies.trajectory import TransitionEnergy


class Rescaled(Energy):
    """An energy over states only, as a function of states in other units: `E(scale * x + shift)`.

    Args:
        energy: energy of transitions of states, without actions.
        scale: `(obs_dim,)` positive factor; 1 for periodic coordinates.
        shift: `(obs_dim,)`; 0 for periodic coordinates.

    Attributes:
        layout: layout of the trajectories; its periods are those of the energy's own.
        window: number of states in a window of the energy.
        displacement_scale: `(obs_dim,)` std of the data's displacements, in the units of `x`.

    """

    def __init__(self, energy: TransitionEnergy, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.energy, self.layout, self.window = energy, energy.layout, energy.window
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.register_buffer("displacement_scale", energy.displacement_scale / scale)

    scale: Tensor
    shift: Tensor
    displacement_scale: Tensor

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy `(B,)` of trajectories `(B, T, obs_dim)`."""
        return self.energy(torch.addcmul(self.shift, x, self.scale), context)
