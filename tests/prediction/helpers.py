"""A linear-Gaussian system as an energy that is exact, and its moments."""

import torch
from torch import nn

from ebm_control.energies import RegressionBase, TransitionEnergy
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.samplers.schedules import values
from tests.helpers import Zero

LAYOUT = TrajectoryLayout(2, 1)
SCALE = torch.tensor([0.5, 2.0])
DEVIATION = torch.tensor([0.3, 0.1])  # of the noise, in units of SCALE
DRIFT = torch.tensor([[-0.3, 0.2], [-0.1, -0.2]])  # of the state
PUSH = torch.tensor([[0.5], [1.0]])  # of the action
MEMORY = 0.4  # of the displacement before, with window 3


class Linear(nn.Module):
    """Mean displacement of `Δs = DRIFT s + PUSH a (+ MEMORY Δs before)`, in units of SCALE."""

    def forward(self, inputs):
        if inputs.shape[-1] == 3:
            return (inputs[..., :2] @ DRIFT.T + inputs[..., 2:] @ PUSH.T) / SCALE
        before, action, step = inputs[..., :2], inputs[..., 3:4], inputs[..., 4:] * SCALE
        return ((before + step) @ DRIFT.T + action @ PUSH.T + MEMORY * step) / SCALE


def linear_energy(window=2, tilt=None):
    base = RegressionBase(Linear(), 2)
    base.set_std(DEVIATION)
    return TransitionEnergy(LAYOUT, tilt or Zero(), window=window, base=base, displacement_scale=SCALE)


def chain_variance(sampler):
    """Variance of a coordinate after the sampler's steps from its mean, for a standard normal: not quite 1."""
    variance = 0.0
    for step in values(sampler.step_size, sampler.steps):
        variance = (1 - step) ** 2 * variance + 2 * step
    return variance


def moments(history, actions, noise, window=2):
    """Mean `(h, 2)` and covariance `(h, 2, 2)` of the states after `history`, noise of covariance `noise`.

    Actions are given, `(h, 1)`, or None for independent standard normal ones.
    """
    memory = MEMORY if window == 3 else 0.0
    one = torch.eye(2)
    # The state with the displacement that led to it.
    move = torch.cat([torch.cat([one + DRIFT, memory * one], 1), torch.cat([DRIFT, memory * one], 1)])
    last = history[-1, :2]
    mean = torch.cat([last, last - history[-2, :2] if window == 3 else torch.zeros(2)])
    covariance, means, covariances = torch.zeros(4, 4), [], []
    shock = noise if actions is not None else noise + PUSH @ PUSH.T
    for t in range(6):
        push = torch.zeros(2) if actions is None else PUSH[:, 0] * actions[t, 0]
        mean = move @ mean + torch.cat([push, push])
        covariance = move @ covariance @ move.T + shock.repeat(2, 2)
        means.append(mean[:2])
        covariances.append(covariance[:2, :2])
    return torch.stack(means), torch.stack(covariances)
