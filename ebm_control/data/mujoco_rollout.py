"""Random episodes of a MuJoCo environment by native threads: the same data, several times sooner."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import NDArray

from ebm_control.checks import InputError, require
from ebm_control.data.environments import (
    EnvLike,
    action_box,
    make_env,
    observation_box,
    plain_observation,
    require_steps,
)
from ebm_control.data.periods import observation_periods
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.provenance import usable_cores

Array = NDArray[np.float64]
Observe = Callable[[Array, Array], NDArray[Any]]
Starts = Callable[[np.random.Generator, int], tuple[NDArray[Any], NDArray[Any]]]

_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS
_CHUNK_FLOATS = 8_000_000  # recorded states of one chunk, 64 MB
_TOLERANCE = 1e-8
_ADVICE = "use `collect`, which steps the environment itself"


class MujocoSimulator:
    """Open-loop rollouts of a MuJoCo environment's own physics, many at once, on a pool of native threads.

    Use it as a context manager: the pool lives until the block ends.

    Args:
        env: environment with a MuJoCo `model` and `data`, whose actions are its actuators' controls. Where it
            has no `frame_skip`, a reset and a step are spent on finding it.
        threads: native threads; None for all usable cores.

    Raises:
        InputError: not such an environment.

    """

    def __init__(self, env: gym.Env, threads: int | None = None) -> None:
        base: Any = env.unwrapped
        lacking = [name for name in ("model", "data") if not hasattr(base, name)]
        require(
            not lacking, "env", given=f"{env} without {lacking}", expected=f"a MuJoCo environment; {_ADVICE}"
        )
        threads = usable_cores() if threads is None else threads
        require(threads >= 1, "threads", given=threads, expected="at least 1")
        self._env = base
        self.threads = threads
        self.model: mujoco.MjModel = base.model
        self.frame_skip = int(getattr(base, "frame_skip", 0)) or _measured_frame_skip(env)
        self.state_size = mujoco.mj_stateSize(self.model, _PHYSICS.value)
        self._data = [mujoco.MjData(self.model) for _ in range(threads)]
        # One thread needs no pool: the caller's own does it.
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)

    def __enter__(self) -> MujocoSimulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def current(self) -> tuple[Array, Array]:
        """Full physics state `(state_size,)` and solver warm start `(nv,)` that the environment is in now."""
        state = np.empty(self.state_size)
        mujoco.mj_getState(self.model, self._env.data, state, _PHYSICS)
        return state, self._env.data.qacc_warmstart.copy()

    def states(self, qpos: NDArray[Any], qvel: NDArray[Any]) -> Array:
        """Full physics states `(n, state_size)` at time 0 of positions `(n, nq)` and velocities `(n, nv)`."""
        n = len(qpos)
        for name, value, size in (("qpos", qpos, self.model.nq), ("qvel", qvel, self.model.nv)):
            shape = np.shape(value)
            require(shape == (n, size), name, given=f"shape {shape}", expected=f"shape {(n, size)}")
            require(bool(np.isfinite(value).all()), name, given="non-finite values", expected="finite ones")
        fresh = mujoco.MjData(self.model)
        state = np.empty(self.state_size)
        mujoco.mj_getState(self.model, fresh, state, _PHYSICS)
        states = np.tile(state, (n, 1))
        states[:, self._qpos], states[:, self._qvel] = qpos, qvel
        return states

    def rollout(
        self, states: Array, actions: NDArray[Any], warmstart: Array | None = None
    ) -> tuple[Array, Array]:
        """Roll out actions, each held for `frame_skip` physics steps.

        Args:
            states: `(n, state_size)` full physics states to start from.
            actions: `(n, T, nu)`.
            warmstart: `(n, nv)` solver warm starts, 0 if None as after a reset.

        Returns:
            Positions `(n, T + 1, nq)` and velocities `(n, T + 1, nv)`, the start first.

        Raises:
            InputError: the simulation became unstable.

        """
        control = np.repeat(np.asarray(actions, dtype=np.float64), self.frame_skip, axis=1)
        path, _ = self._pool.rollout(self.model, self._data, states, control, initial_warmstart=warmstart)
        path = np.concatenate([states[:, None], path[:, self.frame_skip - 1 :: self.frame_skip]], axis=1)
        # After a warning MuJoCo stops that rollout and repeats its last state: its clock stands still.
        stuck = np.argwhere(np.diff(path[..., 0], axis=1) <= 0)
        if len(stuck):
            raise InputError(
                f"actions: expected a stable simulation, got one that MuJoCo gave up in rollout {stuck[0][0]} "
                f"at step {stuck[0][1]} with a warning (see MUJOCO_LOG.TXT)"
            )
        return path[..., self._qpos], path[..., self._qvel]

    @property
    def _qpos(self) -> slice:
        return slice(1, 1 + self.model.nq)  # the state begins with the time

    @property
    def _qvel(self) -> slice:
        return slice(1 + self.model.nq, 1 + self.model.nq + self.model.nv)


def collect_mujoco(
    env: EnvLike,
    steps: int,
    *,
    episode_length: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    starts: Starts | None = None,
    observe: Observe | None = None,
) -> RolloutBuffer:
    """Collect exactly `steps` transitions under uniformly random actions, several times faster than stepping.

    The environment's physics run in `mujoco.rollout`; observations are recomputed from positions and
    velocities. Before anything is collected both are compared with the environment itself over a few steps.
    Episodes all last `episode_length`, the last one what remains: **terminations are not applied**, so a
    hopper goes on after it has fallen. Rewards are not recorded. Equal arguments give equal data.

    Args:
        env: MuJoCo environment, its id, or a function that makes it.
        steps: transitions to collect.
        episode_length: steps of an episode; None for the environment's own limit, or 1000 where it has none.
        seed: of the resets and of the actions.
        threads: native threads; None for all usable cores.
        starts: function of a random generator and `n` that gives start positions `(n, nq)` and velocities
            `(n, nv)`; None for the environment's own resets.
        observe: function of positions `(..., nq)` and velocities `(..., nv)` that gives observations
            `(..., obs_dim)`; None for the environment's own `observe`, or for what Gymnasium's
            `observation_structure` says.

    Raises:
        InputError: the environment is not of MuJoCo, its observations cannot be derived from positions and
            velocities alone, or rollouts disagree with it; the message says to use `collect`.

    """
    require_steps(steps)
    made = make_env(env)
    try:
        with MujocoSimulator(made, threads) as simulator:
            return _collect(made, simulator, steps, episode_length, seed, starts, observe)
    finally:
        if made is not env:
            made.close()


def _collect(
    env: gym.Env,
    simulator: MujocoSimulator,
    steps: int,
    episode_length: int | None,
    seed: int,
    starts: Starts | None,
    observe: Observe | None,
) -> RolloutBuffer:
    box, obs_dim = action_box(env.action_space), observation_box(env.observation_space).shape[0]
    require(box.is_bounded(), "env", given=f"action space {box}", expected=f"a bounded one; {_ADVICE}")
    limit = env.spec.max_episode_steps if env.spec else None
    length = min(steps, (limit or 1000) if episode_length is None else episode_length)
    require(length >= 1, "episode_length", given=episode_length, expected="at least 1")
    observe = observe or _observe_of(env)
    _verify(env, simulator, observe, seed)

    rng = np.random.default_rng(seed)
    buffer = RolloutBuffer(obs_dim, box.shape[0], periods=observation_periods(env))
    row = simulator.frame_skip * (simulator.state_size + box.shape[0])
    chunk = max(simulator.threads, _CHUNK_FLOATS // (length * row))
    env.reset(seed=seed)
    while len(buffer) < steps:
        n = min(chunk, -(-(steps - len(buffer)) // length))
        states, warmstart = _start_states(env, simulator, starts, rng, n, first=len(buffer) == 0)
        actions = rng.uniform(box.low, box.high, (n, length, *box.shape)).astype(box.dtype)
        observations = observe(*simulator.rollout(states, actions, warmstart))
        for s, a in zip(observations, actions, strict=True):
            left = steps - len(buffer)
            buffer.add_episode(s[: left + 1], a[:left])
    return buffer


def _start_states(
    env: gym.Env,
    simulator: MujocoSimulator,
    starts: Starts | None,
    rng: np.random.Generator,
    n: int,
    first: bool,
) -> tuple[Array, Array | None]:
    """States `(n, state_size)` and warm starts to roll out from; the seeded reset counts as the first."""
    if starts is not None:
        return simulator.states(*starts(rng, n)), None
    found = []
    for i in range(n):
        if not (first and i == 0):
            env.reset()
        found.append(simulator.current())
    states, warmstarts = zip(*found, strict=True)
    return np.stack(states), np.stack(warmstarts)


def _measured_frame_skip(env: gym.Env) -> int:
    """Physics steps under one action, by the simulator's clock."""
    base: Any = env.unwrapped
    env.reset()
    before = base.data.time
    env.step(env.action_space.sample())
    return round((base.data.time - before) / base.model.opt.timestep)


