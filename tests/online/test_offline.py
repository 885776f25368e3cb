"""Learning from recorded rollouts alone: what is taken in, the policy of the data, and plans that stay close to it."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from ebm_control import RolloutBuffer, collect
from ebm_control.checks import InputError
from ebm_control.data import Normalizer, adapt
from ebm_control.energies.costs import SmoothnessCost
from ebm_control.online import PRESETS, ClonedPolicy, LearnedReward, learn_offline, prepare_online, pretrain
from ebm_control.planning import run_episodes
from tests.data.environments import Point

UNITS = Normalizer(
    torch.tensor([10.0]), torch.tensor([2.0]), torch.tensor([2.0]), torch.tensor([0.5]), torch.ones(1)
)
SPACE = Box(-2.0, 6.0, (1,), np.float32)
TINY = replace(
    PRESETS["offline"],
    policy={**PRESETS["offline"].policy, "hidden": (32,), "updates": 200},
    tilt=(8,),
    base=(16,),
    updates=2,
    base_updates=60,
    reward_updates=60,
)


def decided(steps: int = 3000, better: float = 5.0) -> RolloutBuffer:
    """Actions around 3; the reward is the closeness to `better`, and every state is as good as any other."""
    rng, data = np.random.default_rng(0), RolloutBuffer(1, 1)
    for _ in range(steps // 50):
        actions = np.clip(rng.normal(3, 1, (50, 1)), -2, 6)
        states = rng.normal(10, 2, (51, 1))
        data.add_episode(states, actions, -np.abs(actions[:, 0] - better))
    return data


def cloned(**changes) -> ClonedPolicy:
    made = ClonedPolicy(
        **{"hidden": (32,), "learning_rate": 3e-3, "discount": 0.5, "behaviour_weight": 0.5} | changes
    )
    made.begin(UNITS, SPACE, 1.0)
    return made


@pytest.mark.slow
def test_the_policy_is_that_of_the_data_and_its_cost_is_the_squared_distance() -> None:
    policy = cloned()
    policy.learn(decided(), 1500)
    states = torch.linspace(-1, 1, 7)[:, None]
    np.testing.assert_allclose(UNITS.denormalize_actions(policy.act(states)).numpy(), 3.0, atol=0.3)
    draws = policy.act(torch.zeros(2000, 1), torch.Generator().manual_seed(0))
    assert float(draws.std() * 0.5) == pytest.approx(1.0, rel=0.1)
    x = torch.zeros(2, 3, 2)
    usual = policy.act(x[..., :1])
    x[0, :, 1:], x[1, :, 1:] = usual[0], usual[1] + 2 * policy.log_std.detach().exp()
    found = policy.cost()(x)
    assert float(found[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(found[1]) == pytest.approx(0.5 * 2 * 0.5 * 4, rel=1e-4)  # weight, steps, ½ z²


@pytest.mark.slow
def test_an_expectile_above_a_half_values_what_the_better_actions_led_to() -> None:
    values = []
    for expectile in (0.5, 0.9):
        policy = cloned(expectile=expectile)
        policy.learn(decided(), 1500)
        values.append(float(policy.value(torch.zeros(1, 1))))
    mean = 2 * float(-np.abs(np.clip(np.random.default_rng(1).normal(3, 1, 9999), -2, 6) - 5).mean())
    assert values[0] == pytest.approx(mean, rel=0.15), "of rewards for ever, half as much each step"
    assert values[1] > values[0] + 0.5


def test_what_is_learned_is_kept_in_checkpoints() -> None:
    policy, other = cloned(), ClonedPolicy(hidden=(32,), discount=0.5)
    policy.learn(decided(200), 20)
    other.load_state_dict(policy.state_dict(), SPACE)
    states = torch.randn(5, 1)
    torch.testing.assert_close(policy.act(states), other.act(states))
    torch.testing.assert_close(policy.value(states), other.value(states))
    assert ClonedPolicy().state_dict() == {}


def test_units_that_change_begin_again() -> None:
    policy = cloned()
    policy.learn(decided(200), 20)
    before = policy.value(torch.ones(1, 1))
    policy.heed(UNITS)
    torch.testing.assert_close(policy.value(torch.ones(1, 1)), before)
    policy.heed(Normalizer.from_dict(UNITS.to_dict()))  # equal, as read from a checkpoint
    torch.testing.assert_close(policy.value(torch.ones(1, 1)), before)
    policy.heed(Normalizer.from_dict(UNITS.to_dict() | {"obs_std": [3.0]}))
    assert float(policy.value(torch.ones(1, 1))) != float(before)


@pytest.mark.slow
def test_plans_from_recorded_rollouts_are_better_than_what_was_recorded(tmp_path) -> None:
    data = collect(Point, 3000, num_envs=4, seed=0, progress=False)
    told: list[int] = []
    run = learn_offline(
        Point,
        data,
        rounds=4,
        preset=TINY,
        progress=False,
        folder=tmp_path,
        report=lambda step, run: told.append(step),  # type: ignore[func-returns-value]
    )
    assert told == [750, 1500, 2250, 3000]
    taken = len(run.experience.data) + len(run.experience.held)
    assert taken == 3000
    assert run_episodes(run.agent(), [Point() for _ in range(5)], seed=1).mean > -15.0, (
        "random actions: about -25"
    )
    assert list(tmp_path.glob("checkpoints/*"))


def test_data_that_do_not_fit_are_refused() -> None:
    data = decided(100)
    with pytest.raises(InputError, match=r"^data: expected 3 and 1 coordinates .* got 1 and 1"):
        learn_offline("Pendulum-v1", data, preset=TINY, progress=False)
    with pytest.raises(InputError, match=r"^rounds: expected a whole number of at least 1, got 0"):
        learn_offline(Point, collect(Point, 100, progress=False), rounds=0, preset=TINY, progress=False)
    with pytest.raises(InputError, match=r"^data: expected a RolloutBuffer"):
        learn_offline(Point, "file.npz", progress=False)  # type: ignore[arg-type]
    bare = RolloutBuffer(*(space.shape[0] for space in (Point().observation_space, Point().action_space)))
    shape = bare.obs_dim, bare.act_dim
    bare.add_episode(np.zeros((11, shape[0])), np.zeros((10, shape[1])))
    with pytest.raises(InputError, match=r"^data: expected rollouts with rewards"):
        learn_offline(Point, bare, preset=TINY, progress=False)


@pytest.mark.parametrize(
    ("name", "value"), [("discount", 1.5), ("expectile", 0.0), ("behaviour_weight", -1), ("batch_size", 0)]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{name}: "):
        ClonedPolicy(**{name: value})


def test_a_stopped_run_goes_on_with_its_data_and_its_policy(tmp_path) -> None:
    data = collect(Point, 600, num_envs=2, seed=0, progress=False)
    about = {"preset": TINY, "progress": False, "folder": tmp_path, "seed": 1}
    first = learn_offline(Point, data, rounds=4, report=lambda step, run: step >= 300, **about)
    again = learn_offline(Point, data, rounds=4, resume=True, **about)
    assert first.progress.rounds == 2
    assert (again.progress.rounds, again.progress.step) == (4, 600)
    assert len(again.experience.data) + len(again.experience.held) == 600, "taken in once"
    states = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    learned = again.planner.policy.act(states)
    done = learn_offline(Point, data, rounds=4, resume=True, **about)
    done.agent()  # builds a planner, and takes the units that were read from the checkpoint
    torch.testing.assert_close(done.planner.policy.act(states), learned)
    other = replace(TINY, policy={**TINY.policy, "hidden": (16,)})
    with pytest.raises(
        InputError, match=r"^policy: expected that of the checkpoint, got a ClonedPolicy of other settings"
    ):
        learn_offline(Point, data, rounds=4, resume=True, **about | {"preset": other})


def test_little_data_has_as_many_updates_as_much() -> None:
    policy = cloned(updates=7)
    assert (policy.count(10), policy.count(10_000)) == (35, 35)
    policy.learn(decided(100), 1)
    assert policy.count(10) == 7


def test_an_agent_pays_for_what_the_policy_has_become_since_it_was_built() -> None:
    policy = cloned()
    cost, x = policy.cost(), torch.randn(3, 4, 2)
    before = cost(x)
    policy.learn(decided(500), 200)
    assert not torch.allclose(before, cost(x))
    torch.testing.assert_close(cost(x), policy.cost()(x))


def test_a_choice_is_a_number_and_a_dictionary_is_refused_in_words() -> None:
    space = adapt(gym.make("CartPole-v1")).action_space
    rng, data = np.random.default_rng(0), RolloutBuffer(4, 2)
    for _ in range(4):
        states = rng.normal(size=(26, 4))
        data.add_episode(states, np.eye(2)[(states[:-1, 0] > 0).astype(int)], np.ones(25))
    policy = ClonedPolicy(hidden=(32,), learning_rate=3e-3)
    policy.begin(data.normalizer(), space, 1.0)
    policy.learn(data, 300)
    assert policy.predict(np.array([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]]))[0].tolist() == [0, 1]
    with pytest.raises(InputError, match=r"^observation: expected shape \(4,\) .* got a dictionary"):
        policy.predict({"position": np.zeros(4)})


def test_one_environment_is_enough_and_rewards_are_needed_only_where_they_count() -> None:
    data = RolloutBuffer(2, 2)
    rng = np.random.default_rng(0)
    for _ in range(4):
        data.add_episode(rng.normal(size=(31, 2)), rng.uniform(-1, 1, (30, 2)))
    run = learn_offline(Point(), data, rounds=1, preset=TINY, cost=_still, progress=False)
    assert run.agent() is not None
    with pytest.raises(InputError, match=r"^steps: expected at least 120"):
        pretrain(prepare_online(Point, 100, cost=_still, preset=TINY, progress=False), data, 1)
    turned = RolloutBuffer(2, 2, periods=(6.28, 0))
    turned.add_episode(np.zeros((3, 2)), np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"^data: .*periods \(6.28, 0"):
        learn_offline(Point, turned, preset=TINY, progress=False)


def _still(model):
    return SmoothnessCost(model.layout)


def test_a_reward_with_settings_of_its_own_is_taken() -> None:
    own = LearnedReward(50, barrier=0.2)
    run = prepare_online(Point, 100, reward=own, preset=TINY, progress=False)
    assert run.planner.reward is own
