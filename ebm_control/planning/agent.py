"""Model-predictive control as an agent that Stable-Baselines3's tools take unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ebm_control.checks import InputError, require
from ebm_control.data.normalizer import Normalizer
from ebm_control.planning.inverse_dynamics import InverseDynamics
from ebm_control.planning.plan import Plan, Plans

Observation = ArrayLike | Mapping[str, ArrayLike]


class MPCAgent:
    """Takes the first action of a plan, and replans: at every step, or when reality leaves the plan.

    `predict` has the signature of Stable-Baselines3's policies, so `evaluate_policy` takes an agent for a model,
    on environments that are monitored, recorded or vectorised too.

    Args:
        planner: plans in normalised units: a `Planner`, a `Guided` one, your own.
        normalizer: units of the data that the planner's energy was trained on.
        action_space: where actions are clipped to.
        goal: `(len(goal_index),)` raw goal for environments whose observations hold none ("desired_goal").
        inverse_dynamics: actions for planned states, where the energy is over states alone.
        temperature: of the draw among chains when `deterministic=False`.
        rows: steps that a plan is followed for at most before all are made anew; another goal ends them too.
        tolerance: a number or `(obs_dim,)`, in the units of the trajectory: a state that is farther than this, in any
            coordinate, from where its plan had it ends all plans.
        device: where plans are made.
        seed: of the planner's noise.

    """

    def __init__(
        self,
        planner: Plans,
        normalizer: Normalizer,
        action_space: spaces.Box,
        *,
        goal: ArrayLike | None = None,
        inverse_dynamics: InverseDynamics | None = None,
        temperature: float = 1.0,
        rows: int = 1,
        tolerance: Tensor | float = 0.0,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        require(
            planner.layout.act_dim > 0 or inverse_dynamics is not None,
            "inverse_dynamics",
            given=None,
            expected="a way to find actions: the planner's energy is over states alone",
        )
        require(temperature > 0, "temperature", given=temperature, expected="a positive number")
        require(rows >= 1, "rows", given=rows, expected="at least 1 step")
        self.rows, self.tolerance = rows, torch.as_tensor(tolerance, device=device)
        self.planner, self.normalizer = planner, normalizer.to(torch.float32)
        self.action_space, self.inverse_dynamics = action_space, inverse_dynamics
        self.goal = None if goal is None else np.asarray(goal, np.float32)
        self.temperature, self.device = temperature, torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    @torch.no_grad()
    def predict(
        self,
        observation: Observation,
        state: Plan | None = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Plan]:
        """Action for each observation.

        Args:
            observation: `(obs_dim,)` or `(N, obs_dim)`, or a goal environment's dictionary of such.
            state: what the last call returned second: its plans are taken up again.
            episode_start: `(N,)` True where a new episode began, so that the old plan means nothing.
            deterministic: act by the best chain; otherwise by one drawn from the chains' energies.

        Returns:
            Actions `(act_dim,)` or `(N, act_dim)`, and the plan to hand to the next call.

        Raises:
            InputError: observation or goal of the wrong shape, or not finite.

        """
        start, goal, single = self._read(observation)
        if state is not None and len(state.states) != len(start):
            state = None
        cold = None
        if episode_start is not None:
            cold = torch.as_tensor(np.atleast_1d(np.asarray(episode_start, dtype=bool)))
        if cold is not None and bool(cold.all()):
            state = None
        if state is not None and self._holds(state, start, goal, cold):
            plan = state.advanced(start)
        else:
            plan = self.planner.plan(start, goal, warm=state, cold=cold, generator=self.generator)
            plan = replace(plan, goal=goal)
        acting = plan if deterministic else plan.sample(self.planner.layout, self.generator, self.temperature)
        actions = self._actions(acting).cpu().numpy()
        low, high = self.action_space.low, self.action_space.high
        actions = np.clip(actions, low, high).astype(self.action_space.dtype)
        return (actions[0] if single else actions), plan

    def _holds(self, plan: Plan, start: Tensor, goal: Tensor | None, cold: Tensor | None) -> bool:
        """Whether every plan may be followed for one more step."""
        if goal is not None and (plan.goal is None or not torch.equal(plan.goal, goal)):
            return False
        if plan.age + 1 >= min(self.rows, plan.states.shape[1] - 1) or (
            cold is not None and bool(cold.any())
        ):
            return False
        off = self.planner.layout.difference(start, plan.states[:, 1]).abs()
        return bool((off <= self.tolerance).all())

    def _actions(self, plan: Plan) -> Tensor:
        if self.inverse_dynamics is not None:
            first = self.inverse_dynamics(plan.states[:, 0], plan.states[:, 1])
        else:
            first = plan.actions[:, 0]
        return self.normalizer.denormalize_actions(first)

    def _read(self, observation: Observation) -> tuple[Tensor, Tensor | None, bool]:
        """Normalised start states `(N, obs_dim)`, goals `(N, g)` or None, and whether N was not given."""
        goal: ArrayLike | None = self.goal
        if isinstance(observation, Mapping):
            # A plan for a reward, say, or for a goal of the agent's own needs none of the environment's.
            asked = bool(self.planner.goal_index) and self.goal is None
            missing = {"observation", *(["desired_goal"] if asked else [])} - set(observation)
            require(not missing, "observation", given=sorted(observation), expected=f"also {sorted(missing)}")
            goal = observation.get("desired_goal", self.goal)
            observation = observation["observation"]
        array = np.asarray(observation, np.float32)
        single = array.ndim == 1
        start = torch.as_tensor(np.atleast_2d(array), device=self.device)
        if start.shape[-1] != self.planner.layout.obs_dim:
            raise InputError(
                f"observation: expected shape (N, {self.planner.layout.obs_dim}), got {tuple(array.shape)}"
            )
        states = self.normalizer.normalize_observations(start)
        if goal is None or not self.planner.goal_index:  # a reward, say, needs no goal although there is one
            return states, None, single
        return states, self._normalized_goal(goal, len(start)), single

    def _normalized_goal(self, goal: ArrayLike, count: int) -> Tensor:
        index = list(self.planner.goal_index)
        raw = torch.as_tensor(np.atleast_2d(np.asarray(goal, np.float32)), device=self.device)
        require(
            raw.shape[-1] == len(index) and len(raw) in (1, count),
            "goal",
            given=f"shape {tuple(raw.shape)}",
            expected=f"shape ({count}, {len(index)})",
        )
        whole = torch.zeros(count, self.planner.layout.obs_dim, device=self.device)
        whole[:, index] = raw
        return self.normalizer.normalize_observations(whole)[:, index]
