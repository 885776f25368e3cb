"""Gaussian base measures over displacements: the part of a transition energy that is integrable by itself.

A tilt learned by contrastive divergence is flat where neither data nor negatives were; a planner would take
one long jump through it. A quadratic base makes the density integrable and long jumps costly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ebm_control.checks import require_positive, require_shape
from ebm_control.energies.networks import with_pullback
from ebm_control.energies.pullbacks import Pullback, pullback_by_autograd
from ebm_control.tensors import ordinary_tensors


class BaseMeasure(nn.Module, ABC):
    """Gaussian `p(Δs | s, a)` with diagonal std; displacements are in units of the data's own std."""

    std: Tensor

    @abstractmethod
    def mean(self, inputs: Tensor) -> Tensor:
        """Expected displacement `(..., obs_dim)` given `inputs` `(..., features + actions [+ context])`."""

    def mean_with_pullback(self, inputs: Tensor) -> tuple[Tensor, Pullback]:
        """The mean and its vector-Jacobian product, detached; see `networks.with_pullback`."""
        return pullback_by_autograd(self.mean, inputs)

    def residual(self, inputs: Tensor, displacement: Tensor) -> Tensor:
        """Displacement `(..., obs_dim)` minus its mean, in stds."""
        return (displacement - self.mean(inputs)) / self.std

    def forward(self, inputs: Tensor, displacement: Tensor) -> Tensor:
        """`½ |residual|²`, `(...)`."""
        return 0.5 * self.residual(inputs, displacement).square().sum(dim=-1)


class GaussianBase(BaseMeasure):
    """The same Gaussian everywhere, with mean zero: the state stays where it is.

    Args:
        obs_dim: observation coordinates.
        std: standard deviation in units of the data's displacements, a float or `(obs_dim,)`. A value wider
            than the data (the default √10 is a weight of 0.05 on |Δs|²) leaves the shape to the tilt.

    """

    @ordinary_tensors()
    def __init__(self, obs_dim: int, std: float | Tensor = 10**0.5) -> None:
        super().__init__()
        require_positive("std", std)
        value = torch.as_tensor(std, dtype=torch.float32).expand(obs_dim).clone()
        self.register_buffer("std", value)

    def mean(self, inputs: Tensor) -> Tensor:
        """Zeros `(..., obs_dim)` for inputs `(..., inputs)`: the mean is no displacement."""
        return inputs.new_zeros(*inputs.shape[:-1], self.std.shape[0])

    def mean_with_pullback(self, inputs: Tensor) -> tuple[Tensor, Pullback]:
        """Zeros and a function that returns zeros."""
        if type(self).mean is not GaussianBase.mean:
            return super().mean_with_pullback(inputs)

        def pullback(cotangent: Tensor) -> Tensor:
            return cotangent.new_zeros(*cotangent.shape[:-1], inputs.shape[-1])

        return self.mean(inputs), pullback


class RegressionBase(BaseMeasure):
    """A conditional Gaussian: its mean is a network, its std the network's error on held-out data.

    It gives the energy the precision of a feed-forward dynamics model. The tilt then only learns what a
    Gaussian cannot represent. Fit it with `ebm_control.training.fit_base`.

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
        """Mean displacement `(..., obs_dim)` for inputs `(..., inputs)`, in units of the data's displacements."""
        return self.network(inputs)

    def mean_with_pullback(self, inputs: Tensor) -> tuple[Tensor, Pullback]:
        """The network's outputs and its vector-Jacobian product, written out where the network's is."""
        if type(self).mean is not RegressionBase.mean:
            return super().mean_with_pullback(inputs)
        return with_pullback(self.network, inputs)

    def set_std(self, std: Tensor) -> None:
        """Set the std `(obs_dim,)`, in units of the data's displacements."""
        require_shape("std", std, tuple(self.std.shape))
        require_positive("std", std)
        self.std.copy_(std)
