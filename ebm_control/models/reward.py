"""Learned rewards, for planning where no reward function is available."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ebm_control.data.normalizer import Normalizer
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.energies.networks import MLP
from ebm_control.tensors import float_like, ordinary_tensors

LOGITS = -30.0, 10.0  # range in which the logit of an end counts as a cost


class TransitionNetwork(nn.Module):
    """One number per transition, from the features of both states and the action, all in the units of the trajectory.

    Args:
        layout: meaning of the coordinates.
        hidden: widths of the hidden layers.

    """

    @ordinary_tensors()
    def __init__(self, layout: TrajectoryLayout, hidden: tuple[int, ...] = (128, 128)) -> None:
        super().__init__()
        self.layout = layout
        self.network = MLP(2 * layout.feature_dim + layout.act_dim, hidden)

    def forward(self, states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """Outputs `(...)` for states `(..., obs_dim)`, actions `(..., act_dim)` and next states."""
        parts = [self.layout.features(states), actions, self.layout.features(after)]
        value: Tensor = self.network(torch.cat(parts, dim=-1).to(float_like(self).dtype)).squeeze(-1)
        return value


class RewardNetwork(TransitionNetwork):
    """Reward of transitions, in stds of the rewards it was fitted to: for `RewardCost(layout, network)`.

    Fit it with `ebm_control.models.fit_reward`. For its arguments see `TransitionNetwork`.

    Attributes:
        mean: mean of the rewards it was fitted to.
        std: their standard deviation, 1 if they are all the same.
        fitted: whether it has been fitted.

    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    @ordinary_tensors()
    def __init__(self, layout: TrajectoryLayout, hidden: tuple[int, ...] = (128, 128)) -> None:
        super().__init__(layout, hidden)
        self.register_buffer("mean", torch.zeros((), dtype=torch.float32))
        self.register_buffer("std", torch.ones((), dtype=torch.float32))
        self.register_buffer("fitted", torch.tensor(False))

    def raw(self, states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """Rewards `(...)` in the environment's units; the network itself is fitted in stds of the data."""
        return self(states, actions, after) * self.std + self.mean


class EndNetwork(TransitionNetwork):
    """Probability that a transition ends its episode by termination (not by a time limit).

    Its output is the logit of an end, in data with as many ends as other transitions. Fit it with
    `ebm_control.models.fit_ends`. For its arguments see `TransitionNetwork`.

    Attributes:
        shift: added to the logits: the log-odds of an end in the data, because the network is fitted to as many ends
            as other transitions.
        count: number of ends in the data it was fitted to.

    """

    shift: Tensor
    count: Tensor

    @ordinary_tensors()
    def __init__(self, layout: TrajectoryLayout, hidden: tuple[int, ...] = (128, 128)) -> None:
        super().__init__(layout, hidden)
        self.register_buffer("shift", torch.zeros((), dtype=torch.float32))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def probability(self, states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """Probability `(...)` of an end; 0 if the data held no end."""
        if int(self.count) == 0:
            return torch.zeros_like(after[..., 0])
        return self.of_logit(self(states, actions, after))

    def of_logit(self, logit: Tensor) -> Tensor:
        """Probability of an end from the network's output; 0 if the data held no end."""
        return (logit + self.shift).sigmoid() if int(self.count) else torch.zeros_like(logit)


class KnownReward(nn.Module):
    """A given reward function in the place of a `RewardNetwork`.

    Args:
        normalizer: units of the trajectory.
        function: rewards `(...)` of states `(..., obs_dim)`, actions and next states in the environment's units.

    """

    def __init__(self, normalizer: Normalizer, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.normalizer, self.function = normalizer, function

    def raw(self, states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """Rewards `(...)` in the environment's units, from states and actions in those of the trajectory."""
        before, then = (self.normalizer.denormalize_observations(part) for part in (states, after))
        return self.function(before, self.normalizer.denormalize_actions(actions), then).to(states.dtype)


class LearnedReturn(nn.Module):
    """A learned reward that is paid as long as the episode lasts, for `RewardCost(layout, ...)`.

    The reward of step `t` is weighted by the probability that no earlier step ended the episode. After an end the
    reward is zero, so an end costs the rewards that would have followed. The time beyond the plan counts too: by a
    learned value of the plan's last state, or without one, if the mean reward of the data is positive, as that reward
    for as many steps again. So staying alive pays even if every step has the same reward.

    Args:
        reward: a fitted reward network, or a given reward.
        ends: a fitted network of ends; None if episodes do not end.
        value: values `(...)` of states `(..., obs_dim)` in the units of the trajectory, as discounted sums of later
            rewards in the environment's units; None for none.
        discount: weight of a reward relative to that one step earlier.
        mean: mean reward of the data, in the environment's units.
        unit: rewards are divided by it.
        barrier: weight of the logit of an end (the output of `EndNetwork`, between -30 and 10) as a cost of every step,
            in multiples of the unit. It keeps plans away from ends that lie beyond them.

    """

    def __init__(
        self,
        reward: RewardNetwork | KnownReward,
        ends: EndNetwork | None = None,
        value: Callable[[Tensor], Tensor] | None = None,
        discount: float = 1.0,
        *,
        mean: float | None = None,
        unit: float | None = None,
        barrier: float = 0.0,
    ) -> None:
        super().__init__()
        known = (float(reward.mean), float(reward.std)) if isinstance(reward, RewardNetwork) else (0.0, 1.0)
        self.reward, self.ends, self.value = reward, ends, value
        self.discount, self.barrier = discount, barrier
        self.mean, self.unit = known[0] if mean is None else mean, known[1] if unit is None else unit

    def forward(self, states: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        """Expected rewards `(B, T-1)` in multiples of the unit, by default the std of the rewards fitted to."""
        paid = self.reward.raw(states, actions, after) / self.unit
        steps = paid.shape[-1]
        lasts = torch.ones_like(paid)
        if self.ends is not None:
            logit = self.ends(states, actions, after)
            lasts = (1 - self.ends.of_logit(logit)).cumprod(dim=-1)
            paid = torch.cat([torch.ones_like(lasts[..., :1]), lasts[..., :-1]], dim=-1) * paid
        if self.discount < 1:
            paid = paid * self.discount ** torch.arange(steps, dtype=paid.dtype, device=paid.device)
        if self.value is not None:
            beyond = lasts[..., -1:] * self.discount**steps * self.value(after[..., -1:, :]) / self.unit
        elif self.ends is not None:
            beyond = lasts[..., -1:] * max(self.mean, 0.0) / self.unit * steps
        else:
            return paid
        paid = torch.cat([paid[..., :-1], paid[..., -1:] + beyond], dim=-1)
        return paid - self.barrier * logit.clamp(*LOGITS) if self.barrier and self.ends is not None else paid
