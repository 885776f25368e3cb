from dataclasses import replace

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.energies import GoalCost, RewardCost
from ebm_control.planning import MPCAgent, Planner
from ebm_control.samplers import Langevin
from tests.helpers import assert_equal_up_to_rounding
from tests.planning.helpers import LAYOUT, NORMALIZER, SPACE, plain_planner

GOAL = np.array([0.2, -0.1])
BATCH = np.array([[0.0, 0.0], [0.5, 0.5], [-0.3, 0.4]])
QUICK = Langevin(5, 0.001, scale=(0.3, 0.3, 1.0, 1.0))


def quick_agent(sampler=QUICK, goal=GOAL, seed=0, chains=4, **given):
    planner = plain_planner(sampler, 5, chains=chains, spread=torch.tensor([0.1, 0.1, 3.0, 3.0]))
    return MPCAgent(planner, NORMALIZER, SPACE, goal=goal, seed=seed, **given)


def goals(observations, goal=GOAL):
    return {"observation": observations, "desired_goal": np.broadcast_to(goal, observations.shape)}


def test_single_and_batched_observations_give_actions_of_their_shape():
    single, state = quick_agent().predict(BATCH[0])
    batched, states = quick_agent().predict(BATCH)
    assert single.shape == (2,)
    assert batched.shape == (3, 2)
    assert len(state.states) == 1
    assert len(states.states) == 3
    one, _ = quick_agent().predict(BATCH[:1])
    assert np.array_equal(one[0], single)


def test_goal_in_the_observation_is_the_goal_given():
    plain, _ = quick_agent().predict(BATCH)
    from_dict, _ = quick_agent(goal=None).predict(goals(BATCH))
    single, _ = quick_agent(goal=None).predict(goals(BATCH[0]))
    assert np.array_equal(plain, from_dict)
    assert single.shape == (2,)
    other, _ = quick_agent(goal=None).predict(goals(BATCH, -GOAL))
    assert not np.array_equal(plain, other)


@pytest.mark.parametrize("deterministic", [True, False])
def test_actions_lie_in_the_space_and_have_its_dtype(deterministic):
    agent = quick_agent(Langevin(0), goal=[0.9, 0.9])  # chains as they start, beyond all bounds
    outside = 0
    for _ in range(20):
        actions, plan = agent.predict(BATCH, deterministic=deterministic)
        assert actions.dtype == SPACE.dtype
        assert all(SPACE.contains(action) for action in actions)
        outside += int((NORMALIZER.denormalize_actions(plan.chains[:, :, 0, 2:]).abs() > 0.05).sum())
    assert outside > 0


def test_equal_seeds_give_equal_actions():
    runs = []
    for seed in (0, 0, 1):
        agent, state, taken = quick_agent(seed=seed), None, []
        for _ in range(3):
            actions, state = agent.predict(BATCH, state)
            taken.append(actions)
        runs.append(np.stack(taken))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_episode_start_resets_only_its_own_rows():
    def after(episode_start, state=True):
        agent = quick_agent(Langevin(0))
        _, plan = agent.predict(BATCH)
        return agent.predict(BATCH, plan if state else None, episode_start)[1].chains

    none, some = after([False] * 3), after(np.array([False, True, False]))
    every, fresh = after([True] * 3), after(None, state=False)
    assert torch.equal(some[[0, 2]], none[[0, 2]])
    assert torch.equal(some[1], fresh[1])
    assert torch.equal(every, fresh)
    assert not torch.equal(none, fresh)
    assert torch.equal(none, after(None))


def test_a_state_of_another_batch_is_not_taken_up():
    agent, other = quick_agent(Langevin(0)), quick_agent(Langevin(0))
    _, plan = quick_agent(seed=5).predict(BATCH)
    assert torch.equal(agent.predict(BATCH[:2], plan)[1].chains, other.predict(BATCH[:2])[1].chains)