def _observe_of(env: gym.Env) -> Observe:
    """The environment's own `observe`, or what `observation_structure` says: some positions, all velocities."""
    base: Any = env.unwrapped
    if hasattr(base, "observe"):
        own: Observe = base.observe
        return own
    structure = {k: v for k, v in getattr(base, "observation_structure", {}).items() if v}
    known = {"skipped_qpos", "qpos", "qvel"}
    if not structure or not structure.keys() <= known:
        raise InputError(
            f"observe: expected a function, since observations of {env} are not known to be just positions and "
            f"velocities (structure: {structure or 'not given'}), got None; give one, or {_ADVICE}"
        )
    skip = structure.get("skipped_qpos", 0)
    # Hopper and Walker2d clip velocities, which nothing declares: show the environment a very fast state.
    env.reset()
    base.set_state(base.init_qpos, np.full(base.model.nv, 1e3))
    limit = float(np.max(base._get_obs()[-base.model.nv :]))
    bound = np.inf if limit == 1e3 else limit
    return lambda qpos, qvel: np.concatenate([qpos[..., skip:], qvel.clip(-bound, bound)], axis=-1)


def _verify(env: gym.Env, simulator: MujocoSimulator, observe: Observe, seed: int, steps: int = 12) -> None:
    """Raise `InputError` unless a short rollout gives what the environment gives."""
    rng = np.random.default_rng(seed)
    box = action_box(env.action_space)
    seen = [plain_observation(env.reset(seed=seed)[0])]
    state, warmstart = simulator.current()
    actions = rng.uniform(box.low, box.high, (steps, *box.shape)).astype(box.dtype)
    for action in actions:
        observation, _, terminated, truncated, _ = env.step(action)
        seen.append(plain_observation(observation))
        if terminated or truncated:
            break
    taken = len(seen) - 1
    expected = np.stack(seen)
    given = np.asarray(observe(*simulator.rollout(state[None], actions[None, :taken], warmstart[None])))[0]
    require(
        given.shape == expected.shape,
        "observe",
        given=f"observations of shape {given.shape}",
        expected=f"shape {expected.shape} as the environment gives",
    )
    # An environment may show its observations in single precision: allow for that rounding, not for more.
    rounding = 4 * np.finfo(expected.dtype).eps if np.issubdtype(expected.dtype, np.floating) else 0.0
    error = np.nan_to_num(np.abs(given - expected), nan=np.inf)
    if not (error <= _TOLERANCE + rounding * np.abs(expected)).all():
        step, coordinate = divmod(int(error.argmax()), error.shape[1])
        raise InputError(
            f"env: expected rollouts that agree with stepping {env}, got a difference of "
            f"{error[step, coordinate]:.2g} in observation coordinate {coordinate} after {step} steps; {_ADVICE}"
        )
