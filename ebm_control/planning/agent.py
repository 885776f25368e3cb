"""Model-predictive control as an agent that works with the tools of Stable-Baselines3 unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ebm_control.checks import InputError, require, require_finite, require_number
from ebm_control.data.actions import as_actions
from ebm_control.data.forms import FlatForm
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.spaces import flat_actions, flat_observation, native_actions, rows_of
from ebm_control.planning.inverse_dynamics import InverseDynamics
from ebm_control.planning.plan import AnyPlanner, Plan
from ebm_control.seeds import torch_generator
from ebm_control.tensors import as_array, as_tensor, outside_inference_mode

Observation = ArrayLike | Mapping[str, ArrayLike]


class MPCAgent:
    """Executes the first action of a plan and replans, at every step or when the state leaves the plan.

    `predict` has the signature of Stable-Baselines3's policies, so `evaluate_policy` accepts the agent as a model,
    also with monitored, recorded and vectorised environments.

    Args:
        planner: plans in normalised units: a `Planner`, a `Guided` one, your own.
        normalizer: units of the data that the planner's energy was trained on.
        action_space: space of the actions that are returned: clipped to it, rounded if it holds integers, and for
            discrete spaces the value whose coordinate is greatest.
        observation_space: space of the observations that the agent gets, if these are no vectors or if the data have a
            history; the agent then keeps its own history in the state of `predict`. None for vectors as in the data.
        goal: `(len(goal_index),)` goal in the environment's units, if observations hold no "desired_goal"; not needed
            by a planner without a goal.
        inverse_dynamics: actions for planned states, if the energy is over states only.
        temperature: temperature for sampling among chains when `deterministic=False`.
        replan_every: largest number of steps that a plan is followed for; a new goal also ends it.
        tolerance: a number or `(obs_dim,)`, in the units of the trajectory. All plans are replaced if any coordinate
            of any state differs from its plan by more than this.
        device: device for planning.
        seed: seed of the planner's noise.

    Attributes:
        action_box: bounds of the vectors that stand for actions; `action_space` itself if its actions are vectors.

    Raises:
        InputError: a planner over states only lacks `inverse_dynamics`, the action space is not that of the data,
            or a number, a tolerance or a seed is out of range.

    """

    def __init__(
        self,
        planner: AnyPlanner,
        normalizer: Normalizer,
        action_space: spaces.Space,
        *,
        observation_space: spaces.Space | None = None,
        goal: ArrayLike | None = None,
        inverse_dynamics: InverseDynamics | None = None,
        temperature: float = 1.0,
        replan_every: int = 1,
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
        self.action_box, known = flat_actions(action_space), normalizer.layout.act_dim
        box = self.action_box
        require(
            box.shape[0] == known,
            "action_space",
            given=f"one of {box.shape[0]} coordinates",
            expected=f"that of the data, of {known}",
        )
        require_number("temperature", temperature, 0, above=True)
        require_number("replan_every", replan_every, 1, whole=True)
        self.replan_every, self.tolerance = (
            replan_every,
            _tolerance(tolerance, planner.layout.obs_dim, device),
        )
        self.planner, self.normalizer = planner, normalizer
        self.action_space, self.inverse_dynamics = action_space, inverse_dynamics
        self.observation_space, form = observation_space, normalizer.form
        self._form = None if observation_space is None or form is None or form.history == 1 else form
        self.goal = None if goal is None else as_array("goal", goal)
        self.temperature, self.device = temperature, torch.device(device)
        self.generator = torch_generator(seed, self.device)

    @outside_inference_mode
    @torch.no_grad()
    def predict(
        self,
        observation: Observation,
        state: Plan | None = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Plan]:
        """Choose an action for each observation.

        Args:
            observation: `(obs_dim,)` or `(N, obs_dim)`, any array, tensor or list of real numbers; or a mapping that
                holds one as "observation". Its "desired_goal" is the goal if the planner takes one. With an
                `observation_space`, one observation of it or a batch.
            state: the plans that the last call returned; they warm-start this call. With a history, they hold it:
                without a state the episode counts as begun.
            episode_start: `(N,)` True where a new episode began, so that the old plan is ignored; a single flag
                applies to all.
            deterministic: use the best chain; otherwise sample a chain by the chains' energies.

        Returns:
            Actions `(act_dim,)` or `(N, act_dim)`, in the form of the action space (for a discrete one a number or
            `(N,)`), and the plan to pass to the next call.

        Raises:
            InputError: observation, goal or `episode_start` has the wrong shape or is not finite; a mapping lacks
                "observation", or a goal that the planner needs and the agent does not have; an "achieved_goal" differs
                by more than half a std of the data from the observation coordinates in the planner's `goal_index`.

        """
        seen: Any = observation
        if self.observation_space is not None:
            seen = flat_observation(self.observation_space, observation)
        past = None
        if self._form is not None:
            seen, past = self._with_history(self._form, seen, state, episode_start)
        start, goal, single = self._read(seen, first=state is None)
        if state is not None and len(state.states) != len(start):
            state = None
        cold = None if episode_start is None else _begun(episode_start, len(start))
        if cold is not None and bool(cold.all()):
            state = None
        if state is not None and self._holds(state, start, goal, cold):
            plan = state.advanced(start)
        else:
            plan = self.planner.plan(start, goal, warm=state, cold=cold, generator=self.generator)
            plan = replace(plan, goal=goal)
        acting = plan if deterministic else plan.sample(self.planner.layout, self.generator, self.temperature)
        actions = self._actions(acting).cpu().numpy()
        actions = as_actions(actions, self.action_box)
        if self._form is not None and past is not None:
            now = _vectors(seen)[:, : self._form.frame]
            plan = replace(
                plan, past=torch.from_numpy(self._form.advanced(now, past, actions.astype(np.float64)))
            )
        shown = (
            actions if self.action_box is self.action_space else native_actions(self.action_space, actions)
        )
        return (rows_of(shown, 0) if single else shown), plan

    @staticmethod
    def _with_history(
        form: FlatForm, seen: Any, state: Plan | None, episode_start: ArrayLike | None
    ) -> tuple[Any, NDArray[np.float64]]:
        """Observations `(N, frame)` with those before them, and these alone; they begin where an episode does."""
        now = _vectors(seen)
        past = form.begun(now)
        if state is not None and state.past is not None and len(state.past) == len(now):
            kept = state.past.numpy()
            begun = np.zeros(len(now), bool)
            if episode_start is not None:
                begun = _begun(episode_start, len(now)).numpy()
            past = np.where(begun[:, None], past, kept)
        whole = np.concatenate([now, past], axis=1)
        single = np.ndim(seen["observation"] if isinstance(seen, Mapping) else seen) == 1
        whole = whole[0] if single else whole
        return ({**seen, "observation": whole} if isinstance(seen, Mapping) else whole), past

    def _holds(self, plan: Plan, start: Tensor, goal: Tensor | None, cold: Tensor | None) -> bool:
        """Whether every plan may be followed for one more step."""
        if plan.age + 1 >= min(self.replan_every, plan.states.shape[1] - 1) or (
            cold is not None and bool(cold.any())
        ):
            return False
        if goal is not None and (plan.goal is None or not torch.equal(plan.goal, goal)):
            return False
        off = self.planner.layout.difference(start, plan.states[:, 1]).abs()
        return bool((off <= self.tolerance).all())

    def _actions(self, plan: Plan) -> Tensor:
        if self.inverse_dynamics is not None:
            first = self.inverse_dynamics(plan.states[:, 0], plan.states[:, 1])
        else:
            first = plan.actions[:, 0]
        return self.normalizer.denormalize_actions(first)

    def _read(self, observation: Observation, *, first: bool) -> tuple[Tensor, Tensor | None, bool]:
        """Normalised start states `(N, obs_dim)`, goals `(N, g)` or None, and whether the input had no batch axis.

        The goal's coordinates are checked with the `first` plan of a sequence.
        """
        goal: ArrayLike | None = self.goal
        achieved: ArrayLike | None = None
        if isinstance(observation, Mapping):
            require(
                "observation" in observation,
                "observation",
                given=f"one with the keys {[str(key) for key in observation]}",
                expected="a mapping that holds 'observation'",
            )
            if "desired_goal" in observation:
                goal, achieved = observation["desired_goal"], observation.get("achieved_goal")
            elif goal is None and self.planner.goal_index:
                given = [str(key) for key in observation]
                require(
                    False,
                    "observation",
                    given=given,
                    expected="also ['desired_goal'], or a goal= of the agent",
                )
            observation = observation["observation"]
        array = as_array("observation", observation)
        if array.ndim not in (1, 2) or array.shape[-1] != self.planner.layout.obs_dim:
            raise InputError(
                f"observation: expected shape (N, {self.planner.layout.obs_dim}), got {tuple(array.shape)}"
            )
        rows = np.atleast_2d(array)
        if goal is None or not self.planner.goal_index:  # without a goal index, an existing goal is ignored
            states = self._normalized(rows)
            require_finite("observation", states)  # values beyond the range of float32 are infinite here
            return states, None, array.ndim == 1
        # Both in one go: a plan waits for every operation.
        both = self._normalized(np.concatenate([rows, self._goal_rows("goal", goal, len(rows))]))
        states, goals = both[: len(rows)], both[len(rows) :, list(self.planner.goal_index)]
        require_finite("observation", states)
        if achieved is not None and first:
            self._require_goal_index(states, achieved)
        require_finite("goal", goals)
        return states, goals, array.ndim == 1

    def _normalized(self, raw: NDArray[np.float64]) -> Tensor:
        """Raw observations `(N, obs_dim)` in normalised units, on the device; the cast to float32 comes last."""
        states = torch.from_numpy(self.normalizer.normalize_array(raw))
        return states.to(device=self.device, dtype=torch.float32)

    def _goal_rows(self, name: str, goal: ArrayLike, count: int) -> NDArray[np.float64]:
        """Goals as raw observations `(count, obs_dim)`, 0 at other coordinates."""
        index = list(self.planner.goal_index)
        raw = np.atleast_2d(as_array(name, goal))
        if raw.ndim != 2 or raw.shape[-1] != len(index) or len(raw) not in (1, count):
            given, expected = f"shape {tuple(raw.shape)}", f"shape ({count}, {len(index)})"
            require(False, name, given=given, expected=expected)
        whole = np.zeros((count, self.planner.layout.obs_dim))
        whole[:, index] = raw
        return whole

    def _require_goal_index(self, states: Tensor, achieved: ArrayLike) -> None:
        """Raise `InputError` if `goal_index` does not match the coordinates of the environment's goals.

        Half a std of the data is allowed for noisy sensors and for goals that are read slightly later.
        """
        index = list(self.planner.goal_index)
        there = self._normalized(self._goal_rows("achieved_goal", achieved, len(states)))
        require_finite("achieved_goal", there)
        off = self.planner.layout.difference(states, there)[:, index].abs().cpu()
        far = off > 0.5 * self.normalizer.state_std[index].cpu()
        if bool(far.any()):
            row, column = (int(i) for i in far.nonzero()[0])
            raise InputError(
                f"goal_index: expected the observation coordinates that the environment's achieved_goal holds, got "
                f"{tuple(index)}: coordinate {index[column]} is {float(off[row, column]):.3g} normalised units off "
                f"achieved_goal[{column}]"
            )


def _vectors(seen: Any) -> NDArray[np.float64]:
    """Observations as rows `(N, n)`, of a mapping its "observation"."""
    return np.atleast_2d(as_array("observation", seen["observation"] if isinstance(seen, Mapping) else seen))


def _tolerance(value: Tensor | float, obs_dim: int, device: torch.device | str) -> Tensor:
    """Tolerance `()` or `(obs_dim,)`, finite and at least 0, as float32."""
    tolerance = as_tensor("tolerance", value, torch.float32, device)
    fits = tuple(tolerance.shape) in ((), (obs_dim,))
    sound = fits and bool((tolerance.isfinite() & (tolerance >= 0)).all())
    given = tolerance.tolist() if fits else f"shape {tuple(tolerance.shape)}"
    require(sound, "tolerance", given=given, expected=f"a finite number of at least 0, or {obs_dim} of them")
    return tolerance


def _begun(value: ArrayLike, count: int) -> Tensor:
    """Boolean `(count,)` of `episode_start`; a single flag applies to all."""
    flags = as_array("episode_start", value)
    fits = flags.shape in ((), (count,))
    sound = fits and bool(np.isin(flags, (0.0, 1.0)).all())
    given = flags.tolist() if fits else f"shape {flags.shape}"
    require(sound, "episode_start", given=given, expected=f"True or False, or {count} of them")
    return torch.from_numpy(np.broadcast_to(flags != 0, count).copy())