def test_acts_by_the_best_chain_or_by_one_drawn():
    agent = quick_agent(Langevin(0), chains=16, temperature=1e4)  # as good as uniform over chains
    seen = set()
    for _ in range(12):
        best, plan = agent.predict(BATCH[:1])
        first = NORMALIZER.denormalize_actions(plan.chains[0, :, 0, 2:])
        chosen = np.clip(first.numpy(), SPACE.low, SPACE.high).astype(np.float32)
        # One action and all at once, in other units and back.
        assert_equal_up_to_rounding(best[0], chosen[plan.energies[0].argmin()])
        drawn, plan = agent.predict(BATCH[:1], deterministic=False)
        first = NORMALIZER.denormalize_actions(plan.chains[0, :, 0, 2:])
        chosen = np.clip(first.numpy(), SPACE.low, SPACE.high).astype(np.float32)
        nearest = np.abs(chosen - drawn[0]).max(axis=1).argmin()
        assert_equal_up_to_rounding(drawn[0], chosen[nearest])
        seen.add(int(plan.energies[0].argsort().argsort()[nearest]))
    assert len(seen) >= 5


def test_a_reward_needs_no_goal_where_the_environment_has_one():
    reward = RewardCost(LAYOUT, lambda s, a, after: -after[..., 0].abs())
    agent = MPCAgent(plain_planner(QUICK, 5, reward), NORMALIZER, SPACE)
    actions, _ = agent.predict(goals(BATCH))
    assert actions.shape == (3, 2)


@pytest.mark.parametrize("goal", [[0.5], [0.5, 0.1, 0.2], [[0.1, 0.2]] * 3])
def test_goals_that_do_not_fit_are_refused(goal):
    with pytest.raises(InputError, match=r"goal: expected shape \(\d, 2\), got shape"):
        quick_agent(goal=goal).predict(BATCH[0])
    with pytest.raises(InputError, match=r"goal: expected shape \(1, 2\), got shape"):
        quick_agent(goal=None).predict({"observation": BATCH[0], "desired_goal": np.array(goal)})


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"observation": BATCH}, r"observation: expected also \['desired_goal'\]"),
        (
            {"agent_pos": BATCH, "pixels": BATCH},
            r"observation: expected a mapping that holds 'observation', got .*agent_pos",
        ),
        (
            goals(BATCH) | {"desired_goal": np.zeros((3, 3))},
            r"goal: expected shape \(3, 2\), got shape \(3, 3\)",
        ),
        (
            goals(BATCH) | {"desired_goal": np.zeros((2, 2))},
            r"goal: expected shape \(3, 2\), got shape \(2, 2\)",
        ),
        (goals(np.full((3, 2), np.nan)), "observation: expected finite values only, got 6"),
        (np.zeros((3, 4)), r"observation: expected shape \(N, 2\), got \(3, 4\)"),
    ],
)
def test_observations_that_do_not_fit_are_refused(observation, message):
    with pytest.raises(InputError, match=message) as caught:
        quick_agent(goal=None).predict(observation)
    assert "\n" not in str(caught.value)


NAN, INF = float("nan"), float("inf")
SETTINGS = {
    "temperature": [0.0, -1, NAN, INF, True, "warm", [], None],
    "replan_every": [0, -1, 1.5, 2.0, NAN, INF, True, "two", [], None],
    "tolerance": [-0.1, NAN, INF, "far", None, [0.1], [0.1, NAN], [[0.1, 0.1]], torch.zeros(3)],
    "seed": [-1, 1.5, 2**70, NAN, True, "one", [], None],
    "goal": ["there", [None, 0.0], {}],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in SETTINGS.items() for value in values], ids=repr
)
def test_settings_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name}: expected ") as caught:
        quick_agent(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.array([3])[0]])
def test_seeds_of_numpy_are_those_of_python(seed):
    drawn, expected = quick_agent(seed=seed).predict(BATCH)[0], quick_agent(seed=3).predict(BATCH)[0]
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize("tolerance", [0.1, np.float32(0.1), (0.1, 0.1), torch.full((2,), 0.1)])
def test_a_tolerance_is_one_number_or_one_for_each_coordinate(tolerance):
    assert torch.equal(quick_agent(tolerance=tolerance).tolerance.expand(2), torch.full((2,), 0.1))


