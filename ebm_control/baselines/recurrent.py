"""A dynamics model with a memory: a recurrent network that predicts displacements."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ebm_control.baselines.models import DisplacementModel
from ebm_control.checks import require, require_number
from ebm_control.data.batch import Batch
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.planning.shooting import unroll
from ebm_control.tensors import ordinary_tensors


class Recurrent(DisplacementModel):
    """`s_{t+1} = s_t + scale * f(h_t)` with `h_t` the state of a GRU after time steps up to `t` (Cho et al. 2014).

    Deterministic: one particle. Quantities that a single state does not show (a velocity, a parameter of the system)
    can be inferred from earlier time steps.

    As a `Dynamics` it begins at the first time step without a history, like every training window.

    Args:
        layout: see `DisplacementModel`.
        displacement_scale: see `DisplacementModel`.
        hidden: width of the GRU, which has one layer.
        frequencies: see `DisplacementModel`.
        bandwidth: see `DisplacementModel`.

    Raises:
        InputError: the width is below 1.

    """

    @ordinary_tensors()
    def __init__(
        self,
        layout: TrajectoryLayout,
        displacement_scale: Tensor,
        hidden: int = 192,
        frequencies: int = 0,
        bandwidth: float = 2.0,
    ) -> None:
        require_number("hidden", hidden, 1, whole=True)
        super().__init__(layout, displacement_scale, (hidden,), frequencies, bandwidth)
        inputs, outputs = self.sizes
        self.memory = nn.GRU(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-safe constructor arguments, see `DisplacementModel.settings`."""
        return super().settings | {"hidden": self.hidden[0]}

    def residuals(self, x: Tensor) -> Tensor:
        """Errors of all predictions on windows `(B, T, D)`, each from the true states before it (teacher forcing).

        The result is `(B, T-1, obs_dim)`, in units of the data's displacements.
        """
        states = self.layout.states(x)
        moved = self.layout.difference(states[:, 1:], states[:, :-1]) / self.displacement_scale
        return moved - self.head(self.memory(self.inputs(x[:, :-1]))[0])

    def residual(self, x: Tensor) -> Tensor:
        """Error of the last predicted state of windows `(B, T, D)`, in the data's displacements: `(B, obs_dim)`."""
        return self.residuals(x)[:, -1]

    def loss(self, batch: Batch, counts: Tensor | None = None) -> Tensor:
        """Mean squared residual of all predictions on windows `(B, T, D)`, a scalar; `counts` is not used."""
        return self.residuals(batch.x).square().mean()

    def rollout(self, x: Tensor) -> Tensor:
        """Predicted trajectories, `(B, T, D) -> (B, 1, T, D)`; see `Dynamics`."""
        return self.follow(x, 1)[:, None]

    def follow(self, x: Tensor, known: int) -> Tensor:
        """Trajectories `x` `(B, T, D)` with every state after the first `known` time steps predicted.

        Raises:
            InputError: a shape does not fit, or `known` is not between 1 and `T`.

        """
        self.layout.check("x", x)
        require(1 <= known <= x.shape[1], "known", given=known, expected=f"between 1 and {x.shape[1]} rows")
        past = x[:, : known - 1]
        h = x.new_zeros(len(x), *self.hidden)
        if known > 1:
            h = self.memory(self.inputs(past))[1][0]

        def step(row: Tensor, _: int) -> Tensor:
            nonlocal h
            # The same GRU as a cell: cuDNN's version for sequences has no gradients in evaluation mode.
            h = torch.gru_cell(self.inputs(row), h, *self.memory.all_weights[0])
            return self.move(row, self.head(h))

        return torch.cat([past, unroll(x[:, known - 1 :], self.layout, step)], dim=1)
