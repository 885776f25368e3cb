"""The policy of recorded data, and its value: for plans that stay close to what the data did."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from ebm_control.checks import require, require_number, require_seed
from ebm_control.data import Normalizer, RolloutBuffer
from ebm_control.energies.base import Energy
from ebm_control.energies.networks import MLP
from ebm_control.online.policy import PlanPolicy, Rated, executed, one_choice
from ebm_control.planning.shooting import Dynamics
from ebm_control.tensors import outside_inference_mode
from ebm_control.training.regression import seeded

BEGIN = 5  # times the updates in the first round
TARGET_SHARE = 0.005  # of the target network per update


class BehaviourCost(Energy):
    """Behaviour regularisation, the energy of a Gaussian policy: `Σ_t ½ mean_j ((a_tj - μ_j(s_t)) / σ_j)²`.

    Args:
        policy: has the means, the standard deviations and the weight. Its present ones count, not those of now.

    """

    def __init__(self, policy: ClonedPolicy) -> None:
        super().__init__()
        self.layout, self.policy = policy.layout, policy

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Cost of trajectories `(B, T, D) -> (B,)`."""
        states, actions = self.layout.states(x)[:, :-1], self.layout.actions(x)[:, :-1]
        policy = self.policy
        mean = policy.networks["mean"](self.layout.features(states.float())).to(x.dtype)
        off = (actions - mean) / policy.log_std.detach().exp()
        return policy.behaviour_weight * 0.5 * off.square().mean(dim=-1).sum(dim=-1)


