import numpy as np
import pytest
import torch

from ebm_control.baselines import Recurrent, futures
from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.data import RolloutBuffer
from ebm_control.energies import GoalCost, TrajectoryLayout
from ebm_control.planning import MPCAgent
from ebm_control.samplers import CEM
from tests.baselines.helpers import SPACE, cut, fitted, ring, swings
from tests.helpers import seeded

pytestmark = pytest.mark.slow

LAYOUT = TrajectoryLayout(2, 1, periods=(2.0, 0.0))
SCALE = torch.tensor([0.5, 2.0])


@pytest.fixture
def fresh():
    torch.manual_seed(0)
    return Recurrent(LAYOUT, SCALE, 16)


def trajectories(count=4, rows=6):
    return torch.randn(count, rows, 3, generator=seeded())


def test_following_keeps_what_is_known_and_replaces_the_states_after_it(fresh):
    x = trajectories()
    for known in (1, 3, 6):
        path = fresh.follow(x, known)
        assert torch.equal(path[:, :known], x[:, :known])
        assert torch.equal(path[..., 2], x[..., 2])
        other = x.clone()
        other[:, known:, :2] += 1
        assert torch.equal(fresh.follow(other, known), path)
        assert (path[:, known:, :2] - x[:, known:, :2]).abs().amin(dim=-1).gt(1e-3).all()
    assert torch.equal(fresh.rollout(x), fresh.follow(x, 1)[:, None])


@pytest.mark.parametrize("known", [1, 2, 5])
def test_what_follows_is_what_the_regression_predicts_row_by_row(fresh, known):
    """States that were followed have no residual, wherever the ring's seam is; those before it have."""
    path = fresh.follow(trajectories(), known)
    path[:, -1, 0] += 2.0  # once round the ring
    residuals = fresh.residuals(path)
    assert residuals.shape == (4, 5, 2)
    assert residuals[:, known - 1 :].abs().max() < 1e-5
    assert (residuals[:, : known - 1].abs() > 1e-3).all()
    assert torch.equal(fresh.residual(path), residuals[:, -1])


def test_a_prediction_depends_on_all_rows_before_it_and_on_none_after(fresh):
    x = trajectories(1, 6)
    for coordinate in range(3):
        for row in range(6):
            changed = x.clone()
            changed[:, row, coordinate] += 0.5
            # The displacement itself has the states in it: its true size is no part of the prediction.
            change = (predictions(fresh, changed) - predictions(fresh, x)).abs().amax(dim=-1)[0]
            assert torch.equal(change > 1e-6, torch.arange(5) >= row)


def predictions(model, x):
    return model.displacement(torch.stack([x[:, :-1], x[:, 1:]], dim=2)) - model.residuals(x)


def test_gradients_reach_the_actions_in_evaluation_mode(fresh):
    x = trajectories().requires_grad_()
    fresh.eval().rollout(x)[:, 0, -1, :2].sum().backward()
    assert (x.grad[:, :-1, 2].abs() > 0).all()
    assert (x.grad[:, 1:, :2] == 0).all()
    assert (x.grad[:, -1, 2] == 0).all()


@pytest.mark.parametrize("states_only", [False, True], ids=["actions", "states only"])
def test_a_velocity_that_is_not_observed_is_taken_from_the_history(states_only):
    """Positions alone: without a memory the next one cannot be told, with one it can, to a few percent."""
    data = swings(hidden=True, pushed=not states_only)
    recurrent = fitted(
        data, "recurrent", hidden=32, window=12, updates=500, learning_rate=5e-3, states_only=states_only
    )
    feed_forward = fitted(data, "feed-forward", hidden=(32, 32), updates=300, states_only=states_only)
    unseen, errors = swings(hidden=True, pushed=not states_only, seed=9), {}
    for name, model in {"recurrent": recurrent, "feed-forward": feed_forward}.items():
        history, actions, truth = cut(model, unseen, known=6, horizon=6)
        errors[name] = (futures(model, history, actions, horizon=6)[:, 0] - truth).square().mean().sqrt()
    assert errors["recurrent"] < 0.15
    assert errors["feed-forward"] > 0.6
    assert recurrent.held_out_error < 0.1 * feed_forward.held_out_error
    history, actions, truth = cut(recurrent, unseen, known=1, horizon=6)
    blind = futures(recurrent, history, actions, horizon=6)[:, 0] - truth
    assert blind.square().mean().sqrt() > 5 * errors["recurrent"]


def test_held_out_error_is_that_of_the_last_displacement_of_episodes_never_seen():
    data = swings(episodes=200, hidden=True)
    model = fitted(data, "recurrent", hidden=32, window=5, updates=150, learning_rate=5e-3, held_out=0.3)
    fresh = swings(episodes=200, hidden=True, seed=9)
    states, actions = fresh.sample_windows(5000, 5, rng=np.random.default_rng(0))
    x = model.normalizer.normalize(torch.from_numpy(states), torch.from_numpy(actions)).float()
    found = model.dynamics.residuals(x).square().mean(dim=0).sqrt()
    assert model.held_out_error.shape == (1,)
    assert torch.allclose(found[-1], model.held_out_error, rtol=0.2)
    assert found[0] > 3 * model.held_out_error  # nothing shows the velocity there


def test_equal_seeds_give_equal_fits_and_the_global_generator_is_left_alone(buffer):
    state = torch.get_rng_state()
    first, second, other = (
        fitted(buffer, "recurrent", hidden=8, window=4, updates=3, seed=seed).dynamics.state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first if "displacement" not in name)


def test_plans_lead_to_the_goal(buffer):
    model = fitted(buffer, "recurrent", hidden=32, window=8, updates=400, learning_rate=5e-3)
    cost = 20 * GoalCost(model.layout, (0,), smooth=0.02)
    sampler = CEM(6, candidates=48, elites=8, noise=0.7, smooth=False)
    planner = planner_for(model, cost, 8, sampler=sampler, action_space=SPACE)
    driver, goals, plan = MPCAgent(planner, model.normalizer, SPACE), np.array([[0.4], [-0.5]]), None
    states = np.array([[0.0, 0.0], [0.1, 0.3]])
    for _ in range(25):
        actions, plan = driver.predict({"observation": states, "desired_goal": goals}, plan)
        states = ring(states, actions)
    assert np.abs(states[:, :1] - goals).max() < 0.1


def test_settings_of_no_sense_are_refused(buffer, fresh):
    with pytest.raises(InputError, match="hidden: expected a whole number of at least 1, got 0"):
        Recurrent(LAYOUT, SCALE, 0)
    with pytest.raises(InputError, match="known: expected between 1 and 6 rows, got 7"):
        fresh.follow(trajectories(), 7)
    with pytest.raises(InputError, match="window: expected a whole number of at least 2, got 1"):
        fitted(buffer, "recurrent", window=1)
    with pytest.raises(InputError, match="updates: expected a whole number of at least 1, got 0"):
        fitted(buffer, "recurrent", updates=0)


def test_episodes_that_are_too_short_are_named_before_training_whatever_the_seed():
    uneven = RolloutBuffer(1, 1)
    for steps in (12, 2):
        uneven.add_episode(np.random.default_rng(0).normal(size=(steps + 1, 1)), np.zeros((steps, 1)))
    for seed in range(4):
        with pytest.raises(
            InputError, match=r"buffer: expected two episodes of 9 steps or more, or one of 18"
        ):
            # More updates than could be waited for: the episodes have to be looked at before training.
            fitted(uneven, "recurrent", window=10, updates=10**9, seed=seed)
