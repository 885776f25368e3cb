"""A MuJoCo environment's own physics without the environment: the physics after a reset, and rollouts from there."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ebm_control.checks import InputError, require, require_number
from ebm_control.data.environments import action_box
from ebm_control.extras import ExtraModule
from ebm_control.provenance import usable_cores

if TYPE_CHECKING:
    import mujoco
    from mujoco import rollout
else:
    mujoco = ExtraModule("mujoco", "mujoco", "env")
    rollout = ExtraModule("mujoco.rollout", "mujoco", "env")

Array = NDArray[np.float64]

ADVICE = "use `collect`, which steps the environment itself"
CHUNK_FLOATS = 8_000_000  # floats of the recorded states of one chunk, 64 MB


class _Bits(NamedTuple):
    """Parts of a simulation's state, as bits of `mujoco.mjtState`."""

    physics: int
    control: int
    held: tuple[int, ...]  # inputs that a reset may set and a rollout can keep fixed: all but the controls
    inputs: int  # all of `held`


@cache
def _bits() -> _Bits:
    state = mujoco.mjtState
    parts = (
        state.mjSTATE_QFRC_APPLIED,
        state.mjSTATE_XFRC_APPLIED,
        state.mjSTATE_EQ_ACTIVE,
        state.mjSTATE_MOCAP_POS,
        state.mjSTATE_MOCAP_QUAT,
        state.mjSTATE_USERDATA,
    )
    held = tuple(part.value for part in parts)
    return _Bits(state.mjSTATE_FULLPHYSICS.value, state.mjSTATE_CTRL.value, held, sum(held))


class Physics(NamedTuple):
    """The start of a rollout.

    Args:
        model: masses, gears, welds and everything else that defines the episode's physics.
        state: `(state_size,)`, MuJoCo's full physics state, time first.
        warmstart: `(nv,)`, the solver's warm start.
        inputs: applied forces, active equalities, poses of mocap bodies and user data, in MuJoCo's order.
        held: parts of `inputs` (bits of `mjtState`) that differ from those of a fresh simulation of `model`.

    """

    model: mujoco.MjModel
    state: Array
    warmstart: Array
    inputs: Array
    held: int


