"""Plans over choices: candidates are vectors, and the model sees the one-hot actions that would be taken."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebm_control.data.actions import FlatActions
from ebm_control.data.normalizer import Normalizer
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.planning.shooting import Dynamics


class ChosenActions(nn.Module):
    """Dynamics under the actions that an environment with choices would get.

    Of every choice the greatest coordinate counts as 1 and the others as 0; flags are rounded. So neither the model nor
    the costs see mixtures of choices, which no data held. Gradients pass through as if nothing was rounded
    (straight-through estimator, Bengio et al. 2013).

    Args:
        dynamics: predicts the states.
        normalizer: units of the trajectory.
        space: meaning of the action coordinates.

    """

    mean: Tensor
    std: Tensor
    flags: Tensor

    def __init__(self, dynamics: Dynamics, normalizer: Normalizer, space: FlatActions) -> None:
        super().__init__()
        self.dynamics, self.choices = dynamics, space.choices
        self.register_buffer("mean", normalizer.act_mean.float())
        self.register_buffer("std", normalizer.act_std.float())
        self.register_buffer("flags", torch.from_numpy(space.of_kind("flags")))

    @property
    def layout(self) -> TrajectoryLayout:
        """Layout of the trajectories."""
        return self.dynamics.layout

    def rollout(self, x: Tensor) -> Tensor:
        """Trajectories under the chosen actions, `(B, T, D) -> (B, P, T, D)`; see `Dynamics`."""
        layout = self.layout
        return self.dynamics.rollout(layout.join(layout.states(x), self.chosen(layout.actions(x))))

    def chosen(self, actions: Tensor) -> Tensor:
        """The nearest actions that can be taken, of normalised ones `(..., act_dim)`."""
        mean, std = self.mean.to(actions), self.std.to(actions)
        raw = actions.detach() * std + mean
        taken = torch.where(self.flags.to(actions.device), (raw >= 0.5).to(raw), raw)
        for columns in self.choices:
            best = raw[..., columns].argmax(dim=-1, keepdim=True)
            taken[..., columns] = torch.zeros_like(raw[..., columns]).scatter_(-1, best, 1.0)
        taken = (taken - mean) / std
        return actions + (taken - actions).detach() if actions.requires_grad else taken
