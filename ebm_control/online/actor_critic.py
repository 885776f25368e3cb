"""A policy and a value of states for plans, learned by SAC or DQN on executed and on imagined transitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from ebm_control.checks import require, require_number, require_seed
from ebm_control.data import Normalizer, RolloutBuffer
from ebm_control.extras import import_extra
from ebm_control.online.double_dqn import double_dqn
from ebm_control.online.policy import PlanPolicy, Rated, executed, one_choice
from ebm_control.planning.shooting import Dynamics
from ebm_control.training.regression import seeded

RANDOM = 0.1  # share of random choices in rollouts
# Updates of DQN after which its target network follows by this share: as fast as SAC's.
TARGET_EVERY, TARGET_SHARE = 10, 0.05
# DQN's rewards are divided by this too: its values are then of the order of an untrained network's outputs.
REWARD_SCALE = 20.0


class ActorCritic(PlanPolicy):
    """A policy and a value of states, learned off-policy by soft actor-critic (Haarnoja et al. 2018).

    Plans may begin from the policy's rollouts and end with the value (LOOP, Sikchi et al. 2021), so that a short
    horizon is enough. A fraction of each batch is imagined: short rollouts of the policy in the learned model from
    executed states (MBPO, Janner et al. 2019). The algorithm is that of Stable-Baselines3; where an action is one
    choice, it is double DQN (van Hasselt et al. 2016) instead of SAC, with the same settings.

    Args:
        discount: weight of a reward relative to that one step earlier, below 1.
        updates: updates per environment step.
        imagined: fraction of imagined transitions in a batch, below 1; 0 for none.
        branch: steps of an imagined rollout.
        hidden: widths of the hidden layers of all networks.
        batch_size: transitions per update.
        learning_rate: learning rate of all networks.
        memory: number of imagined transitions kept, the latest ones.
        seed: seed of weights, batches and noise.

    Raises:
        MissingExtraError: Stable-Baselines3 is not installed (`ebm-control[sb3]`).
        InputError: a setting is out of its range.

    """

    def __init__(
        self,
        *,
        discount: float = 0.99,
        updates: float = 1.0,
        imagined: float = 0.5,
        branch: int = 1,
        hidden: tuple[int, ...] = (128, 128),
        batch_size: int = 256,
        learning_rate: float = 3e-4,
        memory: int = 50_000,
        seed: int = 0,
    ) -> None:
        import_extra("stable_baselines3", "sb3", "ActorCritic")
        require_number("discount", discount, 0, 1)
        require(discount < 1, "discount", given=discount, expected="a number below 1")
        require_number("imagined", imagined, 0, 1)
        require(imagined < 1, "imagined", given=imagined, expected="a number below 1")
        for name, count in (("branch", branch), ("batch_size", batch_size), ("memory", memory)):
            require_number(name, count, 1, whole=True)
        require_number("updates", updates, 0)
        require_number("learning_rate", learning_rate, 0, above=True)
        require_seed("seed", seed)
        self.discount, self.updates, self.imagined, self.branch = discount, updates, imagined, branch
        self.hidden, self.batch_size, self.learning_rate = tuple(hidden), batch_size, learning_rate
        self.memory, self.seed, self.rounds = memory, seed, 0
        self.normalizer: Normalizer | None = None

    def begin(self, normalizer: Normalizer, action_space: Box, unit: float) -> None:
        """Build untrained networks, which keep these units of states, actions and rewards for good."""
        package = import_extra("stable_baselines3", "sb3", "ActorCritic")
        logger = import_extra("stable_baselines3.common.logger", "sb3", "ActorCritic").Logger
        self._first, self.layout, self.unit = normalizer, normalizer.layout, unit
        self.chooses = one_choice(action_space)
        self._given_unit = unit
        if self.chooses:
            self.unit *= REWARD_SCALE
        low, high = (
            torch.as_tensor(np.asarray(b, np.float32)) for b in (action_space.low, action_space.high)
        )
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        actions = self.layout.act_dim
        space = Discrete(actions) if self.chooses else Box(-1.0, 1.0, (actions,), np.float32)
        with seeded(self.seed):
            self.sb3 = (double_dqn() if self.chooses else package.SAC)(
                "MlpPolicy",
                _Spaces(self.layout.feature_dim, space),
                gamma=self.discount,
                learning_rate=self.learning_rate,
                buffer_size=1,  # batches are drawn from `_Replay`
                policy_kwargs={"net_arch": list(self.hidden)},
                device="cpu",
            )
        self.sb3.set_logger(logger(None, []))
        self._imagined: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(self.seed)
        self.heed(normalizer)

    def heed(self, normalizer: Normalizer) -> None:
        """Take and return states and actions in the units of `normalizer` from now on, which grow during a run."""
        first = self._first
        self.normalizer = normalizer
        self._scale = (normalizer.obs_std / first.obs_std).float()
        self._shift = ((normalizer.obs_mean - first.obs_mean) / first.obs_std).float()

    @torch.no_grad()
    def act(self, states: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions `(..., act_dim)` for states `(..., obs_dim)`, both in the units of the trajectory.

        The mean ones without a generator, else samples of the policy.
        """
        features = self._features(states).flatten(0, -2)
        if self.chooses:
            actions = self._chosen(features, generator)
        else:
            mean, log_std, _ = self.sb3.actor.get_action_dist_params(features)
            if generator is not None:
                mean = mean + log_std.exp() * torch.randn(mean.shape, generator=generator)
            actions = mean.tanh()
        return self._normalized(actions).unflatten(0, states.shape[:-1]).to(states.dtype)

    def _chosen(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        """One-hot choices `(N, act_dim)` of greatest value, scaled; with a generator a tenth of them is random."""
        best = self.sb3.q_net(features).argmax(dim=1)
        if generator is not None:
            other = torch.randint(self.layout.act_dim, best.shape, generator=generator)
            best = torch.where(torch.rand(best.shape, generator=generator) < RANDOM, other, best)
        return 2.0 * torch.nn.functional.one_hot(best, self.layout.act_dim).float() - 1.0

    @torch.no_grad()
    def value(self, states: Tensor) -> Tensor:
        """Values `(...)` of states `(..., obs_dim)`, in the environment's units of reward.

        With SAC the lower of its two estimates for the mean action, with DQN that of the best choice.
        """
        features = self._features(states).flatten(0, -2)
        if self.chooses:
            estimates = self.sb3.q_net(features).amax(dim=1)
        else:
            mean, _, _ = self.sb3.actor.get_action_dist_params(features)
            estimates = torch.cat(self.sb3.critic(features, mean.tanh()), dim=1).amin(dim=1)
        return self.unit * estimates.unflatten(0, states.shape[:-1]).to(states.dtype)

    def learn(
        self, data: RolloutBuffer, updates: int, dynamics: Dynamics | None = None, rated: Rated | None = None
    ) -> None:
        """Train on executed transitions and, with `dynamics` and `rated`, on imagined ones.

        Args:
            data: executed transitions with rewards.
            updates: number of updates.
            dynamics: the model that imagines, in the present units.
            rated: rewards in the environment's units, and probabilities of an end, of imagined transitions.

        """
        assert self.normalizer is not None
        states, *others = executed(data, self.normalizer)
        real = self._transitions(states, *others)
        imagined = dynamics is not None and rated is not None and self.imagined > 0 and updates > 0
        if imagined:
            assert dynamics is not None
            assert rated is not None
            # As many as the updates will draw, so that each is drawn about once while it is new.
            count = min(self.memory, round(updates * self.imagined * self.batch_size))
            new = self._imagine(states, dynamics, rated, max(1, count // self.branch))
            before = self._imagined or [column[:0] for column in new]
            self._imagined = [torch.cat(pair)[-self.memory :] for pair in zip(before, new, strict=True)]
        self.sb3.replay_buffer = _Replay(real, self._imagined, self.imagined, self._generator)
        self.rounds += 1
        polyak = import_extra("stable_baselines3.common.utils", "sb3", "ActorCritic").polyak_update
        with seeded(self.seed + 7919 * self.rounds):
            # SAC moves its target networks itself, DQN's follow at each of its own environment steps.
            stride = TARGET_EVERY if self.chooses else max(1, updates)
            for done in range(0, updates, stride):
                self.sb3.train(min(stride, updates - done), self.batch_size)
                if self.chooses:
                    polyak(self.sb3.q_net.parameters(), self.sb3.q_net_target.parameters(), TARGET_SHARE)

    @torch.no_grad()
    def _imagine(self, states: Tensor, dynamics: Dynamics, rated: Rated, count: int) -> list[Tensor]:
        """Transitions of rollouts of the policy in the model from `count` executed states."""
        x = states[torch.randint(len(states), (count,), generator=self._generator)]
        parts = []
        for _ in range(self.branch):
            actions = self.act(x, self._generator)
            actions, after = _next(dynamics, x, actions, self._generator)
            rewards, ends = rated(x, actions, after)
            ended = torch.bernoulli(ends, generator=self._generator)
            parts.append(self._transitions(x, actions, after, rewards, ended))
            x = after[ended == 0]
            if len(x) == 0:
                break
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    def _transitions(
        self, states: Tensor, actions: Tensor, after: Tensor, rewards: Tensor, ended: Tensor
    ) -> list[Tensor]:
        """Observations, actions, next observations, ends and rewards, each `(N, ...)`, in the units of SAC."""
        first, second = self._features(states), self._features(after)
        taken = self._scaled(actions)
        if self.chooses:
            taken = taken.argmax(dim=1, keepdim=True)
        return [first, taken, second, ended[:, None], rewards[:, None].float() / self.unit]

    def _features(self, states: Tensor) -> Tensor:
        return self.layout.features(states.float() * self._scale + self._shift)

    def _scaled(self, actions: Tensor) -> Tensor:
        """Actions between -1 and 1 from normalised ones."""
        assert self.normalizer is not None
        return ((self.normalizer.denormalize_actions(actions).float() - self._middle) / self._half).clamp(
            -1, 1
        )

    def _normalized(self, scaled: Tensor) -> Tensor:
        assert self.normalizer is not None
        return self.normalizer.normalize_actions(scaled * self._half + self._middle)

    def state_dict(self) -> dict[str, Any]:
        """Weights, states of the optimisers and units; imagined transitions are left out. Empty before `begin`."""
        if self.normalizer is None:
            return {}
        entropy = getattr(self.sb3, "log_ent_coef", None)
        return {
            "sb3": self.sb3.get_parameters(),
            "log_ent_coef": None if entropy is None else float(entropy.detach()),
            "units": self._first.to_dict(),
            "unit": self._given_unit,
            "rounds": self.rounds,
        }

    def load_state_dict(self, state: Mapping[str, Any], action_space: Box) -> None:
        """Restore what `state_dict` returned."""
        if not state:
            return
        self.begin(Normalizer.from_dict(state["units"]), action_space, float(state["unit"]))
        self.sb3.set_parameters(dict(state["sb3"]), device="cpu")
        if state["log_ent_coef"] is not None:
            with torch.no_grad():
                self.sb3.log_ent_coef.fill_(float(state["log_ent_coef"]))
        self.rounds = int(state["rounds"])


def _next(
    dynamics: Dynamics, states: Tensor, actions: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Actions as the model takes them (choices are rounded) and next states; each is that of a random particle."""
    row = torch.cat([states, actions], dim=-1)
    found = dynamics.rollout(torch.stack([row, row], dim=1))
    every = torch.arange(len(found))
    found = found[every, torch.randint(found.shape[1], (len(found),), generator=generator)]
    return dynamics.layout.actions(found)[:, 0], dynamics.layout.states(found)[:, 1]


class _Spaces(gym.Env[Any, Any]):
    """Spaces for an algorithm that takes its data from elsewhere."""

    def __init__(self, observations: int, actions: Box | Discrete) -> None:
        self.observation_space = Box(-np.inf, np.inf, (observations,), np.float32)
        self.action_space = actions


class _Replay:
    """Batches of executed and imagined transitions, as a replay buffer of Stable-Baselines3 gives them."""

    def __init__(
        self, real: list[Tensor], imagined: list[Tensor], share: float, generator: torch.Generator
    ) -> None:
        self.parts, self.generator = [real, imagined] if imagined else [real], generator
        self.shares = [1 - share, share] if imagined else [1.0]

    def sample(self, batch_size: int, env: Any = None) -> Any:
        """A batch, see `stable_baselines3.common.buffers.ReplayBuffer`."""
        kind = import_extra("stable_baselines3.common.type_aliases", "sb3", "ActorCritic").ReplayBufferSamples
        drawn, left = [], batch_size
        for part, share in zip(self.parts, self.shares, strict=True):
            count = left if part is self.parts[-1] else round(share * batch_size)
            left -= count
            index = torch.randint(len(part[0]), (count,), generator=self.generator)
            drawn.append([column[index] for column in part])
        return kind(*(torch.cat(column) for column in zip(*drawn, strict=True)))
