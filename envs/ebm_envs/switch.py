"""Environments whose dynamics change while an agent learns: regimes are the changes, a switch schedules them.

    env = DynamicsSwitch(gym.make("ebm/Reacher-v0"), {20_000: ScaledGear(-1, ["elbow"]), 40_000: None})

runs 20,000 steps with the original dynamics, 20,000 with one motor reversed, and then the original ones bit for bit.
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

if TYPE_CHECKING:  # the point environments do not load MuJoCo
    import mujoco

Undo = Callable[[], None]
"""Reverts a change bit for bit. A `functools.partial`, so that a deep copy of an environment reverts its own."""


class Regime:
    """A change of an environment's dynamics. This base class changes nothing."""

    def apply(self, env: gym.Env[Any, Any]) -> Undo:
        """Change `env` between two of its steps; the returned function reverts the change.

        Raises:
            ValueError: an environment that does not support this regime; it is not changed.

        """
        return _nothing

    def transform(self, action: Any, space: gym.Space[Any]) -> Any:
        """The action in `space` that the environment receives for the agent's `action`."""
        return action


@dataclass(frozen=True)
class RotatedActions(Regime):
    """Actions are rotated in the plane of two of their coordinates before they reach the environment.

    The action is clipped to the action space before and after the rotation, as environments do with larger actions.
    Methods of the unwrapped environment (`dynamics`, `inverse_dynamics`, the MuJoCo model) are not rotated.

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
        """`action` (actions,), clipped, rotated and clipped, in the data type of `space`.

        Raises:
            ValueError: an action of another shape.

        """
        assert isinstance(space, spaces.Box)
        # Not by `_require`, which would format the action for its message at every step: slower than the rest.
        if np.shape(action) != space.shape:
            raise ValueError(f"action: expected shape {space.shape}, got {action!r}")
        turned = np.clip(np.asarray(action, np.float64), space.low, space.high)
        angle, plane = math.radians(self.degrees), list(self.axes)
        cos, sin = math.cos(angle), math.sin(angle)
        turned[plane] = np.array([[cos, -sin], [sin, cos]]) @ turned[plane]
        return np.clip(turned.astype(space.dtype), space.low, space.high)


@dataclass(frozen=True)
class _Scaled(Regime, ABC):
    """Multiplies rows of some arrays of the MuJoCo model at `env.unwrapped.model` by a factor."""

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
        """Mask of the rows of the fields that belong to these joints."""


@dataclass(frozen=True)
class ScaledGear(_Scaled):
    """Makes motors `factor` times as strong (MuJoCo's `actuator_gear`); -1 reverses them, 0 turns them off.

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
    """Multiplies the damping of joints by `factor` (MuJoCo's `dof_damping`).

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
    """More walls in a point environment: they block moves, starts and goals, in addition to those of reset options.

    A point that is inside a new box cannot move until its episode ends.

    Args:
        boxes: (n, 2, 2), corners `(low, high)`.

    Raises:
        ValueError: malformed boxes.

    """

    boxes: ArrayLike

    def __post_init__(self) -> None:
        corners = checked_boxes("boxes", self.boxes).tolist()
        # Tuples, so that regimes can be compared, hashed and printed.
        object.__setattr__(self, "boxes", tuple((tuple(low), tuple(high)) for low, high in corners))

    def apply(self, env: gym.Env[Any, Any]) -> Undo:
        """Add the boxes to the walls of `env`.

        Raises:
            ValueError: `env` is not a point environment, or its default start or goal would be inside a box.

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

    The switch counts its steps since construction, over all episodes. With `{k: regime}`, k steps are made without
    `regime`, which is active from step k + 1 on. Regimes change only this environment. If N environments run in
    parallel, each counts its own steps (automatic resets of a vector environment do not count), so a switch after K
    steps in total is at `K // N` of each.

    `info["regime"]` of `step` is the index of the regime during that step; that of `reset` is the index of the active
    regime.

    Args:
        env: an environment not yet wrapped in a `DynamicsSwitch`.
        schedule: regimes by the number of steps after which they become active, positive and increasing; as a
            mapping or as pairs `(step, regime)`. None stands for the original dynamics.

    Attributes:
        regimes: all regimes by index: 0 is None, the original dynamics, then those of `schedule` in order.

    Raises:
        ValueError: steps that are not positive and increasing, an entry that is not a regime, or a regime that `env`
            does not support; each is tried at construction.

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
        """Index in `regimes` of the active regime, which is that of the next step."""
        return self._regime

    def switch_to(self, regime: int | None) -> None:
        """Activate the regime with this index and pause the schedule, for example to evaluate under that regime.

        Steps are still counted; None returns to the schedule.

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
        """Start an episode under the active regime; arguments are those of the environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "regime": self._regime}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step under the active regime, then switch if it is time."""
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
            # If `apply` fails, the original dynamics are active, and recorded as such.
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
    """Does nothing: the `Undo` of regimes without a change to revert."""


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
