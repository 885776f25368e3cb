"""Small learners of the particle, and data of it."""

import gymnasium as gym
import numpy as np
import torch

from ebm_control.baselines import Baseline
from ebm_control.control import planner_for
from ebm_control.data import RolloutBuffer
from ebm_control.energies import GoalCost
from ebm_control.models import ModelSettings, TrainSettings
from ebm_control.online import (
    BaselineLearner,
    EnergyLearner,
    OnlineLearning,
    OnlineSettings,
    bounded_normalizer,
)
from ebm_control.samplers import Langevin, Linear
from ebm_envs.switch import RotatedActions

PARTICLE = "ebm/Particle-v0"
SPACE = gym.make(PARTICLE).action_space
BOX = gym.make(PARTICLE).observation_space["observation"]
SETTINGS = TrainSettings(
    ModelSettings(hidden=(32, 32), base_hidden=(32, 32)),
    updates=5,
    base_updates=100,
    batch_size=64,
    langevin_steps=5,
)


def energy_learner(seed=0, planned=64, kind=EnergyLearner, **changes):
    settings = TrainSettings(**vars(SETTINGS) | {"seed": seed} | changes)
    return kind(settings, transitions=4000, planned=planned)


def baseline_learner(members=1, seed=0):
    return BaselineLearner(members, (32, 32), updates=100, batch_size=64, seed=seed)


def rollouts(stretches, seed=0, length=25, degrees=0.0):
    """Random walks of the particle, as many stretches; its actions turn by so many degrees."""
    rng, env = np.random.default_rng(seed), gym.make(PARTICLE).unwrapped
    env.reset()
    turned, buffer = RotatedActions(degrees), RolloutBuffer(2, 2)
    for _ in range(stretches):
        actions, states = rng.uniform(SPACE.low, SPACE.high, (length, 2)), [rng.uniform(-0.9, 0.9, 2)]
        for action in actions:
            states.append(env.dynamics(states[-1], turned.transform(action, SPACE)))
        buffer.add_episode(states, actions, np.zeros(length))
    return buffer


def windows(buffer, normalizer):
    """All transitions `(N, 2, D)` of a buffer, in the normaliser's units."""
    states, actions, after = (torch.from_numpy(part) for part in buffer.transitions())
    rows = [normalizer.normalize(states, actions), normalizer.normalize(after, torch.zeros_like(actions))]
    return torch.stack(rows, dim=1).float()


def begun(learner, data):
    """The learner, in the units of these data."""
    learner.begin(data, bounded_normalizer(data, BOX))
    return learner


def plan(model, step):
    """Planner to the particle's goal."""
    sampler = Langevin(10 if isinstance(model, Baseline) else 20, Linear(0.1, 0.01), noise=0.0, adapt="rms")
    costs = 20 * GoalCost(model.layout, (0, 1))
    return planner_for(model, costs, 6, sampler=sampler, action_space=SPACE, chains=2)


def online(env=PARTICLE, learner=None, *, folder=None, resume=False, goals=None, plan=plan, **settings):
    """A run of a few hundred steps, in rounds of 100 after 200 random ones."""
    given = {"steps": 600, "environments": 4, "warm_up": 200, "every": 100, "growth": 0.0, "replan_every": 3}
    return OnlineLearning(
        env,
        learner or energy_learner(),
        plan,
        OnlineSettings(**given | settings),
        goals=goals,
        folder=folder,
        resume=resume,
        progress=False,
    )
