"""A policy and a value for plans: what they learn from, their units, checkpoints, and plans that use them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from ebm_control.checks import InputError
from ebm_control.data import Normalizer, RolloutBuffer, adapt
from ebm_control.online import ActorCritic, LearnedReward, OnlineLearning, OnlinePlanner, OnlineSettings
from ebm_control.planning import run_episodes
from ebm_control.samplers import MPPI
from tests.data.environments import Point
from tests.online.test_faults import learner

pytestmark = pytest.mark.slow
SPACE = Box(-2.0, 6.0, (1,), np.float32)
UNITS = Normalizer(
    torch.tensor([10.0]), torch.tensor([2.0]), torch.tensor([2.0]), torch.tensor([0.5]), torch.ones(1)
)


class Stays:
    """Dynamics that add the normalised action to the normalised state, and count what they were asked."""

    def __init__(self, layout):
        self.layout, self.asked = layout, 0

    def rollout(self, x):
        self.asked += len(x)
        x = x.clone()
        x[:, 1, :1] = x[:, 0, :1] + x[:, 0, 1:]
        return x[:, None]


def small(**changes):
    return ActorCritic(**{"hidden": (16,), "batch_size": 32, "learning_rate": 1e-2} | changes)


def walk(steps=50, terminated=False):
    rng, data = np.random.default_rng(0), RolloutBuffer(1, 1)
    for _ in range(4):
        actions = rng.uniform(-2, 6, (steps, 1))
        data.add_episode(
            10 + np.cumsum(np.append(0, actions))[:, None] * 0.1,
            actions,
            -np.abs(actions[:, 0] - 5),
            terminated,
        )
    return data


def begun(**changes):
    made = small(**changes)
    made.begin(UNITS, SPACE, unit=2.0)
    return made


def test_actions_lie_in_the_space_and_come_back_in_its_units():
    policy = begun()
    states = 5 * torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    raw = UNITS.denormalize_actions(policy.act(states, torch.Generator().manual_seed(1)))
    assert raw.min() >= -2.0 - 1e-5
    assert raw.max() <= 6.0 + 1e-5
    assert raw.std() > 0.5, "samples of an untrained policy spread over the space"
    action, _ = policy.predict(UNITS.denormalize_observations(states[0]).numpy())
    expected = UNITS.denormalize_actions(policy.act(states[:1]))[0]
    np.testing.assert_allclose(action, expected.numpy(), rtol=1e-5)


def test_the_best_action_is_learned_from_executed_transitions_alone():
    policy = begun(imagined=0.0, discount=0.5)
    policy.learn(walk(), 250)
    actions = policy.predict(np.array([[9.0], [10.0], [11.0]]))[0]
    np.testing.assert_allclose(actions, 5.0, atol=1.0)
    value = policy.value(torch.zeros(1, 1))
    assert -4.0 < float(value) < 1.0, "in the environment's units: random actions have a value of -6"


def test_imagined_transitions_begin_at_executed_states_and_follow_the_policy_in_the_model():
    policy, model = begun(imagined=0.5, branch=2), Stays(UNITS.layout)
    seen = []

    def rated(states, actions, after):
        seen.append((states, actions, after))
        torch.testing.assert_close(after, states + actions)
        return torch.zeros(len(states)), torch.zeros(len(states))

    data = walk()
    policy.learn(data, 10, model, rated)
    assert model.asked == 2 * 80, "half of 10 batches of 32, as branches of 2 steps"
    executed = UNITS.normalize_observations(torch.from_numpy(data.observations)).float()
    assert all(bool((executed == s).any()) for s in seen[0][0])
    torch.testing.assert_close(seen[1][0], seen[0][2])
    assert len(policy._imagined[0]) == 160


def test_nothing_is_imagined_after_a_sure_end():
    policy, model = begun(imagined=0.5, branch=3), Stays(UNITS.layout)
    policy.learn(walk(), 3, model, lambda s, a, n: (torch.zeros(len(s)), torch.ones(len(s))))
    assert model.asked == 16
    assert bool((policy._imagined[3] == 1).all())


def test_an_end_has_no_value_after_it():
    lasting, ending = (begun(imagined=0.0, discount=0.9, seed=3) for _ in range(2))
    for policy, terminated in ((lasting, False), (ending, True)):
        policy.learn(walk(steps=1, terminated=terminated), 300)
    state = torch.zeros(1, 1)
    assert float(ending.value(state)) > float(lasting.value(state)) + 1.0, "all rewards are negative"


def test_grown_units_change_nothing_about_the_policy():
    policy = begun()
    raw = torch.tensor([[7.0], [12.0]], dtype=torch.float64)
    before = policy.predict(raw.numpy())[0], policy.value(UNITS.normalize_observations(raw).float())
    wider = Normalizer(
        torch.tensor([4.0]), torch.tensor([20.0]), torch.tensor([1.0]), torch.tensor([3.0]), torch.ones(1)
    )
    policy.heed(wider)
    np.testing.assert_allclose(policy.predict(raw.numpy())[0], before[0], rtol=1e-4)
    torch.testing.assert_close(policy.value(wider.normalize_observations(raw).float()), before[1])


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    policy = begun()
    policy.learn(walk(), 3)
    torch.testing.assert_close(torch.rand(3), expected)


def test_a_restored_policy_is_the_same_and_goes_on_alike():
    policy = begun(imagined=0.0)
    policy.learn(walk(), 20)
    again = small(imagined=0.0)
    again.load_state_dict(policy.state_dict(), SPACE)
    states = torch.linspace(-1, 1, 5)[:, None]
    torch.testing.assert_close(again.act(states), policy.act(states))
    torch.testing.assert_close(again.value(states), policy.value(states))
    temperatures = [one.sb3.log_ent_coef.item() for one in (again, policy)]
    assert temperatures[0] == temperatures[1] != 0.0


def test_of_choices_the_better_one_is_learned_in_fewer_updates_than_targets_take():
    space = adapt(gym.make("CartPole-v1")).action_space
    rng, data = np.random.default_rng(0), RolloutBuffer(1, 2)
    for _ in range(4):
        chosen = rng.integers(2, size=50)
        data.add_episode(rng.normal(size=(51, 1)), np.eye(2)[chosen], chosen.astype(float))
    policy = small(imagined=0.0, discount=0.5)
    policy.begin(data.normalizer(), space, unit=1.0)
    for _ in range(40):
        policy.learn(data, 5)  # targets follow after ten
    assert policy.predict(np.array([[-1.0], [0.0], [1.0]]))[0].tolist() == [1, 1, 1]
    taken = data.normalizer().denormalize_actions(policy.act(torch.zeros(1, 1)))
    torch.testing.assert_close(taken, torch.tensor([[0.0, 1.0]]), atol=1e-5, rtol=0, check_dtype=False)
    assert 1.0 < float(policy.value(torch.zeros(1, 1))) < 3.0, "1 per step, discounted by half: 2"


def test_values_of_choices_stay_below_the_best_reward_for_ever_after_many_updates():
    """The two choices are worth the same, and the states mean nothing: noise alone is left to be exploited."""
    space = adapt(gym.make("CartPole-v1")).action_space
    rng, data = np.random.default_rng(0), RolloutBuffer(4, 2)
    for _ in range(2):
        chosen = rng.integers(2, size=20)
        data.add_episode(rng.normal(size=(21, 4)), np.eye(2)[chosen], rng.uniform(0, 1, 20))
    policy = small(imagined=0.0, discount=0.9, hidden=(64, 64), learning_rate=1e-2)
    policy.begin(data.normalizer(), space, unit=1.0)
    policy.learn(data, 1500)
    far = policy.value(4 * torch.randn(500, 4, generator=torch.Generator().manual_seed(0)))
    near = policy.value(data.normalizer().normalize_observations(torch.from_numpy(data.observations)))
    assert float(near.max()) < 11.0, "1 at most, discounted by 0.9: 10"
    assert 2.0 < float(near.mean()) < 8.0, "a half on average: 5"
    assert torch.isfinite(far).all()


@pytest.mark.parametrize(
    ("name", "value"), [("discount", 1.0), ("imagined", 1.0), ("branch", 0), ("updates", -1.0), ("memory", 0)]
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name}: expected"):
        ActorCritic(**{name: value})


def run_with(policy, folder=None, resume=False, steps=400):
    sampler = MPPI(1, 8, noise=0.5, smooth=False)
    planner = OnlinePlanner(3, reward=LearnedReward(60), sampler=sampler, chains=2, policy=policy)
    settings = OnlineSettings(steps=steps, environments=2, warm_up=200, every=100, growth=0.0, replan_every=1)
    return OnlineLearning(
        Point, learner("feed-forward"), planner, settings, folder=folder, resume=resume, progress=False
    )


def test_plans_with_a_policy_learn_a_task_and_a_resumed_run_has_the_same_policy(tmp_path):
    policy = small(updates=1.0)
    run = run_with(policy, tmp_path)
    run.run()
    assert policy.rounds == 3
    assert len(policy._imagined[0]) > 0
    assert run_episodes(run.agent(), [Point() for _ in range(5)], seed=1).mean > -16.0, "random: about -25"
    again = small(updates=1.0)
    resumed = run_with(again, tmp_path, resume=True, steps=500)
    states = torch.zeros(1, 2)
    torch.testing.assert_close(again.act(states), policy.act(states))
    resumed.run()
    assert again.rounds == 4


def test_a_policy_needs_a_reward_that_is_learned():
    with pytest.raises(InputError, match=r"^policy: expected one beside a LearnedReward"):
        OnlinePlanner(3, policy=small())
