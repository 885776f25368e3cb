"""Environments whose dynamics change while an agent is learning: what changes (regimes), and when (a switch).

    env = DynamicsSwitch(gym.make("ebm/Reacher-v0"), {20_000: ScaledGear(-1, ["elbow"]), 40_000: None})

runs 20,000 steps as the environment is, 20,000 with one motor reversed, and then as it was, to the bit.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import ArrayLike, NDArray

from ebm_envs.point import PointEnv, checked_boxes, segments_blocked

if TYPE_CHECKING:  # users of the point environments are spared the loading of MuJoCo
    import mujoco

Undo = Callable[[], None]
"""Takes a change back, to the bit. A `functools.partial`, so that a deep copy of an environment undoes its own."""


class Regime:
    """How dynamics differ from an environment's own. This one, which the others extend, does not differ."""

    def apply(self, env: gym.Env[Any, Any]) -> Undo:
        """Change `env` between two of its steps; what is returned takes the change back.

        Raises:
            ValueError: an environment that this regime is not for, which is left as it was.

        """
        return _nothing

    def transform(self, action: Any, space: gym.Space[Any]) -> Any:
        """What reaches the environment, whose actions are in `space`, when the agent gives `action`."""
        return action


@dataclass(frozen=True)
class RotatedActions(Regime):
    """Actions turn in the plane of two of their coordinates before they reach the environment.

    The action is clipped to the action space before and after the turn, as actions out of it mean those on its edge.
    What is read below the wrapper (`env.unwrapped.dynamics`, `inverse_dynamics`, the MuJoCo model) is not turned.

    Args:
        degrees: angle from the first of `axes` towards the second.
        axes: two coordinates of the action, counted from 0.

    Raises:
        ValueError: a non-finite angle, or axes that are not two different coordinates.

    """

    degrees: float = 90.0
    axes: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        _require_finite("degrees", self.degrees)
        axes = tuple(map(_integer, self.axes)) if np.shape(self.axes) == (2,) else ()
        two = len(set(axes)) == 2 and all(axis is not None and axis >= 0 for axis in axes)
        _require(two, "axes", self.axes, "two different coordinates of the action, from 0")
        object.__setattr__(self, "axes", axes)

    def apply(self, env: gym.Env[Any, Any]) -> Undo:
        """Check that the action space of `env` has both axes; `transform` does the rest."""
        space = env.action_space
        vectors = isinstance(space, spaces.Box) and len(space.shape) == 1
        _require(vectors, "env", env, f"a Box of action vectors for {self}")
        size = space.shape[0]  # type: ignore[index]
        _require(
            max(self.axes) < size, "axes", self.axes, f"coordinates below {size}, of the actions of {env}"
        )
        return _nothing

    def transform(self, action: Any, space: gym.Space[Any]) -> NDArray[Any]:
        """`action` (actions,), clipped, turned and clipped, in the data type of `space`.

        Raises:
            ValueError: an action of another shape.

        """
        assert isinstance(space, spaces.Box)
        # Not by `_require`: at every step, printing the action would take longer than all the rest.
        if np.shape(action) != space.shape:
            raise ValueError(f"action: expected shape {space.shape}, got {action!r}")
        turned = np.clip(np.asarray(action, np.float64), space.low, space.high)
        angle, plane = math.radians(self.degrees), list(self.axes)
        cos, sin = math.cos(angle), math.sin(angle)
        turned[plane] = np.array([[cos, -sin], [sin, cos]]) @ turned[plane]
        return np.clip(turned.astype(space.dtype), space.low, space.high)


