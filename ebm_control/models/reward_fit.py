"""Fitting reward and termination networks to recorded data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from ebm_control.checks import require, require_number, require_seed
from ebm_control.data.batch import Batch
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.models.reward import EndNetwork, RewardNetwork, TransitionNetwork
from ebm_control.training.regression import regress

Error = Callable[[Tensor, Tensor], Tensor]  # mean error of outputs compared with targets


def fit_reward(
    network: RewardNetwork,
    data: RolloutBuffer,
    normalizer: Normalizer,
    updates: int = 300,
    *,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> float:
    """Fit a reward network by least squares, in place, starting from its present weights.

    The first call sets its unit of reward from the data; later calls keep it, so that the weights of costs stay valid.

    Args:
        network: network to fit.
        data: transitions and their rewards.
        normalizer: units of the trajectory.
        updates: updates of Adam.
        batch_size: transitions per update.
        learning_rate: initial learning rate, falling to 0.
        seed: seed of the batches.

    Returns:
        Root mean square error on up to a thousand of the transitions, in stds of the rewards.

    Raises:
        InputError: there are no data, or a setting is out of its range.

    """
    _check(batch_size, seed)
    require(len(data) > 0, "data", given="no transitions", expected="at least 1")
    pairs = _pairs(data, normalizer)
    rewards = torch.from_numpy(np.concatenate([episode.rewards for episode in data.episodes()])).float()
    if not bool(network.fitted):
        spread = rewards.std() if len(rewards) > 1 else rewards.new_zeros(())
        network.mean.copy_(rewards.mean())
        network.std.copy_(torch.where(spread > 1e-8, spread, torch.ones_like(spread)))
        network.fitted.fill_(True)
    targets = (rewards - network.mean) / network.std
    everything = [torch.arange(len(pairs))]
    _fit(network, mse_loss, _drawn(pairs, targets, everything, batch_size, seed), updates, learning_rate)
    some = next(_drawn(pairs, targets, everything, min(len(pairs), 1000), seed + 1))
    with torch.no_grad():
        return float(_loss(network, mse_loss, some).sqrt())


def fit_ends(
    network: EndNetwork,
    data: RolloutBuffer,
    normalizer: Normalizer,
    updates: int = 300,
    *,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> int:
    """Fit a network of ends by logistic regression, in place, starting from its present weights.

    Ends are rare: each batch holds as many of them as of other transitions, and the network's `shift` corrects for it.

    The arguments are those of `fit_reward`. Without an end in the data, or with nothing but ends, there are no updates.

    Returns:
        Number of ends in the data.

    """
    _check(batch_size, seed)
    ended = [np.append(np.zeros(len(e) - 1, bool), e.terminated) for e in data.episodes()]
    label = torch.from_numpy(np.concatenate(ended)) if ended else torch.zeros(0, dtype=torch.bool)
    count = int(label.sum())
    network.count.fill_(count if count < len(label) else 0)
    if int(network.count) == 0:
        return 0
    pairs = _pairs(data, normalizer)
    network.shift.fill_(math.log(count / (len(label) - count)))
    groups = [label.nonzero()[:, 0], (~label).nonzero()[:, 0]]
    batches = _drawn(pairs, label.float(), groups, batch_size, seed)
    _fit(network, binary_cross_entropy_with_logits, batches, updates, learning_rate)
    return count


def _check(batch_size: int, seed: int) -> None:
    require_number("batch_size", batch_size, 1, whole=True)
    require_seed("seed", seed)


def _fit(
    network: TransitionNetwork, error: Error, batches: Iterator[Batch], updates: int, learning_rate: float
) -> None:
    """Train the network in place. Its weights require gradients only here: plans differentiate by states alone."""
    network.requires_grad_(True)
    regress(
        network.parameters(),
        lambda batch: _loss(network, error, batch),
        batches,
        updates,
        learning_rate=learning_rate,
        gradient_clip=1.0,
    )
    network.requires_grad_(False)


def _loss(network: TransitionNetwork, error: Error, batch: Batch) -> Tensor:
    """Mean error on transitions `(B, 2, D)`, whose targets are the batch's context."""
    states, actions = network.layout.states(batch.x), network.layout.actions(batch.x)
    assert batch.context is not None
    return error(network(states[:, 0], actions[:, 0], states[:, 1]), batch.context)


def _pairs(data: RolloutBuffer, normalizer: Normalizer) -> Tensor:
    """All transitions `(N, 2, D)`, normalised."""
    states, actions, after = (torch.from_numpy(part) for part in data.transitions())
    first, second = (normalizer.normalize(part, actions) for part in (states, after))
    return torch.stack([first, second], dim=1).float()


def _drawn(
    pairs: Tensor, targets: Tensor, groups: list[Tensor], batch_size: int, seed: int
) -> Iterator[Batch]:
    """Endless batches of transitions with their targets as context; each group of indices has an equal share."""
    generator = torch.Generator().manual_seed(seed)
    size = (max(1, batch_size // len(groups)),)
    while True:
        index = torch.cat([g[torch.randint(len(g), size, generator=generator)] for g in groups])
        yield Batch(pairs[index], targets[index])
