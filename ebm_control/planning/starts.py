"""Initial chains of plans that are not drawn as noise: rollouts, and turns in the longer direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ebm_control.planning.shooting import Dynamics


class Policy(Protocol):
    """A policy in the units of the trajectory."""

    def __call__(self, states: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions `(N, act_dim)` for states `(N, obs_dim)`; the mean ones without a generator."""
        ...


def acted(
    policy: Policy, dynamics: Dynamics, start: Tensor, horizon: int, chains: int, generator: torch.Generator
) -> Tensor:
    """Rollouts `(N, chains, horizon + 1, D)` of a policy from each start `(N, obs_dim)`, in the first particle.

    The first chain of a problem takes the policy's mean actions, the others random ones.
    """
    states, rows, layout = start.repeat_interleave(chains, dim=0), [], dynamics.layout
    first = torch.arange(len(states), device=start.device) % chains == 0
    for t in range(horizon + 1):
        actions = policy(states)
        if chains > 1:
            actions = torch.where(first[:, None], actions, policy(states, generator))
        rows.append(torch.cat([states, actions], dim=-1))
        if t < horizon:
            pair = torch.stack([rows[-1], rows[-1]], dim=1)
            states = layout.states(dynamics.rollout(pair)[:, 0, 1])
    return torch.stack(rows, dim=1).unflatten(0, (len(start), chains))


def rolled(dynamics: Dynamics, x: Tensor) -> Tensor:
    """Chains `(N, K, T, D)` with every state after the first predicted; of several particles the first."""
    return dynamics.rollout(x.flatten(0, 1))[:, 0].unflatten(0, x.shape[:2])


def longer_ways(line: Tensor, turning: Sequence[int], periods: Sequence[float]) -> Tensor:
    """Offsets `(N, K, T, obs_dim)` that turn lines `(N, K, T, obs_dim)` in the shorter directions the other way.

    Bit j of a chain's number selects the longer direction for the j-th turning coordinate.
    """
    extra = torch.zeros_like(line)
    done = torch.linspace(0, 1, line.shape[2], device=line.device, dtype=line.dtype)
    number = torch.arange(line.shape[1], device=line.device)[:, None]
    for j, i in enumerate(turning):
        shorter = line[:, :, -1:, i] - line[:, :, :1, i]
        away = torch.where(shorter > 0, -periods[i], periods[i])
        extra[..., i] = (number >> j & 1) * away * done
    return extra