@dataclass(frozen=True)
class _Scaled(Regime, ABC):
    """Rows of some arrays of the MuJoCo model at `env.unwrapped.model`, times a factor."""

    fields: ClassVar[tuple[str, ...]]
    factor: float
    joints: Sequence[str | int] | None = None

    def __post_init__(self) -> None:
        _require_finite("factor", self.factor)
        if self.joints is not None:
            some = np.ndim(self.joints) == 1 and len(self.joints) > 0
            _require(some, "joints", repr(self.joints), "None for all, or a sequence of names or indices")
            object.__setattr__(self, "joints", tuple(self.joints))

    def apply(self, env: gym.Env[Any, Any]) -> Undo:
        """Scale the model of `env`.

        Raises:
            ValueError: `env` has no MuJoCo model, or one without these joints.

        """
        model = getattr(env.unwrapped, "model", None)
        known = all(hasattr(model, name) for name in ("actuator_gear", "dof_damping", "joint"))
        _require(known, "env", env, f"a MuJoCo model at env.unwrapped.model for {self}")
        rows: Any = slice(None) if self.joints is None else self._rows(model, self._joint_ids(model))
        # MuJoCo before 3.6 has no `dof_dampingpoly`.
        arrays = {name: getattr(model, name) for name in self.fields if hasattr(model, name)}
        originals = {name: array.copy() for name, array in arrays.items()}
        for array in arrays.values():
            array[rows] *= self.factor
        return partial(_restore, model, originals)

    def _joint_ids(self, model: mujoco.MjModel) -> list[int]:
        try:
            return [model.joint(joint).id for joint in self.joints or ()]
        except (KeyError, IndexError, TypeError):
            names = [model.joint(i).name for i in range(model.njnt)]
            raise ValueError(
                f"joints: expected names among {names} or indices below {model.njnt}, got {self.joints}"
            ) from None

    @abstractmethod
    def _rows(self, model: mujoco.MjModel, joint_ids: list[int]) -> NDArray[np.bool_]:
        """Which rows of the fields belong to these joints."""


@dataclass(frozen=True)
class ScaledGear(_Scaled):
    """Motors that are `factor` times as strong (MuJoCo's `actuator_gear`); -1 reverses them, 0 cuts them off.

    Args:
        factor: finite.
        joints: names or indices of the joints whose actuators change; None for all actuators.

    Raises:
        ValueError: a non-finite factor, no joints.

    """

    fields = ("actuator_gear",)

    def _rows(self, model: mujoco.MjModel, joint_ids: list[int]) -> NDArray[np.bool_]:
        import mujoco

        on_joint = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
        driven = np.where(np.isin(model.actuator_trntype, on_joint), model.actuator_trnid[:, 0], -1)
        idle = sorted(set(joint_ids) - set(driven.tolist()))
        _require(not idle, "joints", self.joints, f"joints that an actuator drives, not so {idle}")
        return np.isin(driven, joint_ids)


@dataclass(frozen=True)
class ScaledDamping(_Scaled):
    """Joints that are damped `factor` times as much (MuJoCo's `dof_damping`).

    Args:
        factor: finite, 0 or more.
        joints: names or indices of the joints that change; None for all.

    Raises:
        ValueError: a negative or non-finite factor, no joints.

    """

    fields = ("dof_damping", "dof_dampingpoly")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.factor >= 0, "factor", self.factor, "0 or more")

    def _rows(self, model: mujoco.MjModel, joint_ids: list[int]) -> NDArray[np.bool_]:
        return np.isin(model.dof_jntid, joint_ids)


@dataclass(frozen=True)
class Obstacles(Regime):
    """More walls in a point environment: they block moves, starts and goals, beside what reset options bring.

    A point that is inside a box when it appears cannot move until its episode ends.

    Args:
        boxes: (n, 2, 2), corners `(low, high)`.

    Raises:
        ValueError: malformed boxes.

    """

    boxes: ArrayLike

    def __post_init__(self) -> None:
        corners = checked_boxes("boxes", self.boxes).tolist()
        # As tuples a regime can be compared, hashed and printed.
        object.__setattr__(self, "boxes", tuple((tuple(low), tuple(high)) for low, high in corners))

    def apply(self, env: gym.Env[Any, Any]) -> Undo:
        """Add the boxes to the walls of `env`.

        Raises:
            ValueError: `env` is no point environment, or its usual start or goal would be inside a box.

        """
        base: Any = env.unwrapped
        _require(isinstance(base, PointEnv), "env", env, f"a point environment for {self}")
        for name in ("start", "goal"):
            point = base._defaults[name]
            free = isinstance(point, str) or not segments_blocked(point, point, self.boxes)
            _require(free, "boxes", self.boxes, f"boxes beside the environment's {name} {point}")
        undo = partial(setattr, base, "walls", base.walls)
        base.walls = np.concatenate([base.walls, checked_boxes("boxes", self.boxes)])
        return undo


Schedule = Mapping[int, Regime | None] | Sequence[tuple[int, Regime | None]]


