"""The energy of flat samples that is a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ebm_control.checks import require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.networks import MLP, energy_and_gradient
from ebm_control.energies.pullbacks import pass_of
from ebm_control.energies.written_out import plainly_called


class NetworkEnergy(Energy):
    """A network over flat samples: `E(x) = f(x)`, or `f(x, context)` with a context.

    Args:
        network: `(B, inputs) -> (B, 1)`, for example an `MLP`; `inputs` is the length of a sample and its context.

    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of samples `(B, D)` with contexts `(B, C)`: `(B,)`."""
        return self.network(self._inputs(x, context)).squeeze(-1)

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy `(B,)` and gradient `(B, D)`, written out for an `MLP`."""
        if context is None and x.ndim == 2:
            return energy_and_gradient(self.network, x)
        energy, gradient = energy_and_gradient(self.network, self._inputs(x, context))
        return energy, gradient[:, : x.shape[1]]

    def restricted(
        self, x: Tensor, free: Tensor | None, context: Tensor | None = None
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """`value_and_gradient` of an `MLP` without the look-up of its layers at each call."""
        own = type(self).value_and_gradient is NetworkEnergy.value_and_gradient and plainly_called(self)
        network = self.network
        if not own or context is not None or x.ndim != 2 or not isinstance(network, MLP):
            return None
        made = pass_of(network, network.plain, x)
        return made if made is not None and made.single else None

    @staticmethod
    def _inputs(x: Tensor, context: Tensor | None) -> Tensor:
        if x.ndim != 2:
            require_shape("x", x, (None, None))
        if context is None:
            return x
        require_shape("context", context, (len(x), None))
        return torch.cat([x, context], dim=-1)
