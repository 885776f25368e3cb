import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.data import collect, window_batches
from ebm_control.energies import GoalCost
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.models import ModelSettings, TrainSettings, fit_model
from ebm_control.planning import ClosedForm, LearnedInverse, MPCAgent, RecursiveLeastSquares, run_episodes
from tests.planning.helpers import LAYOUT, NORMALIZER, SCALE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rollouts():
    return collect("ebm/Particle-v0", 3000, progress=False, starts=lambda rng: {"start": "random"})


def particle_inverse(normalizer):
    env = gym.make("ebm/Particle-v0").unwrapped
    return ClosedForm(env.inverse_dynamics, normalizer.denormalize_observations, normalizer.normalize_actions)


def test_closed_form_gives_the_actions_that_were_taken(rollouts):
    observations, actions, after = (torch.from_numpy(part) for part in rollouts.transitions())
    free = (after.abs() < 1).all(dim=1)
    normalizer = rollouts.normalizer()
    states, following = (normalizer.normalize_observations(part[free]) for part in (observations, after))
    found = particle_inverse(normalizer)(states, following)
    assert torch.allclose(normalizer.denormalize_actions(found), actions[free], atol=1e-9)


def test_learned_inverse_recovers_the_actions_that_were_taken(rollouts):
    torch.manual_seed(0)
    inverse = LearnedInverse(LAYOUT, SCALE)
    error = inverse.fit(window_batches(rollouts, NORMALIZER), 400)
    assert error < 0.03  # of the actions' variance, edge of the plane included
    states = torch.zeros(1, 2)
    with torch.no_grad():
        found = inverse(states, states + SCALE * torch.tensor([1.0, -1.0]))
    assert torch.allclose(found, torch.tensor([[1.0, -1.0]]), atol=0.1)


def test_learned_inverse_refuses_windows_without_actions(rollouts):
    inverse = LearnedInverse(NORMALIZER.layout, SCALE)
    states = (batch._replace(x=batch.x[..., :2]) for batch in window_batches(rollouts, NORMALIZER))
    with pytest.raises(InputError, match=r"batches: expected shape \(any, any, 4\)"):
        inverse.fit(states, 1)


def transitions(count, slope, seed=0):
    """States, actions and next states of `Δs = a / slope - s / 10`, with a little noise."""
    rng = np.random.default_rng(seed)
    states, actions = (torch.from_numpy(rng.standard_normal((count, 2))) for _ in range(2))
    noise = 0.01 * torch.from_numpy(rng.standard_normal((count, 2)))
    return states, actions, states + actions / slope - states / 10 + noise


@pytest.mark.parametrize("forgetting", [1.0, 0.95])
def test_recursive_least_squares_is_ridge_regression_on_the_weighted_past(forgetting):
    states, actions, after = transitions(60, 2.0)
    scale = torch.tensor([0.5, 0.25])
    fitted = RecursiveLeastSquares(LAYOUT, scale, prior=10.0, forgetting=forgetting)
    for i in range(0, 60, 7):
        fitted.update(states[i : i + 7], actions[i : i + 7], after[i : i + 7])
    features = torch.cat([states, (after - states) / scale, torch.ones(60, 1)], dim=1)
    weighted = features.T * forgetting ** torch.arange(59, -1, -1)
    penalty = forgetting**60 / 10 * torch.eye(5).double()
    ridge = torch.linalg.solve(weighted @ features + penalty, weighted @ actions)
    assert torch.allclose(fitted.weights, ridge, atol=1e-9)
    assert torch.allclose(fitted(states, after), features @ ridge)


def test_forgetting_follows_dynamics_that_change():
    error = {}
    for forgetting in (1.0, 0.97):
        fitted = RecursiveLeastSquares(LAYOUT, torch.ones(2), forgetting=forgetting)
        fitted.update(*transitions(300, 1.0))
        fitted.update(*transitions(300, 3.0, seed=1))
        states, actions, after = transitions(100, 3.0, seed=2)
        error[forgetting] = (fitted(states, after) - actions).square().mean()
    assert error[0.97] < 0.01
    assert error[1.0] > 10 * error[0.97]


def test_forgetting_survives_a_long_rest():
    fitted = RecursiveLeastSquares(LAYOUT, torch.ones(2), forgetting=0.8)
    fitted.update(*transitions(100, 1.0))
    fitted.update(*(torch.zeros(4000, 2),) * 3)
    assert torch.isfinite(fitted.covariance).all()
    fitted.update(*transitions(100, 3.0, seed=1))
    states, actions, after = transitions(100, 3.0, seed=2)
    assert (fitted(states, after) - actions).square().mean() < 0.01


def test_periodic_states_are_compared_modulo_their_period():
    layout = TrajectoryLayout(1, 1, periods=(2.0,))
    fitted = RecursiveLeastSquares(layout, torch.ones(1))
    states = torch.linspace(-1, 1, 80)[:, None]
    after = (states + 0.3 + 1) % 2 - 1
    fitted.update(states, torch.full_like(states, 0.7), after)
    assert torch.allclose(
        fitted(torch.tensor([[0.9]]), torch.tensor([[-0.8]])), torch.tensor([[0.7]]), atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed form", "learned"])
def test_energy_over_states_alone_drives_with_inverse_dynamics(rollouts, kind):
    settings = TrainSettings(
        ModelSettings(states_only=True, hidden=(32,), base_hidden=(32,)), updates=10, base_updates=200
    )
    model = fit_model(rollouts, settings, progress=False)
    assert model.layout.act_dim == 0
    normalizer = model.normalizer
    if kind == "closed form":
        inverse = particle_inverse(normalizer)
    else:
        torch.manual_seed(0)
        inverse = LearnedInverse(normalizer.layout, SCALE)
        inverse.fit(window_batches(rollouts, normalizer), 300)
    env = gym.make("ebm/Particle-v0", goal=(0.2, -0.2), max_episode_steps=14)
    planner = planner_for(
        model, 20 * GoalCost(model.layout, (0, 1), smooth=0.02), 8, action_space=env.action_space
    )
    episodes = run_episodes(MPCAgent(planner, normalizer, env.action_space, inverse_dynamics=inverse), [env])
    assert episodes.last_rewards[0] > -0.05
    with pytest.raises(InputError, match="inverse_dynamics: expected a way to find actions"):
        MPCAgent(planner, normalizer, env.action_space)