class DynamicsSwitch(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Switches an environment's dynamics between two of its steps, also in the middle of an episode.

    The switch counts the steps it has made since it was built, over all episodes. `{k: regime}` has `regime` in force
    from step k + 1 on: k steps are made without it. Regimes change this environment alone. Where N environments run
    side by side each counts its own steps (a vector environment's automatic resets are none), so a switch after K
    steps in all is at `K // N` of each.

    `info["regime"]` of `step` is the index of the regime that the step was made under, that of `reset` the index of
    the regime in force.

    Args:
        env: not yet wrapped in a `DynamicsSwitch`.
        schedule: regimes by the number of steps after which they come into force, positive and increasing; as a
            mapping or as pairs `(step, regime)`. None stands for the original dynamics.

    Attributes:
        regimes: all regimes by index: 0 is None, the original dynamics, then those of `schedule` in order.

    Raises:
        ValueError: steps that are not positive and increasing, anything that is not a regime, or a regime that `env`
            cannot have; each is tried at construction.

    """

    def __init__(self, env: gym.Env[Any, Any], schedule: Schedule) -> None:
        RecordConstructorArgs.__init__(self, schedule=schedule)
        gym.Wrapper.__init__(self, env)
        layer = env
        while isinstance(layer, gym.Wrapper):
            _require(
                not isinstance(layer, DynamicsSwitch), "env", env, "an environment without a DynamicsSwitch"
            )
            layer = layer.env
        self._thresholds, scheduled = _checked_schedule(schedule)
        self.regimes: tuple[Regime | None, ...] = (None, *scheduled)
        self._steps, self._regime, self._by_hand = 0, 0, False
        self._undo: Undo = _nothing
        for regime in scheduled:
            (regime or _ORIGINAL).apply(env)()

    @property
    def steps(self) -> int:
        """Steps made since construction, over all episodes."""
        return self._steps

    @property
    def regime(self) -> int:
        """Index in `regimes` of the regime in force: that of the next step."""
        return self._regime

    def switch_to(self, regime: int | None) -> None:
        """Put the regime of this index in force and let the schedule rest, to evaluate under it, say.

        Steps are counted all the same; None returns to the schedule.

        Raises:
            ValueError: no such regime.

        """
        if regime is not None:
            index, last = _integer(regime), len(self.regimes) - 1
            _require(
                index is not None and 0 <= index <= last,
                "regime",
                regime,
                f"None or an index from 0 to {last}",
            )
        self._by_hand = regime is not None
        self._enforce(self._scheduled() if regime is None else operator.index(regime))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode under the regime in force; arguments are the environment's."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "regime": self._regime}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step under the regime in force, then switch if it is time."""
        transformed = (self.regimes[self._regime] or _ORIGINAL).transform(action, self.env.action_space)
        observation, reward, terminated, truncated, info = self.env.step(transformed)
        info = {**info, "regime": self._regime}
        self._steps += 1
        if not self._by_hand:
            self._enforce(self._scheduled())
        return observation, reward, terminated, truncated, info

    def _scheduled(self) -> int:
        return bisect_right(self._thresholds, self._steps)

    def _enforce(self, regime: int) -> None:
        if regime != self._regime:
            self._undo()
            # Should `apply` fail, the original is in force and known to be.
            self._regime, self._undo = 0, _nothing
            self._undo = (self.regimes[regime] or _ORIGINAL).apply(self.env)
            self._regime = regime


_ORIGINAL = Regime()


def _checked_schedule(schedule: Schedule) -> tuple[list[int], list[Regime | None]]:
    try:
        entries = schedule.items() if isinstance(schedule, Mapping) else schedule
        pairs = [(step, regime) for step, regime in entries]
    except (TypeError, ValueError):
        raise ValueError(f"schedule: expected a mapping or pairs (step, regime), got {schedule!r}") from None
    thresholds: list[int] = []
    for given, regime in pairs:
        step, least = _integer(given), thresholds[-1] + 1 if thresholds else 1
        if step is None or step < least:
            raise ValueError(
                f"schedule: expected positive, increasing whole steps, got {[k for k, _ in pairs]}"
            )
        whole = regime is None or isinstance(regime, Regime)
        _require(whole, f"schedule[{step}]", repr(regime), "a Regime or None")
        thresholds.append(step)
    return thresholds, [regime for _, regime in pairs]


def _nothing() -> None:
    """Undo of what needs no undoing."""


def _restore(model: mujoco.MjModel, originals: dict[str, NDArray[Any]]) -> None:
    for name, original in originals.items():
        getattr(model, name)[:] = original


def _integer(value: object) -> int | None:
    """`value` as an int if it is a whole number of an integer type."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _require(condition: bool, argument: str, given: object, expected: str) -> None:
    """Raise `ValueError` naming `argument`, what was `given` and what was `expected`, unless `condition`."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {given}")


def _require_finite(argument: str, value: object) -> None:
    """Raise `ValueError` unless `value` is a finite number."""
    finite = isinstance(value, Real) and math.isfinite(value)
    _require(finite, argument, repr(value), "a finite number")
