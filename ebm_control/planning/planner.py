"""Planning: a trajectory between a start and a goal is a sample from the energy plus costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import (
    require,
    require_finite,
    require_flag,
    require_number,
    require_shape,
)
from ebm_control.energies.base import Energy
from ebm_control.energies.costs import GoalCost
from ebm_control.energies.layout import TrajectoryLayout, require_index
from ebm_control.energies.pullbacks import forms_kept
from ebm_control.planning.plan import Plan, bridged, smooth_noise
from ebm_control.planning.shooting import Dynamics, RolledOut
from ebm_control.samplers.chain import Sampler
from ebm_control.tensors import (
    as_tensor,
    float_like,
    generator_on,
    modules_of,
    outside_inference_mode,
    parameters_of,
)
from ebm_control.threads import operations, threads_for


class Policy(Protocol):
    """A policy in the units of the trajectory."""

    def __call__(self, states: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions `(N, act_dim)` for states `(N, obs_dim)`; the mean ones without a generator."""
        ...


class Planner:
    """Plans for many problems at once, with several chains each, in one call to a sampler.

    The plan minimises `weight * energy + costs` over the states and, if the layout has actions, the actions
    of a trajectory with a fixed start (after Du, Lin & Mordatch 2019). This is direct collocation, with the learned
    energy as a soft dynamics constraint. All values are in the units of the trajectory.

    Args:
        energy: energy of trajectories `(B, T, D)`; None is allowed with `dynamics`, and then only costs count.
        sampler: any sampler, for example `Langevin(...)` or `MPPI(...)`.
        horizon: time steps of a plan after the start, so `T = horizon + 1`.
        costs: what the plan minimises: an energy, a sequence of energies, or None. Each `GoalCost` gets the goal.
        layout: meaning of the coordinates.
        weight: weight of the energy relative to the costs.
        chains: chains per problem, `K`.
        first: sampler for calls that include a problem without warm start (for example more steps); None for `sampler`.
        goal_index: observation coordinates that a goal specifies.
        fix_goal: fix the goal's coordinates in the last time step, instead of (or in addition to) a cost.
        spread: std of the smooth noise added to initial chains, a number or `(D,)`. The first chain of a problem
            starts without noise.
        windings: with `fix_goal`, initialise chains with every combination of directions of the goal's periodic
            coordinates (the first with the shorter directions), instead of the shorter directions only.
        restarts: fraction of chains that start from new initial values despite a warm start.
        context: `(context_dim,)` context of the energy for every plan (for example a time gap), or None.
        dynamics: predicts the states, so that plans are over actions only; None for collocation.
        rollouts: predicts the states of initial chains from smooth random actions (the first chain of a problem holds
            still), and the last state of a warm chain; None for smooth random curves of states and actions.
        policy: actions `(N, act_dim)` for states `(N, obs_dim)`: new chains are its rollouts in `dynamics` (or
            `rollouts`). With a generator it returns random actions; the first chain of a problem takes its mean ones.
            None for the chains above.
        steady: `(obs_dim,)` boolean, coordinates that no plan can change (constants, clocks); None for none.
        rate: `(obs_dim,)` change of a steady coordinate per time step; None for 0.

    Raises:
        InputError: a setting is invalid by itself or in combination with the others.

    """

    def __init__(
        self,
        energy: Energy | None,
        sampler: Sampler,
        horizon: int,
        costs: Energy | Sequence[Energy] | None = None,
        *,
        layout: TrajectoryLayout,
        weight: float = 1.0,
        chains: int = 8,
        first: Sampler | None = None,
        goal_index: Sequence[int] = (),
        fix_goal: bool = False,
        windings: bool = False,
        spread: Tensor | float = 0.3,
        restarts: float = 0.25,
        context: Tensor | None = None,
        dynamics: Dynamics | None = None,
        rollouts: Dynamics | None = None,
        policy: Policy | None = None,
        steady: Tensor | None = None,
        rate: Tensor | None = None,
    ) -> None:
        require_number("horizon", horizon, 1, whole=True)
        require_number("chains", chains, 1, whole=True)
        require_number("restarts", restarts, 0, 1)
        require_number("weight", weight, 0)
        for name, flag in (("fix_goal", fix_goal), ("windings", windings)):
            require_flag(name, flag)
        if context is not None:
            require_finite("context", context)
        terms = [costs] if isinstance(costs, Energy) else list(costs or ())
        self.sampler, self.first = sampler, first or sampler
        self.horizon, self.layout, self.chains = horizon, layout, chains
        if rollouts is not None:
            given, wanted = rollouts.layout, f"dynamics of the planner's layout {layout}"
            require(given == layout, "rollouts", given=given, expected=wanted)
        self.restarts, self.context, self.rollouts = restarts, context, rollouts
        self.policy, self.dynamics = policy, dynamics if rollouts is None else rollouts
        self._rolls = rollouts is not None or policy is not None
        wanted = "dynamics or rollouts, in which the policy acts"
        require(policy is None or self.dynamics is not None, "policy", given="neither", expected=wanted)
        self._aim(terms, goal_index, fix_goal=fix_goal)
        self._hold(steady, rate)
        self._scatter(spread, windings=windings)
        self._masks: dict[object, Tensor] = {}
        # Composed once: a compiling or capturing engine reuses its work for the same energy object.
        total = _composed(energy, weight, terms, dynamics)
        self.rolled_out = None if dynamics is None else self._rolled_out(total, dynamics)
        self.energy = self.rolled_out or total

    def _aim(self, costs: Sequence[Energy], goal_index: Sequence[int], *, fix_goal: bool) -> None:
        """Set the goal's coordinates, and whether the goal is a cost, fixed, or both."""
        # A goal cost may be part of a sum, for example 20 * GoalCost(...) + ...
        self.goal_costs = [part for term in costs for part in term.modules() if isinstance(part, GoalCost)]
        self.goal_index = tuple(goal_index) or (tuple(self.goal_costs[0].index) if self.goal_costs else ())
        self.fix_goal = fix_goal
        if self.goal_index:
            require_index("goal_index", self.goal_index, self.layout.obs_dim)
        require(
            not fix_goal or len(self.goal_index) > 0,
            "goal_index",
            given=self.goal_index,
            expected="the coordinates that fix_goal holds",
        )

    def _scatter(self, spread: Tensor | float, *, windings: bool) -> None:
        """Set the noise of initial chains, and the periodic goal coordinates for which both directions are tried."""
        self.spread = torch.as_tensor(spread, dtype=torch.float32).expand(self.layout.dim)
        sound = bool((self.spread.isfinite() & (self.spread >= 0)).all())
        require(sound, "spread", given=spread, expected="numbers of at least 0")
        periodic = self.layout.periodic
        self.turning = [i for i in self.goal_index if i in periodic] if windings else []
        require(
            not windings or (self.fix_goal and len(self.turning) > 0),
            "windings",
            given=f"True, fix_goal={self.fix_goal}, goal_index={self.goal_index}",
            expected=f"fix_goal, and a goal that names some of the periodic coordinates {periodic}",
        )

    def _rolled_out(self, total: Energy, dynamics: Dynamics) -> RolledOut:
        """The energy over actions only, with predicted states."""
        require(
            self.layout.act_dim > 0 and dynamics.layout == self.layout and not self.fix_goal,
            "dynamics",
            given=f"{dynamics.layout}, fix_goal={self.fix_goal}",
            expected=f"the planner's layout {self.layout} with actions, and a goal that is a cost",
        )
        return RolledOut(total, dynamics)

    @outside_inference_mode
    @torch.no_grad()
    @forms_kept()
    def plan(
        self,
        start: Tensor | ArrayLike,
        goal: Tensor | ArrayLike | None = None,
        *,
        warm: Plan | None = None,
        cold: Tensor | None = None,
        initial: Tensor | ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Plan from each start state.

        Values may be tensors, arrays or lists of any type of real numbers. They are cast to the dtype and device of
        the energy, which are also those of the plans.

        Args:
            start: `(N, obs_dim)`.
            goal: `(N, len(goal_index))` or `(len(goal_index),)`; None if no cost needs it.
            warm: the plan of the previous step: its chains are shifted by one time step and used again.
            cold: `(N,)` boolean, problems to which `warm` does not apply (for example in a new episode).
            initial: `(N, K, T, D)` initial chains (for example from a coarser plan).
            generator: source of noise; None takes a seed from the system.

        Raises:
            InputError: a shape does not fit, a value is not finite, or the generator is on another device.

        """
        start = self.checked_start(start)
        goal = self._set_goal(start, goal)
        generator = generator_on(start.device, generator)
        x = None
        if initial is not None:
            x = as_tensor("initial", initial, start.dtype, start.device)
            require_shape("initial", x, (len(start), self.chains, self.horizon + 1, self.layout.dim))
        elif warm is None or cold is not None or not self._rolls:
            x = self._starts(start, goal, generator, self.chains)
        if warm is not None:
            x = self._take_up(x, warm, cold, start, goal, generator)
        assert x is not None
        x, fixed = self._pin(x, start, goal)
        count = len(start) * self.chains
        context = None if self.context is None else self.context.to(x).expand(count, -1)
        # A cold start among warm ones needs the long chain; for the others it only adds further steps.
        sampler = self.first if warm is None or (cold is not None and bool(cold.any())) else self.sampler
        starts = x.flatten(0, 1)

        def work() -> float:
            weights = parameters_of(modules_of(self.energy))
            return float(getattr(sampler, "candidates", 1) * operations(weights, starts))

        with threads_for(work):
            chain = sampler(self.energy, starts, fixed=fixed, context=context, generator=generator)
        shape = (len(start), self.chains)
        paths = chain.x if self.rolled_out is None else self.rolled_out.roll(chain.x)
        return Plan.best_of(self.layout, paths.unflatten(0, shape), chain.energy.unflatten(0, shape))

    def _hold(self, steady: Tensor | None, rate: Tensor | None) -> None:
        """Set the coordinates that are fixed at values independent of the plan."""
        count = self.layout.obs_dim
        mask = torch.zeros(count, dtype=torch.bool) if steady is None else steady.cpu()
        require_shape("steady", mask, (count,))
        moved = torch.zeros(count) if rate is None else rate.cpu()
        require_shape("rate", moved, (count,))
        self.steady: tuple[int, ...] = tuple(mask.nonzero().flatten().tolist())
        self.rate = moved[list(self.steady)]

    def checked_start(self, start: Tensor | ArrayLike) -> Tensor:
        """Start states `(N, obs_dim)` in the energy's dtype and on its device.

        Raises:
            InputError: the shape does not fit, or a value is not finite.

        """
        given = start if isinstance(start, Tensor) else None
        like = float_like(self.energy, given)
        states = as_tensor("start", start, like.dtype, like.device)
        require_shape("start", states, (None, self.layout.obs_dim))
        require_finite("start", states)
        return states

    def checked_goal(self, start: Tensor, goal: Tensor | ArrayLike) -> Tensor:
        """Goals `(N, len(goal_index))` like `start`; a single goal `(len(goal_index),)` applies to all problems.

        Raises:
            InputError: the shape does not fit, or a value is not finite.

        """
        goals = as_tensor("goal", goal, start.dtype, start.device)
        goals = goals.expand(len(start), -1) if goals.ndim == 1 else goals
        require_shape("goal", goals, (len(start), len(self.goal_index)))
        require_finite("goal", goals)
        return goals

    def _set_goal(self, start: Tensor, goal: Tensor | ArrayLike | None) -> Tensor | None:
        if goal is None:
            needed = bool(self.goal_costs) or self.fix_goal
            words = f"shape (N, {len(self.goal_index)}): the planner has a goal cost or fixes the goal"
            require(not needed, "goal", given=None, expected=words)
            return None
        goals = self.checked_goal(start, goal)
        for cost in self.goal_costs:
            cost.set_goal(goals)
        return goals

    def _starts(self, start: Tensor, goal: Tensor | None, generator: torch.Generator, chains: int) -> Tensor:
        """Initial chains `(N, chains, T, D)`: around the line to a fixed goal, or around rest without one.

        They are smooth random curves, or rollouts of smooth random actions; the first one has no noise.
        """
        if self.policy is not None:
            return self._acted(start, generator, chains)
        rows, count = self.horizon + 1, len(start) * chains
        end = None
        if goal is not None and self.fix_goal:
            end = start.clone()
            end[:, list(self.goal_index)] = goal
        line = bridged(start, end, rows, self.layout)[:, None].expand(-1, chains, -1, -1)
        if self.turning:
            line = line + self._longer_ways(line)
        line = self.layout.join(line)
        if chains == 1 and self.rollouts is not None:
            return line
        noise = smooth_noise((count, rows, self.layout.dim), generator, start) * self.spread.to(start)
        noise = noise.unflatten(0, (len(start), chains)).clone()
        noise[:, 0] = 0
        curves = line + noise
        if self.rollouts is None:
            return curves
        curves, _ = self._pin(curves, start, goal)
        rolled = self._rolled(self.rollouts, self._bounded(curves[:, 1:]))
        return torch.cat([curves[:, :1], rolled], dim=1)

    def _acted(self, start: Tensor, generator: torch.Generator, chains: int) -> Tensor:
        """Initial chains `(N, chains, T, D)` by the policy; the actions of all but the first are random."""
        assert self.policy is not None
        assert self.dynamics is not None
        states, rows = start.repeat_interleave(chains, dim=0), []
        first = torch.arange(len(states), device=start.device) % chains == 0
        for t in range(self.horizon + 1):
            actions = self.policy(states)
            if chains > 1:
                actions = torch.where(first[:, None], actions, self.policy(states, generator))
            rows.append(torch.cat([states, actions], dim=-1))
            if t < self.horizon:
                pair = torch.stack([rows[-1], rows[-1]], dim=1)
                states = self.layout.states(self.dynamics.rollout(pair)[:, 0, 1])
        return torch.stack(rows, dim=1).unflatten(0, (len(start), chains))

    @staticmethod
    def _rolled(dynamics: Dynamics, x: Tensor) -> Tensor:
        """Chains `(N, K, T, D)` with every state after the first predicted; of several particles the first."""
        return dynamics.rollout(x.flatten(0, 1))[:, 0].unflatten(0, x.shape[:2])

    def _bounded(self, x: Tensor) -> Tensor:
        """Chains within the bounds of the sampler, which would clamp them later."""
        clamp = getattr(self.sampler, "clamp", None)
        if clamp is None:
            return x
        low, high = (torch.as_tensor(bound, dtype=x.dtype, device=x.device) for bound in clamp)
        return torch.minimum(torch.maximum(x, low), high)

    def _longer_ways(self, line: Tensor) -> Tensor:
        """Offsets `(N, K, T, obs_dim)` that turn lines `(N, K, T, obs_dim)` in the shorter directions the other way.

        Bit j of a chain's number selects the longer direction for the j-th turning coordinate.
        """
        extra = torch.zeros_like(line)
        done = torch.linspace(0, 1, line.shape[2], device=line.device, dtype=line.dtype)
        number = torch.arange(line.shape[1], device=line.device)[:, None]
        for j, i in enumerate(self.turning):
            shorter = line[:, :, -1:, i] - line[:, :, :1, i]
            away = torch.where(shorter > 0, -self.layout.periods[i], self.layout.periods[i])
            extra[..., i] = (number >> j & 1) * away * done
        return extra

    def _take_up(
        self,
        x: Tensor | None,
        warm: Plan,
        cold: Tensor | None,
        start: Tensor,
        goal: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """The warm plan's chains, with new ones for the worst `restarts` fraction and for `cold` problems."""
        shape = (len(start), self.chains, self.horizon + 1, self.layout.dim)
        require_shape("warm.chains", warm.chains, shape)
        kept = max(1, round(self.chains * (1 - self.restarts)))
        best = warm.continued(kept).to(start)
        if self.rollouts is not None:
            flat = best.flatten(0, 1)
            flat[:, -1] = self.rollouts.rollout(flat[:, -2:])[:, 0, -1]
            best = flat.view(best.shape)
        if kept == self.chains:
            mixed = best
        elif not self._rolls and x is not None:
            mixed = torch.cat([best, x[:, kept:]], dim=1)
        else:
            new = self.chains - kept
            fresh = self._starts(start, goal, generator, new) if x is None else x[:, :new]
            mixed = torch.cat([best, fresh], dim=1)
        if cold is None or x is None:
            return mixed
        return torch.where(cold.to(x.device)[:, None, None, None], x, mixed)

    def _pin(self, x: Tensor, start: Tensor, goal: Tensor | None) -> tuple[Tensor, Tensor]:
        """Write start (and goal) into the chains `(N, K, T, D)`; also return the mask `(T, D)` that fixes them."""
        x = x.clone()
        x[:, :, 0, : self.layout.obs_dim] = start[:, None]
        if self.steady:
            index = list(self.steady)
            rows = torch.arange(x.shape[2], device=x.device, dtype=x.dtype)[:, None]
            x[..., index] = (start[:, None, index] + rows * self.rate.to(x))[:, None]
        if goal is not None and self.fix_goal:
            x[:, :, -1, list(self.goal_index)] = goal[:, None]
        return x, self._fixed(x, goal is not None)

    def _fixed(self, x: Tensor, aimed: bool) -> Tensor:
        """The mask `(T, D)` of coordinates that do not move, made once for each device: nobody writes to it."""
        key = (x.device, x.shape[2], aimed and self.fix_goal)
        if key not in self._masks:
            fixed = torch.zeros(x.shape[2:], dtype=torch.bool, device=x.device)
            fixed[0, : self.layout.obs_dim] = True
            fixed[:, list(self.steady)] = True
            if self.rolled_out is not None:
                fixed[:, : self.layout.obs_dim] = True
            if aimed and self.fix_goal:
                fixed[-1, list(self.goal_index)] = True
            self._masks[key] = fixed
        return self._masks[key]


def _composed(
    energy: Energy | None, weight: float, costs: Sequence[Energy], dynamics: Dynamics | None
) -> Energy:
    """`weight * energy + costs`; either may be missing. Without an energy, the dynamics are the only model."""
    require(
        energy is not None or (dynamics is not None and len(costs) > 0),
        "energy",
        given=f"None, {len(costs)} costs, dynamics {type(dynamics).__name__}",
        expected="an energy, or dynamics and at least one cost",
    )
    first, *rest = [*([] if energy is None else [weight * energy]), *costs]
    return sum(rest, first)
