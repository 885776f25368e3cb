"""Double DQN with bounded targets, on the networks and the data of Stable-Baselines3's DQN."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from ebm_control.extras import import_extra


def bounds(rewards: Tensor, discount: float) -> tuple[Tensor, Tensor]:
    """Least and greatest possible value of a state, from the rewards of a batch; an end may come at any time."""
    least, most = rewards.min().clamp(max=0), rewards.max().clamp(min=0)
    return least / (1 - discount), most / (1 - discount)


@cache
def double_dqn() -> Any:
    """The class, a subclass of `stable_baselines3.DQN`.

    The choice of the online network is valued by the target network (van Hasselt et al. 2016), and no target exceeds
    what the best reward would give for ever. With several updates per step, plain DQN's values grow without bounds.
    """
    package = import_extra("stable_baselines3", "sb3", "ActorCritic")

    class DoubleDQN(package.DQN):  # type: ignore[name-defined]
        def train(self, gradient_steps: int, batch_size: int = 256) -> None:
            """Update the networks; the target network is left to the caller."""
            self.policy.set_training_mode(True)
            for _ in range(gradient_steps):
                batch = self.replay_buffer.sample(batch_size)
                with torch.no_grad():
                    best = self.q_net(batch.next_observations).argmax(dim=1, keepdim=True)
                    later = self.q_net_target(batch.next_observations).gather(1, best)
                    later = later.clamp(*bounds(batch.rewards, self.gamma))
                    target = batch.rewards + (1 - batch.dones) * self.gamma * later
                found = self.q_net(batch.observations).gather(1, batch.actions.long())
                self.policy.optimizer.zero_grad()
                smooth_l1_loss(found, target).backward()
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
            self._n_updates += gradient_steps

    return DoubleDQN
