import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.energies import RewardCost
from ebm_control.planning import MPCAgent
from ebm_control.samplers import Langevin
from tests.planning.helpers import LAYOUT, NORMALIZER, SPACE, plain_planner
from tests.rounding import assert_equal_up_to_rounding

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
        (goals(np.full((3, 2), np.nan)), "start: expected finite values only, got 6"),
        (np.zeros((3, 4)), r"observation: expected shape \(N, 2\), got \(3, 4\)"),
    ],
)
def test_observations_that_do_not_fit_are_refused(observation, message):
    with pytest.raises(InputError, match=message) as caught:
        quick_agent(goal=None).predict(observation)
    assert "\n" not in str(caught.value)


def test_temperature_of_no_sense_is_refused():
    with pytest.raises(InputError, match="temperature: expected a positive number, got 0"):
        quick_agent(temperature=0.0)