class ClonedPolicy(PlanPolicy):
    """Behaviour cloning: a Gaussian policy fitted to the data's actions, and a value fitted to their rewards.

    For learning from recorded rollouts alone. A value of other actions than the data's would be exploited (MBOP,
    Argenson & Dulac-Arnold 2021), so the value is learned by temporal differences on the data's own transitions. With
    `expectile` above 0.5 it is the expectile of what the data's actions led to (IQL, Kostrikov et al. 2022): that of
    the better ones. Plans begin with rollouts of the policy, end with the value, and pay for actions unlike the data's.

    Args:
        discount: weight of a reward relative to that one step earlier, below 1.
        updates: updates per round of training, and five times as many in the first one.
        expectile: expectile of the value, above 0 and below 1; 0.5 for the mean.
        behaviour_weight: weight of `BehaviourCost` in plans, in stds of the reward.
        hidden: widths of the hidden layers.
        batch_size: transitions per update.
        learning_rate: learning rate of Adam.
        seed: seed of weights, batches and noise.

    Raises:
        InputError: a setting is out of its range.

    """

    def __init__(
        self,
        *,
        discount: float = 0.99,
        updates: int = 1000,
        expectile: float = 0.5,
        behaviour_weight: float = 0.3,
        hidden: tuple[int, ...] = (128, 128),
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        for name, value in (("discount", discount), ("expectile", expectile)):
            require_number(name, value, 0, 1, above=True)
            require(value < 1, name, given=value, expected="a number below 1")
        require_number("updates", updates, 0, whole=True)
        require_number("behaviour_weight", behaviour_weight, 0)
        require_number("batch_size", batch_size, 1, whole=True)
        require_number("learning_rate", learning_rate, 0, above=True)
        require_seed("seed", seed)
        self.discount, self.updates, self.expectile, self.behaviour_weight = (
            discount,
            updates,
            expectile,
            behaviour_weight,
        )
        self.hidden, self.batch_size, self.learning_rate, self.seed = hidden, batch_size, learning_rate, seed

    def begin(self, normalizer: Normalizer, action_space: Box, unit: float) -> None:
        """Build untrained networks in these units."""
        self.normalizer, self.layout = normalizer, normalizer.layout
        self.unit, self._space, self.chooses = unit, action_space, one_choice(action_space)
        bounds = (torch.as_tensor(bound) for bound in (action_space.low, action_space.high))
        self._low, self._high = (normalizer.normalize_actions(bound).float() for bound in bounds)
        with seeded(self.seed):
            self.networks = nn.ModuleDict(
                {
                    "mean": MLP(self.layout.feature_dim, self.hidden, self.layout.act_dim),
                    "value": MLP(self.layout.feature_dim, self.hidden),
                }
            )
        self.log_std = nn.Parameter(torch.zeros(self.layout.act_dim))
        self._target = deepcopy(self.networks["value"])
        self._optimizer = torch.optim.Adam(
            [*self.networks.parameters(), self.log_std], lr=self.learning_rate, fused=True
        )
        self._generator = torch.Generator().manual_seed(self.seed)
        self._first = True

    def heed(self, normalizer: Normalizer) -> None:
        """Begin again if the units are others."""
        if self.normalizer is None or normalizer.to_dict() != self.normalizer.to_dict():
            self.begin(normalizer, self._space, self.unit)
        self.normalizer = normalizer

    @torch.no_grad()
    def act(self, states: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `PlanPolicy`; within the bounds of the action space."""
        actions = self.networks["mean"](self.layout.features(states.float()))
        if generator is not None:
            actions = actions + self.log_std.exp() * torch.randn(actions.shape, generator=generator)
        return torch.minimum(torch.maximum(actions, self._low), self._high).to(states.dtype)

    @torch.no_grad()
    def value(self, states: Tensor) -> Tensor:
        """See `PlanPolicy`."""
        found: Tensor = self.networks["value"](self.layout.features(states.float())).squeeze(-1)
        return self.unit * found.to(states.dtype)

    def cost(self) -> Energy:
        """Cost of actions unlike the data's."""
        return BehaviourCost(self)

    def count(self, steps: int) -> int:
        """The same number in every round; in the first one, and in the first one in other units, five times it."""
        return int(self.updates) * (BEGIN if self._first else 1)

    @outside_inference_mode
    def learn(
        self, data: RolloutBuffer, updates: int, dynamics: Dynamics | None = None, rated: Rated | None = None
    ) -> None:
        """Train on the data's transitions; nothing is imagined."""
        assert self.normalizer is not None
        states, actions, after, rewards, ended = executed(data, self.normalizer)
        self._first = False
        first, second = self.layout.features(states), self.layout.features(after)
        self.networks.requires_grad_(True)
        with torch.enable_grad():
            for _ in range(updates):
                index = torch.randint(len(first), (self.batch_size,), generator=self._generator)
                with torch.no_grad():
                    later = self.discount * (1 - ended[index]) * self._target(second[index]).squeeze(-1)
                    goal = rewards[index] / self.unit + later
                self._step(first[index], actions[index], goal)
        self.networks.requires_grad_(False)

    def _step(self, features: Tensor, actions: Tensor, goal: Tensor) -> None:
        """One update of all networks."""
        error = goal - self.networks["value"](features).squeeze(-1)
        share = torch.where(error > 0, self.expectile, 1 - self.expectile)
        off = (actions - self.networks["mean"](features)) / self.log_std.exp()
        loss = 2 * (share * error.square()).mean() + (0.5 * off.square() + self.log_std).sum(dim=-1).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            pairs = zip(self._target.parameters(), self.networks["value"].parameters(), strict=True)
            for behind, ahead in pairs:
                behind.lerp_(ahead, TARGET_SHARE)

    def state_dict(self) -> dict[str, Any]:
        """Weights, state of the optimiser and units."""
        if self.normalizer is None:
            return {}
        return {
            "networks": self.networks.state_dict(),
            "target": self._target.state_dict(),
            "log_std": self.log_std.detach().clone(),
            "optimizer": self._optimizer.state_dict(),
            "units": self.normalizer.to_dict(),
            "unit": self.unit,
        }

    def load_state_dict(self, state: Mapping[str, Any], action_space: Box) -> None:
        """Restore what `state_dict` returned."""
        if not state:
            return
        self.begin(Normalizer.from_dict(state["units"]), action_space, float(state["unit"]))
        self._first = False
        self.networks.load_state_dict(state["networks"])
        self._target.load_state_dict(state["target"])
        with torch.no_grad():
            self.log_std.copy_(state["log_std"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.networks.requires_grad_(False)
