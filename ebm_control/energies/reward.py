"""A reward that is learned: what plans are for where nobody can write it down."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import MLP
from ebm_control.tensors import ordinary_tensors


class RewardNetwork(nn.Module):
    """Reward of transitions, in deviations of the rewards it was fitted to: for `RewardCost(layout, network)`.

    It sees the features of both states and the action, all in the units of the trajectory. Fit it with
    `ebm_control.training.fit_reward`.

    Args:
        layout: meaning of the coordinates.
        hidden: widths.

    Attributes:
        mean: of the rewards it was fitted to.
        deviation: of them, 1 where they are all the same.
        fitted: whether it was fitted at all.

    """

    mean: Tensor
    deviation: Tensor
    fitted: Tensor

    @ordinary_tensors()
    def __init__(self, layout: TrajectoryLayout, hidden: tuple[int, ...] = (128, 128)) -> None:
        super().__init__()
        self.layout = layout
        self.network = MLP(2 * layout.feature_dim + layout.act_dim, hidden)
        self.register_buffer("mean", torch.zeros((), dtype=torch.float32))
        self.register_buffer("deviation", torch.ones((), dtype=torch.float32))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """Rewards `(...)` of states `(..., obs_dim)`, actions `(..., act_dim)` and next states."""
        parts = [self.layout.features(states), actions, self.layout.features(after)]
        value: Tensor = self.network(torch.cat(parts, dim=-1).to(self.mean.dtype)).squeeze(-1)
        return value

    def raw(self, states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """The same in the environment's units."""
        return self(states, actions, after) * self.deviation + self.mean