@pytest.mark.parametrize(
    "begun",
    [
        "yes",
        ["a", "b", "c"],
        [True, None, False],
        [True, False],
        [True] * 4,
        [],
        [[True] * 3],
        [0.5, 0, 1],
        [NAN] * 3,
    ],
    ids=repr,
)
@pytest.mark.parametrize("state", [False, True])
def test_an_episode_start_that_does_not_fit_is_refused_by_name(begun, state):
    agent = quick_agent(Langevin(0))
    _, plan = agent.predict(BATCH)
    with pytest.raises(InputError, match=r"^episode_start: expected ") as caught:
        agent.predict(BATCH, plan if state else None, begun)
    assert "\n" not in str(caught.value)


FLAGS = np.array([False, True, False])


@pytest.mark.parametrize(
    "begun",
    [
        np.ascontiguousarray(FLAGS[::-1])[::-1],
        FLAGS.tolist(),
        FLAGS.astype(np.uint8),
        FLAGS.astype(">f8"),
        torch.from_numpy(FLAGS),
    ],
    ids=["reversed", "list", "bytes", "big-endian", "tensor"],
)
def test_an_episode_start_of_any_form_is_read_alike(begun):
    def chains(flags):
        agent = quick_agent(Langevin(0))
        return agent.predict(BATCH, agent.predict(BATCH)[1], flags)[1].chains

    assert torch.equal(chains(begun), chains(FLAGS))
    assert torch.equal(chains(True), chains([True] * 3))
    assert torch.equal(chains(np.False_), chains([False] * 3))


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e300])
@pytest.mark.parametrize("single", [False, True])
def test_what_is_not_finite_is_named_as_it_was_given(value, single):
    observation = BATCH.copy()
    observation[0, 1] = value
    with pytest.raises(InputError, match=r"^observation: expected finite values only, got 1 .*\(0, 1\)$"):
        quick_agent().predict(observation[0] if single else observation)
    with pytest.raises(InputError, match=r"^goal: expected finite values only"):
        quick_agent(goal=[0.0, value]).predict(BATCH)


def shifted_normalizer(offset):
    return replace(
        NORMALIZER.to(torch.float64), obs_mean=torch.full((2,), float(offset), dtype=torch.float64)
    )


@pytest.mark.parametrize("offset", [1e4, 1e6, -5e6, 1e8, 1e10])
@pytest.mark.parametrize("how", ["goal=", "desired_goal"])
def test_the_same_world_elsewhere_gets_the_same_actions(offset, how):
    def act(offset):
        planner = plain_planner(QUICK, 5, spread=torch.tensor([0.1, 0.1, 3.0, 3.0]))
        given = {"goal": GOAL + offset} if how == "goal=" else {}
        agent = MPCAgent(planner, shifted_normalizer(offset), SPACE, **given)
        observation = BATCH + offset if how == "goal=" else goals(BATCH + offset, GOAL + offset)
        return agent.predict(observation)[0]

    assert np.allclose(act(offset), act(0.0), atol=1e-4 + 1e-12 * abs(offset))


@pytest.mark.parametrize("offset", [1e6, 1e8])
def test_a_reward_in_raw_units_is_the_same_elsewhere(offset):
    def cost(offset):
        target = torch.tensor([0.25, -0.5], dtype=torch.float64) + offset
        seen = []

        def reward(states, actions, after):
            seen.append(after.dtype)
            return -(after - target).abs().sum(dim=-1)

        x = torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = RewardCost(LAYOUT, reward, denormalize=shifted_normalizer(offset).denormalize)(x)
        assert value.dtype == torch.float32
        assert set(seen) == {torch.float64}
        return value, torch.autograd.grad(value.sum(), x)[0]

    for here, there in zip(cost(0.0), cost(offset), strict=True):
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [None, 0.0, np.zeros((4, 5)), torch.zeros(4)])
def test_a_reward_that_is_no_tensor_of_its_shape_is_one_line(value):
    with pytest.raises(InputError, match=r"^reward\(\.\.\.\): expected"):
        RewardCost(LAYOUT, lambda s, a, n: value)(torch.zeros(4, 6, 4))


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x[::-1][::-1],
        lambda x: x.astype(">f8"),
        lambda x: x.astype(">f4"),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x.tolist(),
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: torch.tensor(x).T.contiguous().T,
    ],
)
def test_observations_and_goals_of_any_layout_are_read_alike(form):
    array = np.round(BATCH.astype(np.float32), 1).astype(np.float32).astype(float)
    expected, _ = quick_agent(goal=None).predict(goals(array, GOAL))
    wanted = np.array(np.broadcast_to(GOAL, array.shape))
    found, _ = quick_agent(goal=None).predict({"observation": form(array), "desired_goal": form(wanted)})
    assert np.allclose(found, expected, atol=1e-5)


