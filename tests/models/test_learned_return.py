"""The cost of plans from a learned reward, termination and a value at the plan's end."""

from __future__ import annotations

import torch

from ebm_control.data import Normalizer
from ebm_control.models import EndNetwork, LearnedReturn, RewardNetwork
from ebm_control.models.reward import KnownReward
from tests.helpers import normal


def parts(dim=2):
    normalizer = Normalizer.identity(dim, 1)
    reward, ends = RewardNetwork(normalizer.layout, (8,)), EndNetwork(normalizer.layout, (8,))
    reward.mean.fill_(2.0)
    reward.std.fill_(0.5)
    s = normal(3, 5, dim, dtype=torch.float32)
    return reward, ends, (s, normal(3, 5, 1, dtype=torch.float32), s + 0.1)


def test_rewards_are_discounted_and_the_value_of_the_last_state_follows():
    reward, _, (s, a, n) = parts()
    paid = LearnedReturn(reward)(s, a, n)
    found = LearnedReturn(reward, None, lambda x: 3.0 * x[..., 0], 0.9)(s, a, n)
    weights = 0.9 ** torch.arange(5.0)
    torch.testing.assert_close(found[:, :-1], (paid * weights)[:, :-1])
    # The value is in units of the environment, of which the network's unit is half.
    torch.testing.assert_close(found[:, -1], (paid * weights)[:, -1] + 0.9**5 * 6.0 * n[:, -1, 0])


def test_no_value_follows_an_end():
    reward, ends, (s, a, n) = parts()
    ends.count.fill_(1)
    ends.shift.fill_(50.0)  # every transition ends its episode
    found = LearnedReturn(reward, ends, lambda x: torch.full_like(x[..., 0], 100.0), 0.99)(s, a, n)
    torch.testing.assert_close(found[:, 1:], torch.zeros(3, 4), atol=1e-4, rtol=0)


def test_a_known_reward_is_called_in_the_units_of_the_environment():
    _, _, (s, a, n) = parts()
    normalizer = Normalizer(
        torch.tensor([1.0, 2.0]),
        torch.tensor([3.0, 4.0]),
        torch.tensor([0.5]),
        torch.tensor([2.0]),
        torch.ones(2),
    )

    def reward(before, action, after):
        return before[..., 0] + 10 * action[..., 0] + 100 * after[..., 1]

    found = LearnedReturn(KnownReward(normalizer, reward), unit=4.0)(s, a, n)
    expected = (s[..., 0] * 3 + 1) + 10 * (a[..., 0] * 2 + 0.5) + 100 * (n[..., 1] * 4 + 2)
    torch.testing.assert_close(found, expected / 4)


def test_a_barrier_costs_the_log_odds_of_an_end_at_every_step_within_its_range():
    reward, ends, (s, a, n) = parts()
    ends.count.fill_(3)
    with torch.no_grad():
        ends.network.layers[-1].weight.mul_(300)
        without, found = (
            LearnedReturn(reward, ends)(s, a, n),
            LearnedReturn(reward, ends, barrier=0.5)(s, a, n),
        )
        odds = ends(s, a, n)
    assert float(odds.max()) > 10.0 or float(odds.min()) < -30.0
    torch.testing.assert_close(without - found, 0.5 * odds.clamp(-30, 10), atol=1e-3, rtol=1e-4)
    none = LearnedReturn(reward, None, barrier=0.5)(s, a, n)
    torch.testing.assert_close(none, LearnedReturn(reward, None)(s, a, n))
