"""An agent in the hands of Stable-Baselines3, whose tools take it for a model."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from ebm_control.control import planner_for
from ebm_control.planning import MPCAgent
from tests.planning.helpers import NORMALIZER, SPACE, goal_cost, particle_model


def agent(goal=None):
    planner = planner_for(particle_model(), goal_cost(), 6, sampler="mppi", action_space=SPACE)
    return MPCAgent(planner, NORMALIZER, SPACE, goal=goal)


def particle(**given):
    return lambda: gym.make("ebm/Particle-v0", max_episode_steps=12, goal=(0.2, -0.2), **given)


@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluate_policy_takes_an_agent_on_vectorised_goal_environments(deterministic):
    environments = VecMonitor(DummyVecEnv([particle(), particle(start=(0.3, 0.1))]))
    returns, lengths = evaluate_policy(
        agent(), environments, n_eval_episodes=4, deterministic=deterministic, return_episode_rewards=True
    )
    assert lengths == [12] * 4
    assert sorted(returns) == pytest.approx([-1.2, -1.2, -0.95, -0.95], abs=0.6)  # near what is possible
    assert min(returns) > -2


def test_evaluate_policy_takes_an_agent_on_one_plain_environment():
    plain = Monitor(
        gym.wrappers.FlattenObservation(gym.wrappers.FilterObservation(particle()(), ["observation"]))
    )
    mean, std = evaluate_policy(agent(goal=(0.2, -0.2)), plain, n_eval_episodes=2, warn=False)
    assert mean > -2
    assert std < 0.2


def test_evaluate_policy_may_watch_every_step():
    seen = []
    environments = DummyVecEnv([particle(), particle()])
    evaluate_policy(
        agent(),
        environments,
        n_eval_episodes=2,
        warn=False,
        callback=lambda local, _: seen.append((local["actions"].copy(), local["episode_starts"].copy())),
    )
    actions = np.stack([action for action, _ in seen])
    assert actions.dtype == np.float32
    assert actions.shape[1:] == (2, 2)
    assert (np.abs(actions) <= SPACE.high).all()