class MujocoSimulator:
    """Open-loop rollouts of a MuJoCo environment's own physics, many at once, on a pool of native threads.

    Use it as a context manager: the pool is closed at the end of the block.

    Args:
        env: environment with a MuJoCo `model` and `data`, whose actions are its actuators' controls. Without
            `frame_skip` one reset and one step are used to measure it.
        threads: number of native threads; None for all usable cores.

    Raises:
        InputError: not such an environment.

    """

    def __init__(self, env: gym.Env, threads: int | None = None) -> None:
        base: Any = env.unwrapped
        kinds = {"model": mujoco.MjModel, "data": mujoco.MjData}
        lacking = [name for name, kind in kinds.items() if not isinstance(getattr(base, name, None), kind)]
        require(
            not lacking, "env", given=f"{env} without {lacking}", expected=f"a MuJoCo environment; {ADVICE}"
        )
        coordinates, controls = action_box(env.action_space).shape[0], base.model.nu
        require(
            coordinates == controls,
            "env",
            given=f"{coordinates} action coordinates for {controls} controls of {env}",
            expected=f"an environment whose actions are its actuators' controls; {ADVICE}",
        )
        threads = usable_cores() if threads is None else threads
        require_number("threads", threads, 1, whole=True)
        self._env = base
        self.threads = threads
        self.frame_skip = int(getattr(base, "frame_skip", 0)) or _measured_frame_skip(env)
        require(
            self.frame_skip >= 1,
            "env",
            given=f"{self.frame_skip} under one action of {env}",
            expected=f"at least one step of the physics; {ADVICE}",
        )
        self.state_size = mujoco.mj_stateSize(self.model, _bits().physics)
        self._origin, self._sizes, self._parts = self.model, _sizes(self.model), _parts(self.model)
        self._spare = mujoco.MjData(self.model)
        self._saved = np.zeros(0, dtype=np.uint64)
        self._remember_model()
        self._data = [mujoco.MjData(self._copy) for _ in range(threads)]
        # One thread needs no pool: the calling thread does the work.
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)

    def __enter__(self) -> MujocoSimulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    @property
    def model(self) -> mujoco.MjModel:
        """The model that the environment simulates now."""
        model: mujoco.MjModel = self._env.model
        return model

    @property
    def model_bytes(self) -> int:
        """Size of the model in bytes."""
        return int(mujoco.mj_sizeModel(self.model))

    def current(self) -> Physics:
        """The environment's current physics. While the model does not change, all results share one copy of it.

        Raises:
            InputError: the environment has replaced its model by one of other sizes.

        """
        self._remember_model()
        inputs = np.empty_like(self._fresh)
        mujoco.mj_getState(self.model, self._env.data, inputs, _bits().inputs)
        held = 0
        if not np.array_equal(inputs, self._fresh):
            for part, where in self._parts.items():
                held |= 0 if np.array_equal(inputs[where], self._fresh[where]) else part
        return Physics(self._copy, *self.state(), inputs, held)

    def state(self) -> tuple[Array, Array]:
        """The environment's current full physics state `(state_size,)` and solver warm start `(nv,)`."""
        state = np.empty(self.state_size)
        mujoco.mj_getState(self.model, self._env.data, state, _bits().physics)
        return state, self._env.data.qacc_warmstart.copy()

    def place(self, state: Array) -> None:
        """Set the environment's simulation to a full physics state `(state_size,)`; its model and inputs stay."""
        mujoco.mj_setState(self.model, self._env.data, np.ascontiguousarray(state), _bits().physics)
        mujoco.mj_forward(self.model, self._env.data)

    def states(self, qpos: NDArray[Any], qvel: NDArray[Any], like: Array | None = None) -> Array:
        """Full physics states `(n, state_size)` of positions `(n, nq)` and velocities `(n, nv)`.

        Time, activations and all other parts are those of a fresh simulation, or of `like`,
        `(n, state_size)` or `(state_size,)`.
        """
        n = len(qpos)
        for name, value, size in (("qpos", qpos, self.model.nq), ("qvel", qvel, self.model.nv)):
            shape = np.shape(value)
            require(shape == (n, size), name, given=f"shape {shape}", expected=f"shape {(n, size)}")
            require(bool(np.isfinite(value).all()), name, given="non-finite values", expected="finite ones")
        if like is None:
            like = np.empty(self.state_size)
            mujoco.mj_resetData(self.model, self._spare)
            mujoco.mj_getState(self.model, self._spare, like, _bits().physics)
        states = np.broadcast_to(like, (n, self.state_size)).copy()
        states[:, self.qpos], states[:, self.qvel] = qpos, qvel
        return states

    def rollout(
        self, states: Array, actions: NDArray[Any], warmstart: Array | None = None
    ) -> tuple[Array, Array]:
        """Roll out actions, each repeated for `frame_skip` physics steps, under the environment's current physics.

        Args:
            states: `(n, state_size)` full physics states at the start.
            actions: `(n, T, nu)`.
            warmstart: `(n, nv)` solver warm starts; None for 0, as after a reset.

        Returns:
            Positions `(n, T + 1, nq)` and velocities `(n, T + 1, nv)`, the start first.

        Raises:
            InputError: a wrong shape, or the simulation became unstable.

        """
        now = self.current()
        shape, wanted = np.shape(actions), (len(states), "T", self.model.nu)
        fits = len(shape) == 3 and (shape[0], shape[2]) == (wanted[0], wanted[2])
        require(fits, "actions", given=f"shape {shape}", expected=f"shape {wanted}")
        warm = np.zeros((len(states), self.model.nv)) if warmstart is None else warmstart
        starts = [now._replace(state=s, warmstart=w) for s, w in zip(states, warm, strict=True)]
        paths, sound = self.paths(starts, actions)
        unstable = np.flatnonzero(sound < shape[1])
        if len(unstable):
            raise InputError(f"actions: {unstable_message('rollout', unstable[0], sound[unstable[0]])}")
        return paths[..., self.qpos], paths[..., self.qvel]

    def paths(self, starts: Sequence[Physics], actions: NDArray[Any]) -> tuple[Array, NDArray[np.int64]]:
        """Full physics states after every action, each start with its own model and inputs.

        Args:
            starts: `n` starts.
            actions: `(n, T, nu)`.

        Returns:
            States `(n, T + 1, state_size)`, the start first, and the number of valid steps of each, `(n,)`: `T`,
                or fewer if the simulation became unstable.

        """
        n, steps = actions.shape[:2]
        spec = _bits().control
        for start in starts:
            spec |= start.held
        width = mujoco.mj_stateSize(self.model, spec)
        rows = max(1, steps * self.frame_skip * (self.state_size + width))
        piece = max(self.threads, CHUNK_FLOATS // rows)
        paths = np.empty((n, steps + 1, self.state_size))
        for first in range(0, n, piece):
            some = slice(first, first + piece)
            self._roll(starts[some], actions[some], spec, paths[some])
        passed = self.frame_skip * np.arange(steps + 1)
        timestep = np.array([start.model.opt.timestep for start in starts])[:, None]
        # After a warning MuJoCo stops a rollout and repeats its last state, or after the worst warnings restarts at
        # time 0: the clock then differs from its expected value.
        late = np.abs(paths[..., 0] - paths[:, :1, 0] - passed * timestep) > timestep / 2
        bad = late | ~np.isfinite(paths).all(axis=-1)
        return paths, np.where(bad.any(axis=1), bad.argmax(axis=1) - 1, steps)

    def _roll(self, starts: Sequence[Physics], actions: NDArray[Any], spec: int, paths: Array) -> None:
        """Fill `paths` `(n, T + 1, state_size)`."""
        models = [start.model for start in starts]
        control = np.asarray(actions, dtype=np.float64)
        if spec != _bits().control:
            inputs = np.stack([start.inputs for start in starts])
            held = np.concatenate([inputs[:, self._parts[p]] for p in _bits().held if p & spec], axis=1)
            wide = np.broadcast_to(held[:, None], (*control.shape[:2], held.shape[1]))
            control = np.concatenate([control, wide], axis=-1)  # controls come first in MuJoCo's order
        paths[:, 0] = [start.state for start in starts]
        path, _ = self._pool.rollout(
            models[0] if all(model is models[0] for model in models) else models,
            self._data,
            np.ascontiguousarray(paths[:, 0]),
            np.repeat(control, self.frame_skip, axis=1),
            control_spec=spec,
            initial_warmstart=np.stack([start.warmstart for start in starts]),
        )
        paths[:, 1:] = path[:, self.frame_skip - 1 :: self.frame_skip]

    def _remember_model(self) -> None:
        """Copy the environment's model, unless it is byte for byte the model of the last copy."""
        if self.model is not self._origin:
            require(
                _sizes(self.model) == self._sizes,
                "env",
                given=f"{self._env} with another one after a reset",
                expected=f"a model whose sizes stay; {ADVICE}",
            )
            self._origin = self.model
        size = self.model_bytes
        saved = np.zeros(-(-size // 8), dtype=np.uint64)  # words compare eight times faster than bytes
        mujoco.mj_saveModel(self.model, None, saved.view(np.uint8)[:size])
        if np.array_equal(saved, self._saved):
            return
        self._saved, self._copy = saved, copy.deepcopy(self.model)
        self._fresh = np.empty(mujoco.mj_stateSize(self._copy, _bits().inputs))
        mujoco.mj_resetData(self._copy, self._spare)
        mujoco.mj_getState(self._copy, self._spare, self._fresh, _bits().inputs)

    @property
    def qpos(self) -> slice:
        """Slice of the positions in a full physics state, which begins with the time."""
        return slice(1, 1 + self.model.nq)

    @property
    def qvel(self) -> slice:
        """Slice of the velocities in a full physics state."""
        return slice(1 + self.model.nq, 1 + self.model.nq + self.model.nv)


def unstable_message(noun: str, index: int, step: int) -> str:
    """Message for a simulation that became unstable, in rollout or episode `index` after `step` valid steps."""
    return (
        f"expected a stable simulation, got one that MuJoCo gave up in {noun} {index} at step {step} "
        "with a warning (in MUJOCO_LOG.TXT of the working directory)"
    )


def _sizes(model: mujoco.MjModel) -> dict[str, int]:
    """All sizes of a model and its signature; data made for a model depend on them."""
    names = (name for name in dir(model) if name.startswith("n") or name == "signature")
    values = {name: getattr(model, name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, int)}


def _parts(model: mujoco.MjModel) -> dict[int, slice]:
    """Slice of each part in the inputs of a simulation."""
    ends = np.cumsum([0, *(mujoco.mj_stateSize(model, part) for part in _bits().held)]).tolist()
    return {part: slice(*ends[i : i + 2]) for i, part in enumerate(_bits().held)}


def _measured_frame_skip(env: gym.Env) -> int:
    """Physics steps per action, measured by the simulator's clock."""
    base: Any = env.unwrapped
    env.reset()
    before = base.data.time
    env.step(env.action_space.sample())
    return round((base.data.time - before) / base.model.opt.timestep)
