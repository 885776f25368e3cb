"""Point models that are exact: what is planned in them is known."""

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from ebm_control.data import Normalizer
from ebm_control.energies import GoalCost, RegressionBase, TransitionEnergy
from ebm_control.models import ModelSettings, TrajectoryModel
from ebm_control.planning import Planner
from ebm_control.samplers import Langevin, Linear
from tests.helpers import Zero, seeded

STEP = 0.05  # largest displacement of the particle
SPACE = gym.make("ebm/Particle-v0").action_space
NORMALIZER = Normalizer(
    obs_mean=torch.zeros(2),
    obs_std=torch.full((2,), 0.5),
    act_mean=torch.zeros(2),
    act_std=torch.full((2,), STEP / 3**0.5),
    state_std=torch.ones(2),
)
LAYOUT = NORMALIZER.layout
SCALE = NORMALIZER.act_std / NORMALIZER.obs_std  # of one displacement
DESCENT = Langevin(80, Linear(0.1, 0.01), noise=0.0, adapt="rms", scale=(*(4 * SCALE).tolist(), 1.0, 1.0))


class Displacement(nn.Module):
    """The particle's true dynamics: the mean action of `2**context` steps, in units of one step's."""

    def forward(self, inputs):
        gap = 2 ** inputs[..., 4:5] if inputs.shape[-1] == 5 else 1
        return gap * inputs[..., 2:4]


def particle_energy(std=(0.1, 0.1), context_dim=0):
    base = RegressionBase(Displacement(), 2)
    base.set_std(torch.tensor(std))
    return TransitionEnergy(LAYOUT, Zero(), base=base, displacement_scale=SCALE, context_dim=context_dim)


def particle_model(std=(0.1, 0.1)):
    return TrajectoryModel(particle_energy(std), NORMALIZER, ModelSettings())


def goal_cost(factor=20):
    return factor * GoalCost(LAYOUT, (0, 1), smooth=0.02)


def plain_planner(sampler=DESCENT, horizon=15, costs=None, **given):
    """Planner in the exact energy, weighted as `planner_for` would."""
    costs = goal_cost() if costs is None else costs
    spread = torch.tensor([0.1, 0.1, 1.0, 1.0])
    energy = given.pop("energy", particle_energy())
    return Planner(
        energy,
        sampler,
        horizon,
        costs,
        **{"layout": LAYOUT, "weight": 0.1, "spread": spread} | given,
    )


def drive(plan, start, obstacles=None, problem=0):
    """Path `(T, 2)` of the true particle under the plan's actions, in raw units."""
    env = gym.make("ebm/Particle-v0").unwrapped
    observation, _ = env.reset(options={"start": start, "obstacles": obstacles})
    path = [observation["observation"]]
    for action in NORMALIZER.denormalize_actions(plan.actions[problem]).numpy():
        path.append(env.step(action)[0]["observation"])
    return torch.from_numpy(np.stack(path))


def follow(planner, starts, goals, steps):
    """Paths `(steps + 1, N, 2)` of true particles, planned anew at every step; all in normalised units."""
    env, generator, plan, path = gym.make("ebm/Particle-v0").unwrapped, seeded(), None, [starts]
    for _ in range(steps):
        plan = planner.plan(path[-1], goals, warm=plan, generator=generator)
        raw = [
            NORMALIZER.denormalize_observations(path[-1]),
            NORMALIZER.denormalize_actions(plan.actions[:, 0]),
        ]
        moved = torch.from_numpy(env.dynamics(*(part.numpy() for part in raw))).float()
        path.append(NORMALIZER.normalize_observations(moved))
    return torch.stack(path)
