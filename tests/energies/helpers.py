from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.energies import MLP, Energy


def network(inputs: int, outputs: int = 1, seed: int = 0) -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP(inputs, (8,), outputs).double()


class Learned(Energy):
    """A small network over flat samples, with a context where one is given."""

    def __init__(self, dim: int, seed: int = 0) -> None:
        super().__init__()
        self.network = network(dim, seed=seed)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        energy = self.network(x).squeeze(-1)
        return energy if context is None else energy + context.sum(dim=-1)


def gradient(energy: Energy, x: Tensor, context: Tensor | None = None) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(energy(x, context).sum(), x)[0]
