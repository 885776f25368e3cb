"""Rewards in the data, by which a reward written by hand is checked."""

import warnings

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.data.normalizer import Normalizer
from ebm_control.models import TrajectoryModel, fit_model
from ebm_control.models.recorded import COUNT, RecordedRewards, is_flat
from tests.training.helpers import tiny

pytestmark = pytest.mark.slow


def true(s, a, after):
    return after[..., 0] - 0.1 * a[..., 0] ** 2


def buffer(reward=true, episodes=6, steps=30, seed=0):
    rng, data = np.random.default_rng(seed), RolloutBuffer(2, 1)
    for _ in range(episodes):
        states, actions = rng.normal(0, 2, (steps + 1, 2)), rng.uniform(-1, 1, (steps, 1))
        rewards = None if reward is None else reward(states[:-1], actions, states[1:])
        data.add_episode(states, actions, rewards)
    return data


def test_the_reward_of_the_data_agrees_and_is_silent():
    recorded = RecordedRewards.of(buffer())
    assert recorded.agreement(true) == pytest.approx((1.0, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded.compare(true)
        recorded.compare(
            lambda s, a, after: 1.5 * true(s, a, after) + 7
        )  # other units within bounds, an offset


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (lambda s, a, after: -true(s, a, after), r"in the data is -1.00 \(is its sign the opposite\?\)"),
        (lambda s, a, after: s[..., 1], "correlation"),
        (lambda s, a, after: 10 * true(s, a, after), "standard deviation 10 times theirs"),
        (lambda s, a, after: 0 * s[..., 0], "is 0.00 and its standard deviation 0 times"),
    ],
)
def test_another_reward_is_warned_of(reward, said):
    with pytest.warns(UserWarning, match=said):
        RecordedRewards.of(buffer()).compare(reward)


@pytest.mark.parametrize("reward", [None, lambda s, a, after: np.ones(len(a))])
def test_without_rewards_or_with_equal_ones_there_is_nothing_to_compare(reward):
    assert RecordedRewards.of(buffer(reward)) is None
    assert RecordedRewards.of(RolloutBuffer(2, 1)) is None


def test_one_episode_without_rewards_leaves_none():
    data = buffer()
    data.add_episode(np.zeros((3, 2)), np.zeros((2, 1)))
    assert RecordedRewards.of(data) is None


def test_no_more_transitions_than_needed_are_remembered_and_equal_seeds_give_equal_ones():
    data = buffer(episodes=30, steps=50)
    a, b, c = (RecordedRewards.of(data, seed) for seed in (0, 0, 1))
    assert len(a.rewards) == COUNT
    assert torch.equal(a.states, b.states)
    assert not torch.equal(a.states, c.states)


@pytest.mark.parametrize(
    "reward",
    [
        lambda s: s,
        lambda s, a, after: s,
        lambda s, a, after: s[..., 5],
        lambda s, a, after: 0.0,
        lambda s, a, after: s[..., 0] / 0,
    ],
)
def test_a_reward_that_fails_is_named(reward):
    with pytest.raises(InputError, match=r"^reward"):
        RecordedRewards.of(buffer()).compare(reward)


def test_a_saved_model_remembers_them(tmp_path):
    model = fit_model(buffer(), tiny(updates=2), progress=False)
    assert model.recorded is not None
    again = TrajectoryModel.load(model.save(tmp_path / "model"))
    for name in ("states", "actions", "after", "rewards"):
        assert torch.equal(getattr(again.recorded, name), getattr(model.recorded, name))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_whether_a_reward_is_flat_does_not_depend_on_the_mode_of_the_caller(mode):
    normalizer = Normalizer.fit(torch.randn(50, 2), torch.randn(50, 1))
    with mode():
        assert not is_flat(true, None, normalizer)
        assert is_flat(lambda s, a, after: (after[..., 0] > 0).double(), None, normalizer)
