"""Fitting reward and termination networks to recorded data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ebm_control.checks import require, require_number, require_seed
from ebm_control.data.batch import Batch
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.models.reward import EndNetwork, RewardNetwork
from ebm_control.training.regression import regress


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
    require_number("batch_size", batch_size, 1, whole=True)
    require_seed("seed", seed)
    require(len(data) > 0, "data", given="no transitions", expected="at least 1")
    pairs, rewards = _rewarded(data, normalizer)
    if not bool(network.fitted):
        spread = rewards.std() if len(rewards) > 1 else rewards.new_zeros(())
        network.mean.copy_(rewards.mean())
        network.std.copy_(torch.where(spread > 1e-8, spread, torch.ones_like(spread)))
        network.fitted.fill_(True)
    targets = (rewards - network.mean) / network.std

    def squared(drawn: Batch) -> Tensor:
        assert drawn.index is not None
        return (_value(network, drawn.x) - targets[drawn.index]).square().mean()

    _regress(network, squared, _drawn(pairs, batch_size, seed), updates, learning_rate)
    with torch.no_grad():
        return float(squared(next(_drawn(pairs, min(len(pairs), 1000), seed + 1))).sqrt())


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

    Args:
        network: network to fit.
        data: transitions, with a flag for episodes that were terminated.
        normalizer: units of the trajectory.
        updates: updates of Adam; none if the data hold no end, or nothing but ends.
        batch_size: transitions per update.
        learning_rate: initial learning rate, falling to 0.
        seed: seed of the batches.

    Returns:
        Number of ends in the data.

    """
    ended = [np.append(np.zeros(len(e) - 1, bool), e.terminated) for e in data.episodes()]
    label = torch.from_numpy(np.concatenate(ended)) if ended else torch.zeros(0, dtype=torch.bool)
    count = int(label.sum())
    network.seen.fill_(count if count < len(label) else 0)
    if int(network.seen) == 0:
        return 0
    pairs = _pairs(data, normalizer)
    network.shift.fill_(math.log(count / (len(label) - count)))
    parts = [_drawn(pairs[label == end], batch_size // 2, seed + i) for i, end in enumerate((True, False))]

    def both() -> Iterator[Batch]:
        while True:
            yield Batch(torch.cat([next(part).x for part in parts]))

    targets = torch.cat([torch.ones(batch_size // 2), torch.zeros(batch_size // 2)])

    def cross_entropy(drawn: Batch) -> Tensor:
        return binary_cross_entropy_with_logits(_value(network, drawn.x), targets)

    _regress(network, cross_entropy, both(), updates, learning_rate)
    return count


def _regress(
    network: RewardNetwork | EndNetwork,
    loss: Callable[[Batch], Tensor],
    batches: Iterator[Batch],
    updates: int,
    learning_rate: float,
) -> None:
    """Train the network in place. Its weights require gradients only here: plans differentiate by states alone."""
    network.requires_grad_(True)
    regress(network.parameters(), loss, batches, updates, learning_rate=learning_rate, gradient_clip=1.0)
    network.requires_grad_(False)


def _value(network: RewardNetwork | EndNetwork, x: Tensor) -> Tensor:
    layout = network.layout
    states = layout.states(x)
    value: Tensor = network(states[:, 0], layout.actions(x)[:, 0], states[:, 1])
    return value


def _rewarded(data: RolloutBuffer, normalizer: Normalizer) -> tuple[Tensor, Tensor]:
    """All transitions `(N, 2, D)`, normalised, and their rewards `(N,)`."""
    rewards = np.concatenate([episode.rewards for episode in data.episodes()])
    return _pairs(data, normalizer), torch.from_numpy(rewards).float()


def _pairs(data: RolloutBuffer, normalizer: Normalizer) -> Tensor:
    """All transitions `(N, 2, D)`, normalised."""
    states, actions, after = (torch.from_numpy(part) for part in data.transitions())
    first, second = (normalizer.normalize(part, actions) for part in (states, after))
    return torch.stack([first, second], dim=1).float()


def _drawn(pairs: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        index = torch.randint(len(pairs), (batch_size,), generator=generator)
        yield Batch(pairs[index], None, index)
