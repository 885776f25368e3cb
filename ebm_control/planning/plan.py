"""Results of planning, and the initial states of its chains."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.samplers.population import smooth_factor
from ebm_control.tensors import numpy_reads


@dataclass(frozen=True)
class Plan:
    """Plans for N problems, in the units of the trajectory.

    Attributes:
        states: `(N, T, obs_dim)` states of the best chain, beginning with the start state.
        actions: `(N, T-1, act_dim)` of the best chain; `act_dim` is 0 if the energy is over states only.
        energy: `(N,)` energy of the best chain, including costs.
        chains: `(N, K, T, D)` all chains, for inspection and for warm starts.
        energies: `(N, K)` energies of all chains.
        age: number of steps for which the plan has been followed.
        goal: `(N, goal)` normalised goal of the plan, if an agent sets it; otherwise None.
        past: `(N, m)` observations and actions before the next observation, in the environment's units, if an agent
            keeps a history; otherwise None.

    """

    states: Tensor
    actions: Tensor
    energy: Tensor
    chains: Tensor
    energies: Tensor
    age: int = field(default=0, kw_only=True)
    goal: Tensor | None = field(default=None, kw_only=True)
    past: Tensor | None = field(default=None, kw_only=True)

    @classmethod
    def best_of(cls, layout: TrajectoryLayout, chains: Tensor, energies: Tensor) -> Plan:
        """Plan of the chains in `(N, K, T, D)` with the lowest energies `(N, K)`; NaN counts as +inf."""
        if numpy_reads(energies, chains):  # in a fraction of the time of torch, for which a plan would wait
            ranked = energies.detach().numpy().copy()
            ranked[np.isnan(ranked)] = np.inf
            places = np.arange(len(ranked)), ranked.argmin(axis=1)
            energy, best = torch.from_numpy(ranked[places]), torch.from_numpy(chains.detach().numpy()[places])
        else:
            energy, index = torch.where(torch.isnan(energies), torch.inf, energies).min(dim=1)
            best = chains[torch.arange(len(chains), device=chains.device), index]
        actions = layout.actions(best)[:, :-1]
        return cls(layout.states(best), actions, energy, chains, energies)

    def advanced(self, start: Tensor) -> Self:
        """The same plan one time step later, starting from the state `start` `(N, obs_dim)` that was reached."""
        states, actions = shifted(self.states), shifted(self.actions)
        states = torch.cat([start.to(states)[:, None], states[:, 1:]], dim=1)
        return replace(self, states=states, actions=actions, chains=shifted(self.chains), age=self.age + 1)

    def continued(self, kept: int) -> Tensor:
        """The `kept` chains of least energy of each problem one time step later, `(N, kept, T, D)`; see `shifted`."""
        if numpy_reads(self.energies, self.chains):
            places = self.energies.detach().numpy().argsort(axis=1)[:, :kept]
            later = self.chains.detach().numpy()[np.arange(len(places))[:, None], places]
            later[:, :, :-1] = later[:, :, 1:].copy()
            return torch.from_numpy(later)
        order = self.energies.argsort(dim=1)[:, :kept]
        return shifted(self.chains.take_along_dim(order[..., None, None], 1))

    def select(self, problems: Tensor) -> Self:
        """The plans of the problems with indices `(n,)`."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen: dict[str, Any] = {name: x[problems] for name, x in parts.items() if isinstance(x, Tensor)}
        return replace(self, **chosen)

    def sample(self, layout: TrajectoryLayout, generator: torch.Generator, temperature: float) -> Plan:
        """A plan drawn from the chains with weights `exp(-energy / temperature)`, instead of the best chain."""
        # Finite values, so that a problem whose chains are all NaN still has a distribution.
        logits = -torch.nan_to_num(self.energies, nan=1e30, posinf=1e30).double() / temperature
        index = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator)
        return Plan.best_of(
            layout,
            self.chains.take_along_dim(index[..., None, None], 1),
            self.energies.take_along_dim(index, 1),
        )


class AnyPlanner(Protocol):
    """Interface of a planner for `MPCAgent`."""

    @property
    def layout(self) -> TrajectoryLayout:
        """Meaning of the coordinates of its plans."""
        ...

    @property
    def goal_index(self) -> tuple[int, ...]:
        """Observation coordinates that a goal specifies; empty if the planner takes no goal."""
        ...

    def plan(
        self,
        start: Tensor,
        goal: Tensor | None = None,
        *,
        warm: Plan | None = None,
        cold: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Plan from each start `(N, obs_dim)`; see `Planner.plan` for the arguments."""
        ...


def shifted(chains: Tensor, steps: int = 1) -> Tensor:
    """Chains `(..., T, D)` shifted `steps` time steps earlier, padded with the last one: a warm start."""
    return torch.cat(
        [chains[..., steps:, :], chains[..., -1:, :].expand(*chains.shape[:-2], steps, -1)], dim=-2
    )


def smooth_noise(shape: tuple[int, int, int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Noise `(B, T, D)`, smooth in time and 0 before its first time step, with std 1 where it is largest."""
    noise = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
    return torch.einsum("ij,bjd->bid", smooth_factor(shape[1], like), noise)


def bridged(start: Tensor, end: Tensor | None, length: int, layout: TrajectoryLayout) -> Tensor:
    """Straight line of `length` states from `start` `(N, obs_dim)` to `end`; constant if `end` is None.

    Returns:
        `(N, length, obs_dim)`; periodic coordinates take the shorter direction.

    """
    if end is None:
        return start[:, None].expand(-1, length, -1)
    done = torch.linspace(0, 1, length, device=start.device, dtype=start.dtype)[:, None]
    return start[:, None] + done * layout.difference(end, start)[:, None]


def refined(chains: Tensor, factor: int, layout: TrajectoryLayout) -> Tensor:
    """Chains `(B, T, D)` at a `factor` times finer time gap, `(B, (T-1) * factor + 1, D)`.

    States are interpolated linearly (periodic ones in the shorter direction), and actions are repeated.
    """
    states, actions = layout.states(chains), layout.actions(chains)
    step = layout.difference(states[:, 1:], states[:, :-1])
    done = torch.arange(factor, device=chains.device, dtype=chains.dtype)[:, None] / factor
    fine = (states[:, :-1, None] + done * step[:, :, None]).flatten(1, 2)
    fine = torch.cat([fine, states[:, -1:]], dim=1)
    held = torch.cat([actions[:, :-1].repeat_interleave(factor, dim=1), actions[:, -1:]], dim=1)
    return torch.cat([fine, held], dim=-1)
