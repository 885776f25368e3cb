"""Gaussian base measures over displacements: the part of a transition energy that is integrable by itself.

A tilt learned by contrastive divergence is flat where neither data nor negatives were; a planner would take
one long jump through it. A quadratic base makes the density integrable and every jump dear.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ebm_control.checks import require_positive, require_shape
from ebm_control.tensors import ordinary_tensors


class BaseMeasure(nn.Module, ABC):
    """Gaussian `p(Δs | s, a)` with a diagonal deviation, over displacements in units of their own deviation."""

    std: Tensor

    @abstractmethod
    def mean(self, inputs: Tensor) -> Tensor:
        """Expected displacement `(..., obs_dim)` given `inputs` `(..., features + actions [+ context])`."""

    def residual(self, inputs: Tensor, displacement: Tensor) -> Tensor:
        """Displacement `(..., obs_dim)` in deviations from its expected value."""
        return (displacement - self.mean(inputs)) / self.std

    def forward(self, inputs: Tensor, displacement: Tensor) -> Tensor:
        """`½ |residual|²`, `(...)`."""
        return 0.5 * self.residual(inputs, displacement).square().sum(dim=-1)


class GaussianBase(BaseMeasure):
    """The same Gaussian everywhere, centred at no displacement.

    Args:
        obs_dim: observation coordinates.
        deviation: standard deviation in units of the data's displacements, a float or `(obs_dim,)`. Wider
            than the data (the default is √10, a weight of 0.05 on |Δs|²) leaves the shape to the tilt.

    """

    @ordinary_tensors()
    def __init__(self, obs_dim: int, std: float | Tensor = 10**0.5) -> None:
        super().__init__()
        require_positive("std", std)
        value = torch.as_tensor(std, dtype=torch.float32).expand(obs_dim).clone()
        self.register_buffer("std", value)

    def mean(self, inputs: Tensor) -> Tensor:
        """Zeros `(..., obs_dim)` for inputs `(..., inputs)`: the state is expected to stay."""
        return inputs.new_zeros(*inputs.shape[:-1], self.std.shape[0])


class RegressionBase(BaseMeasure):
    """A conditional Gaussian: its mean is a network, its deviation the network's residual on held-out data.

    It carries the precision of a feed-forward dynamics model into the energy; the tilt then only has to learn
    what a Gaussian cannot say. Fit it with `ebm_control.training.fit_base`.

    Args:
        network: `(..., features + actions [+ context]) -> (..., obs_dim)`.
        obs_dim: observation coordinates.

    """

    @ordinary_tensors()
    def __init__(self, network: nn.Module, obs_dim: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("std", torch.ones(obs_dim, dtype=torch.float32))

    def mean(self, inputs: Tensor) -> Tensor:
        """Expected displacement `(..., obs_dim)` of inputs `(..., inputs)`, in units of the data's."""
        return self.network(inputs)

    def set_std(self, std: Tensor) -> None:
        """Set the deviation `(obs_dim,)`, in units of the data's displacements."""
        require_shape("std", std, tuple(self.std.shape))
        require_positive("std", std)
        self.std.copy_(std)
