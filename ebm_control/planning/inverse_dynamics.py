"""Actions for planned states: `a = f(s, s')` in closed form, as a network, or fitted online."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from ebm_control.checks import require, require_shape
from ebm_control.data.batch import Batch
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import MLP
from ebm_control.tensors import ordinary_tensors
from ebm_control.training.regression import regress


class InverseDynamics(Protocol):
    """Maps states and desired next states to actions, all in the units of the trajectory."""

    def __call__(self, states: Tensor, next_states: Tensor) -> Tensor:
        """`(..., obs_dim)` states and next states to actions `(..., act_dim)`."""
        ...


class ClosedForm:
    """Inverse dynamics of the environment itself, converted to the units of the trajectory.

    Args:
        inverse: `(states, next_states) -> actions` on raw numpy arrays, for example `env.unwrapped.inverse_dynamics`.
        denormalize: converts normalised observations to raw ones.
        normalize: converts raw actions to normalised ones.

    """

    def __init__(
        self,
        inverse: Callable[..., object],
        denormalize: Callable[[Tensor], Tensor],
        normalize: Callable[[Tensor], Tensor],
    ) -> None:
        self._inverse, self._denormalize, self._normalize = inverse, denormalize, normalize

    def __call__(self, states: Tensor, next_states: Tensor) -> Tensor:
        """`(..., obs_dim)` states and next states to actions `(..., act_dim)`."""
        raw = [self._denormalize(s).cpu().numpy() for s in (states, next_states)]
        return self._normalize(torch.as_tensor(self._inverse(*raw)).to(states))


class LearnedInverse(nn.Module):
    """A network from state and displacement to action.

    Args:
        layout: layout with the actions of the data.
        displacement_scale: `(obs_dim,)` root mean square of one displacement in the data.
        network: `(..., features + obs_dim) -> (..., act_dim)`; None for an `MLP`.

    """

    displacement_scale: Tensor

    @ordinary_tensors()
    def __init__(
        self, layout: TrajectoryLayout, displacement_scale: Tensor, network: nn.Module | None = None
    ) -> None:
        super().__init__()
        require(layout.act_dim > 0, "layout", given="no actions", expected="a layout with actions")
        require_shape("displacement_scale", displacement_scale, (layout.obs_dim,))
        self.layout = layout
        self.network = network or MLP(layout.feature_dim + layout.obs_dim, (256, 256), layout.act_dim)
        self.register_buffer("displacement_scale", displacement_scale.float().clone())

    def forward(self, states: Tensor, next_states: Tensor) -> Tensor:
        """`(..., obs_dim)` states and next states to actions `(..., act_dim)`."""
        step = self.layout.difference(next_states, states) / self.displacement_scale
        return self.network(torch.cat([self.layout.features(states), step], dim=-1))

    def fit(self, batches: Iterator[Batch], steps: int = 3000, learning_rate: float = 1e-3) -> float:
        """Fit by least squares to the first transition of each window; returns the last mean squared error."""

        def loss(batch: Batch) -> Tensor:
            self.layout.check("batches", batch.x)
            states, actions = self.layout.states(batch.x), self.layout.actions(batch.x)
            return (self(states[:, 0], states[:, 1]) - actions[:, 0]).square().mean()

        return regress(self.parameters(), loss, batches, steps, learning_rate=learning_rate)


class RecursiveLeastSquares:
    """Inverse dynamics linear in features of the transition, refitted after every transition (Ljung 1999, 11.2).

    Features are the state's features, the displacement and 1. A forgetting factor below 1 tracks dynamics that
    change: the memory is about `1 / (1 - forgetting)` transitions. The covariance's trace is limited to that of the
    prior. Otherwise it would grow without bound when new transitions carry no information (a robot at rest).

    Args:
        layout: layout with actions.
        displacement_scale: `(obs_dim,)` root mean square of one displacement in the data.
        forgetting: weight of a transition relative to the next one, in (0, 1].
        prior: variance of the weights before any data.

    """

    def __init__(
        self,
        layout: TrajectoryLayout,
        displacement_scale: Tensor,
        *,
        forgetting: float = 1.0,
        prior: float = 1e3,
    ) -> None:
        require(layout.act_dim > 0, "layout", given="no actions", expected="a layout with actions")
        require(0 < forgetting <= 1, "forgetting", given=forgetting, expected="in (0, 1]")
        require_shape("displacement_scale", displacement_scale, (layout.obs_dim,))
        self.layout, self.forgetting = layout, forgetting
        self.displacement_scale = displacement_scale.double()
        size = layout.feature_dim + layout.obs_dim + 1
        self.weights = torch.zeros(size, layout.act_dim, dtype=torch.float64)
        self.covariance = prior * torch.eye(size, dtype=torch.float64)
        self._largest = self.covariance.trace()

    def __call__(self, states: Tensor, next_states: Tensor) -> Tensor:
        """`(..., obs_dim)` states and next states to actions `(..., act_dim)`."""
        return (self._features(states, next_states) @ self.weights).to(states)

    def update(self, states: Tensor, actions: Tensor, next_states: Tensor) -> None:
        """Update with transitions, one after the other: `(n, obs_dim)`, `(n, act_dim)`, `(n, obs_dim)`."""
        for feature, action in zip(self._features(states, next_states), actions.double(), strict=True):
            spread = self.covariance @ feature
            gain = spread / (self.forgetting + feature @ spread)
            self.weights += torch.outer(gain, action - feature @ self.weights)
            shrunk = (self.covariance - torch.outer(gain, spread)) / self.forgetting
            # Rounding makes the covariance asymmetric; forgetting amplifies this until variances are negative.
            self.covariance = (shrunk + shrunk.T) / 2
            self.covariance *= (self._largest / self.covariance.trace()).clamp(max=1.0)

    def _features(self, states: Tensor, next_states: Tensor) -> Tensor:
        states, next_states = states.double(), next_states.double()
        step = self.layout.difference(next_states, states) / self.displacement_scale
        one = torch.ones_like(states[..., :1])
        return torch.cat([self.layout.features(states), step, one], dim=-1)
