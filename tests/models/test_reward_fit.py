import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.energies import RewardCost
from ebm_control.models import EndNetwork, RewardNetwork, fit_ends, fit_reward
from ebm_control.training.regression import seeded

pytestmark = pytest.mark.slow


def rollouts(rewards, episodes=20, length=25, seed=0):
    """Walks in the plane with one action, rewarded by a function of states, actions and next states."""
    rng, buffer = np.random.default_rng(seed), RolloutBuffer(2, 1)
    for _ in range(episodes):
        states, actions = rng.normal(size=(length + 1, 2)), rng.uniform(-1, 1, (length, 1))
        buffer.add_episode(states, actions, rewards(states[:-1], actions, states[1:]))
    return buffer


def reward(s, a, after):
    """Of all three, in raw units far from 1."""
    return 50 + 30 * after[..., 0] - 10 * s[..., 1] ** 2 + 20 * a[..., 0]


def fitted(data, updates=600, normalizer=None, calls=1):
    normalizer = normalizer or data.normalizer()
    with seeded(0):
        network = RewardNetwork(normalizer.layout, (64, 64))
    errors = [fit_reward(network, data, normalizer, updates, seed=i) for i in range(calls)]
    return network, normalizer, errors


def test_a_reward_of_states_and_actions_is_learned_in_its_own_units():
    network, normalizer, (error,) = fitted(rollouts(reward))
    assert error < 0.15
    states, actions, after = (torch.from_numpy(part) for part in rollouts(reward, 5, seed=1).transitions())
    first = normalizer.normalize(states, actions).float()
    second = normalizer.normalize(after, actions).float()
    found = network.raw(first[:, :2], first[:, 2:], second[:, :2])
    expected = reward(states, actions, after).float()
    assert float((found - expected).square().mean().sqrt() / expected.std()) < 0.3
    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_more_rounds_fit_better_and_units_stay_those_of_the_first():
    data = rollouts(reward)
    network, _, errors = fitted(data, updates=150, calls=4)
    assert errors[-1] < 0.6 * errors[0]
    mean, std = float(network.mean), float(network.std)
    fit_reward(network, rollouts(lambda *given: 1000 * reward(*given)), data.normalizer(), 1)
    assert (float(network.mean), float(network.std)) == (mean, std)
    assert mean == pytest.approx(np.mean([e.rewards.mean() for e in data.episodes()]), rel=1e-5)


def test_it_is_frozen_when_it_is_fitted_and_makes_a_cost():
    network, normalizer, _ = fitted(rollouts(reward), updates=5)
    assert not any(p.requires_grad for p in network.parameters())
    x = torch.randn(3, 5, 3, requires_grad=True)
    cost = RewardCost(normalizer.layout, network)(x)
    assert cost.shape == (3,)
    (gradient,) = torch.autograd.grad(cost.sum(), x)
    assert (gradient[:, :-1] != 0).any(dim=(0, 1)).all()


def test_a_reward_that_never_changes_is_no_division_by_nought():
    network, _, (error,) = fitted(rollouts(lambda s, a, after: np.ones(len(s))), updates=50)
    assert float(network.std) == 1
    assert error < 0.2


def test_equal_seeds_give_equal_networks():
    one, other = (fitted(rollouts(reward), updates=20)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_no_data_is_refused():
    data = rollouts(reward)
    with pytest.raises(InputError, match="data: expected at least 1, got no transitions"):
        fitted(RolloutBuffer(2, 1), normalizer=data.normalizer())


def test_ends_are_told_by_where_they_happen_and_by_how_often():
    rng, buffer = np.random.default_rng(0), RolloutBuffer(1, 1)
    for _ in range(200):
        x = np.linspace(rng.uniform(-0.5, 0.5), 1.05 if rng.random() < 0.5 else 0.6, 12)
        buffer.add_episode(x[:, None], np.zeros((11, 1)), np.zeros(11), terminated=x[-1] > 1)
    normalizer = buffer.normalizer()
    network = EndNetwork(normalizer.layout, (64, 64))
    assert fit_ends(network, buffer, normalizer, 1000) == sum(e.terminated for e in buffer.episodes())

    def chance(s, after):
        points = normalizer.normalize_observations(torch.tensor([[s], [after]])).float()
        return float(network.probability(points[:1], torch.zeros(1, 1), points[1:]))

    assert chance(0.95, 1.05) > 0.6
    assert chance(0.1, 0.15) < 0.02

    anywhere = RolloutBuffer(1, 1)
    for _ in range(100):
        anywhere.add_episode(rng.uniform(-1, 1, (51, 1)), np.zeros((50, 1)), np.zeros(50), terminated=True)
    network = EndNetwork(normalizer.layout, (8,))
    fit_ends(network, anywhere, anywhere.normalizer(), 100)
    assert float(network.probability(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1))) < 0.1, (
        "one in 50 ends"
    )
