"""An episode of a MuJoCo environment as a trajectory optimisation problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import ArrayLike

from ebm_envs.base import Array

_EPSILON = 1e-6  # step of the finite differences


@dataclass(frozen=True)
class Problem:
    """One episode from one start, whose return is `-weight Σ_t Σ_g |r_g(qpos_t)|`, t = 1..steps.

    Every reward that is a negative distance has this form: residuals of size 1 give an L1 distance, one residual of
    size 3 the Euclidean distance in space. Plans are controls (steps, m), each constant for `frame_skip` simulator
    steps; states are `(qpos, qvel, act)`, of size n = 2 nv + na, for models with only hinges and slides.

    Attributes:
        model: the simulator.
        frame_skip: simulator steps per control.
        qpos: (nv,) positions at the start.
        qvel: (nv,) velocities at the start.
        steps: controls in an episode.
        residual: positions (..., nv) -> residuals (..., G, k).
        jacobian: positions (..., nv) -> derivatives (..., G, k, nv) of the residuals with respect to the positions.
        weight: factor of the distance, above 0.
        act: (na,) activations of the actuators at the start; None for 0.

    Raises:
        ValueError: a model with other joints; activations of another shape; `steps` or `frame_skip` below 1.

    """

    model: mujoco.MjModel
    frame_skip: int
    qpos: Array
    qvel: Array
    steps: int
    residual: Callable[[Array], Array]
    jacobian: Callable[[Array], Array]
    weight: float = 1.0
    act: Array | None = None

    def __post_init__(self) -> None:
        if self.model.nq != self.model.nv:
            raise ValueError(
                f"model: expected hinges and slides, got {self.model.nq} positions and {self.model.nv} velocities"
            )
        if self.act is not None and np.shape(self.act) != (self.model.na,):
            raise ValueError(f"act: expected shape ({self.model.na},), got shape {np.shape(self.act)}")
        for name, value in (("steps", self.steps), ("frame_skip", self.frame_skip)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")

    @cached_property
    def start(self) -> Array:
        """The state (n,) at the start."""
        act = np.zeros(self.model.na) if self.act is None else self.act
        return np.concatenate([self.qpos, self.qvel, act])

    def parts(self, states: Array) -> tuple[Array, Array, Array]:
        """Positions (..., nv), velocities (..., nv) and activations (..., na) of states (..., n)."""
        nv = self.model.nv
        return states[..., :nv], states[..., nv : 2 * nv], states[..., 2 * nv :]

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest control, each (m,); infinite where the model has no limit."""
        limited = self.model.actuator_ctrllimited[:, None].astype(bool)
        low, high = np.where(limited, self.model.actuator_ctrlrange, [-np.inf, np.inf]).T
        return low, high

    @cached_property
    def _data(self) -> mujoco.MjData:
        return mujoco.MjData(self.model)

    @cached_property
    def _native(self) -> rollout.Rollout:
        return rollout.Rollout(nthread=0)

    def idle(self) -> Array:
        """The plan (steps, m) of zeros, clipped to the limits."""
        return np.clip(np.zeros((self.steps, self.model.nu)), *self.bounds)

    def checked(self, argument: str, plan: ArrayLike) -> Array:
        """`plan` (steps, m) in float64, clipped to the limits as the environment clips it.

        Raises:
            ValueError: another shape or non-finite values; the message names `argument`.

        """
        controls, shape = np.asarray(plan, np.float64), (self.steps, self.model.nu)
        if controls.shape != shape or not np.all(np.isfinite(controls)):
            raise ValueError(f"{argument}: expected finite numbers of shape {shape}, got {controls.shape}")
        return np.clip(controls, *self.bounds)

    def advance(self, states: Array, controls: Array) -> Array:
        """States (b, T, n) after each of the controls (b, T, m) from `states` (b or 1, n), in one native call."""
        initial = np.zeros((len(controls), 1 + self.start.size))  # time comes first
        initial[:, 1:] = states
        controls = np.broadcast_to(np.asarray(controls, np.float64), (*controls.shape[:2], self.model.nu))
        held = np.repeat(controls, self.frame_skip, axis=1)
        full = np.empty((*held.shape[:2], initial.shape[1]))
        # The checks of MuJoCo's wrapper would take longer than one step of a few arms; shapes are final here.
        self._native.rollout(
            [self.model] * len(held),
            [self._data],
            initial,
            held,
            skip_checks=True,
            nstep=held.shape[1],
            state=full,
        )
        return full[:, self.frame_skip - 1 :: self.frame_skip, 1:]

    def simulate(self, plan: Array) -> Array:
        """States (steps + 1, n) of a plan (steps, m), the start first."""
        return np.concatenate([self.start[None], self.advance(self.start[None], plan[None])[0]])

    def returns(self, plans: Array | Sequence[Array]) -> Array:
        """True returns (b,) of plans (b, steps, m); -inf where they are not finite."""
        return -self.cost(self.advance(self.start[None], np.asarray(plans)))

    def score(self, plan: Array) -> float:
        """True return of one plan (steps, m)."""
        return float(self.returns(plan[None])[0])

    def cost(self, states: Array, smoothing: float = 0.0) -> Array:
        """`weight Σ_t Σ_g sqrt(|r_g|² + smoothing²)` (...) of states (..., T, n); +inf where not finite."""
        square = np.square(self.residual(states[..., : self.model.nv])).sum(-1)
        total = self.weight * np.sqrt(square + smoothing**2).sum((-2, -1))
        return np.where(np.isfinite(total), total, np.inf)

    def quadratic_cost(self, states: Array, smoothing: float) -> tuple[Array, Array]:
        """Gradient (T, n) and Gauss-Newton Hessian (T, n, n) of the smoothed cost of each state (T, n).

        The norm's own curvature is exact, `(I - r rᵀ / c²) / c` with `c = sqrt(|r|² + smoothing²)`; that of the
        residuals is left out, so the Hessian is positive semidefinite.
        """
        nv, n = self.model.nv, states.shape[1]
        r, jacobian = self.residual(states[:, :nv]), self.jacobian(states[:, :nv])
        unit = r / (c := np.sqrt(np.square(r).sum(-1, keepdims=True) + smoothing**2))
        curvature = (np.eye(r.shape[-1]) - unit[..., :, None] * unit[..., None, :]) / c[..., None]
        gradient, hessian = np.zeros((len(states), n)), np.zeros((len(states), n, n))
        gradient[:, :nv] = self.weight * np.einsum("tgk,tgkq->tq", unit, jacobian)
        bent = curvature @ jacobian
        hessian[:, :nv, :nv] = self.weight * np.einsum("tgkp,tgkq->tpq", jacobian, bent)
        return gradient, hessian

    def linearised(self, states: Array, plan: Array) -> tuple[Array, Array]:
        """Derivatives (T, n, n) and (T, n, m) of each next state with respect to the state (T, n) and the control.

        By `mujoco.mjd_transitionFD`, composed over the frame skip; for RK4, which it does not support, by central
        differences whose perturbed states are all rolled out in one native call.
        """
        if self.model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:
            return self._probed(states, plan)
        model, data, (n, m) = self.model, self._data, (self.start.size, self.model.nu)
        by_state, by_control = np.empty((len(plan), n, n)), np.empty((len(plan), n, m))
        a, b = np.empty((n, n)), np.empty((n, m))
        mujoco.mj_resetData(model, data)
        for t, control in enumerate(plan):
            data.qpos, data.qvel, data.act = self.parts(states[t])
            data.ctrl[:] = control
            A, B = np.eye(n), np.zeros((n, m))
            for _ in range(self.frame_skip):
                mujoco.mjd_transitionFD(model, data, _EPSILON, False, a, b, None, None)
                A, B = a @ A, a @ B + b
                mujoco.mj_step(model, data)
            by_state[t], by_control[t] = A, B
        return by_state, by_control

    def _probed(self, states: Array, plan: Array) -> tuple[Array, Array]:
        n, size = states.shape[1], states.shape[1] + plan.shape[1]
        # The simulator clips controls: a perturbation beyond a limit would halve the difference.
        inside = np.clip(plan, self.bounds[0] + _EPSILON, self.bounds[1] - _EPSILON)
        x = np.concatenate([states, inside], axis=1)[:, None]
        offsets = _EPSILON * np.concatenate([np.eye(size), -np.eye(size)])
        probes = (x + offsets).reshape(-1, size)
        ends = self.advance(probes[:, :n], probes[:, None, n:]).reshape(len(plan), 2, size, n)
        jacobian = (ends[:, 0] - ends[:, 1]).transpose(0, 2, 1) / (2 * _EPSILON)
        return jacobian[..., :n], jacobian[..., n:]
