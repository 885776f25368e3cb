import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.control import planner_for
from ebm_control.energies import GoalCost
from ebm_control.planning import MPCAgent, run_episodes
from ebm_envs.oracles import reacher_oracle

pytestmark = pytest.mark.slow


def test_a_trained_model_drives_reacher_to_its_goal(reacher):
    environments = [gym.make("ebm/Reacher-v0") for _ in range(3)]
    space = environments[0].action_space
    cost = 20 * GoalCost(reacher.layout, (0, 1), smooth=0.02)
    agent = MPCAgent(planner_for(reacher, cost, action_space=space), reacher.normalizer, space)
    episodes = run_episodes(agent, environments)
    assert episodes.mean > -6.5  # random actions: -50
    assert (episodes.last_rewards > -0.05).all()
    oracle = [reacher_oracle(o, np.array([0.7, 0.5])).return_ for o in episodes.observations[0]]
    assert (episodes.returns < np.array(oracle) + 0.05).all()  # nothing beats the best on the true simulator
    high = torch.from_numpy(space.high)
    assert (torch.from_numpy(episodes.actions).abs() <= high).all()
