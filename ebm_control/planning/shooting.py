"""Single shooting: plan over actions alone, states following from them."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.energies.base import Energy
from ebm_control.energies.trajectory import TransitionEnergy


class RolledOut(Energy):
    """An energy of the actions: that of the trajectory which they lead to from its first row.

    States after the first are replaced by those that `dynamics` expects one after the other, so only actions
    have a gradient. Gradient-free samplers need this: noise on states would break every transition at once.

    Args:
        energy: over trajectories `(B, T, D)`, costs included.
        dynamics: a transition energy with window 2 whose base measure says what state to expect.
        context: `(context_dim,)` of `dynamics`, or None.

    """

    def __init__(self, energy: Energy, dynamics: TransitionEnergy, context: Tensor | None = None) -> None:
        super().__init__()
        self.energy, self.dynamics, self.context = energy, dynamics, context

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of the rolled-out trajectories `(B, T, D) -> (B,)`."""
        return self.energy(self.roll(x), context)

    def roll(self, x: Tensor) -> Tensor:
        """`x` with every state after the first replaced by the one expected."""
        layout = self.dynamics.layout
        context = None if self.context is None else self.context.to(x).expand(len(x), -1)
        rows = [x[:, :1]]
        for t in range(1, x.shape[1]):
            state = self.dynamics.expected_next(rows[-1], context)
            rows.append(torch.cat([state, layout.actions(x)[:, t]], dim=-1)[:, None])
        return torch.cat(rows, dim=1)