def test_reversed_and_integer_observations_are_not_others():
    found, _ = quick_agent().predict(BATCH[::-1])
    assert np.array_equal(found, quick_agent().predict(BATCH[::-1].copy())[0])
    whole = np.array([[0, 1], [-1, 0]])
    assert np.array_equal(quick_agent().predict(whole)[0], quick_agent().predict(whole.astype(float))[0])


@pytest.mark.parametrize("value", [["a", "b"], [None, 0.0], [1j, 0.0], [[[0.0, 0.0]]], 0.0])
def test_observations_that_are_no_numbers_are_one_line(value):
    with pytest.raises(InputError, match=r"^observation: expected"):
        quick_agent().predict(value)


@pytest.mark.parametrize("beside", ["pixels", "achieved_goal", "desired_goal"])
def test_a_planner_without_a_goal_takes_any_mapping_that_holds_an_observation(beside):
    reward = RewardCost(LAYOUT, lambda s, a, after: -after[..., 0].abs())

    def act(observation):
        return MPCAgent(plain_planner(QUICK, 5, reward), NORMALIZER, SPACE).predict(observation)[0]

    camera = {"observation": BATCH, beside: np.zeros((3, 8, 8, 3), np.uint8)}
    assert np.array_equal(act(camera), act(BATCH))
    assert act({"observation": BATCH[0], beside: 0}).shape == (2,)


def test_a_goal_that_the_agent_was_given_serves_where_the_mapping_holds_none():
    found, _ = quick_agent().predict({"observation": BATCH, "pixels": np.zeros((3, 2))})
    assert np.array_equal(found, quick_agent().predict(BATCH)[0])


def turning_agent(index=(0, 1), period=0.0):
    periods = (period, 0.0)
    normalizer = replace(NORMALIZER, periods=periods, obs_std=torch.tensor([period / 2 or 0.5, 0.5]))
    cost = GoalCost(normalizer.layout, index)
    planner = Planner(None, QUICK, 5, cost, layout=normalizer.layout, dynamics=Still(normalizer.layout))
    return MPCAgent(planner, normalizer, SPACE)


class Still:
    """Dynamics in which nothing moves."""

    def __init__(self, layout):
        self.layout = layout

    def rollout(self, x):
        return x[:, None]


def achieving(observations, achieved):
    return {"observation": observations, "achieved_goal": achieved, "desired_goal": np.zeros_like(achieved)}


@pytest.mark.parametrize("index", [(0, 1), (1, 0), (1,)])
def test_the_achieved_goal_is_what_the_goal_s_coordinates_hold(index):
    sound = achieving(BATCH, BATCH[:, list(index)] + 0.1)  # a noisy sensor: 0.2 of a deviation
    turning_agent(index).predict(sound)
    wrong = achieving(BATCH, BATCH[:, [1 - i for i in index]])
    with pytest.raises(InputError, match=r"^goal_index: expected .*achieved_goal.*, got \(") as caught:
        turning_agent(index).predict(wrong)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^achieved_goal: expected shape"):
        turning_agent(index).predict(
            achieving(BATCH, np.zeros((3, 3))) | {"desired_goal": np.zeros((3, len(index)))}
        )


def test_achieved_goals_are_compared_by_the_shorter_way_round():
    observations = np.array([[3.1, 0.2]])
    turning_agent((0,), 2 * np.pi).predict(achieving(observations, np.array([[-3.1]])))
    with pytest.raises(InputError, match=r"^goal_index"):
        turning_agent((0,), 2 * np.pi).predict(achieving(observations, np.array([[0.0]])))
