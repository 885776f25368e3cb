"""The layout of a trajectory: what each coordinate means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import InputError, is_sequence, require, require_number, require_shape, shown
from ebm_control.tensors import as_array


def as_periods(argument: str, value: ArrayLike, width: int | None = None) -> tuple[float, ...]:
    """`value` as a tuple of periods, one for each of `width` coordinates (None for any number), or ().

    Raises:
        InputError: not a sequence of finite numbers, each 0 (does not wrap) or positive.

    """
    count = "" if width is None else f"{width} "
    expected = f"() or {count}finite numbers, each 0 (does not wrap) or positive"
    given = " ".join(repr(value).split())
    try:
        array = as_array(argument, value)
    except InputError as error:
        raise InputError(f"{argument}: expected {expected}, got {given}") from error
    fits = array.ndim == 1 and (width is None or len(array) in (0, width))
    sound = fits and bool((np.isfinite(array) & (array >= 0)).all())
    require(sound, argument, given=given, expected=expected)
    return tuple(array.tolist())


@dataclass(frozen=True)
class TrajectoryLayout:
    """Meaning of the last axis of a trajectory `(B, T, D)`: observations first, then actions.

    Time step `t` holds `s_t, a_t`: action `a_t` is taken in `s_t` and leads to `s_{t+1}`.

    Args:
        obs_dim: observation coordinates.
        act_dim: action coordinates; 0 for trajectories of states only.
        periods: period of each observation coordinate in the units of the trajectory, 0 if it is not periodic;
            empty if none is. Periodic coordinates are compared modulo their period; networks get their sine and
            cosine.

    """

    obs_dim: int
    act_dim: int = 0
    periods: tuple[float, ...] = ()
    _runs: ClassVar[list[tuple[slice, float]]]
    _periodic: ClassVar[tuple[int, ...]]

    def __post_init__(self) -> None:
        require_number("obs_dim", self.obs_dim, 1, whole=True)
        require_number("act_dim", self.act_dim, 0, whole=True)
        require(
            is_sequence(self.periods) and len(self.periods) in (0, self.obs_dim),
            "periods",
            given=shown(self.periods),
            expected=f"() or {self.obs_dim} numbers, each 0 (not periodic) or positive",
        )
        for period in self.periods:
            require_number("periods", period, 0)
        # Kept, because samplers need them at every step.
        object.__setattr__(self, "_runs", _runs(self.periods))
        object.__setattr__(self, "_periodic", tuple(i for i, p in enumerate(self.periods) if p > 0))

    @property
    def dim(self) -> int:
        """Number of coordinates of one time step, `D`."""
        return self.obs_dim + self.act_dim

    @property
    def periodic(self) -> tuple[int, ...]:
        """Indices of the periodic observation coordinates."""
        return self._periodic

    @property
    def runs(self) -> list[tuple[slice, float]]:
        """Slices of neighbouring coordinates with equal period, each with that period; empty if none is periodic."""
        return self._runs

    @property
    def feature_dim(self) -> int:
        """Length of `features`: each periodic coordinate becomes two features."""
        return self.obs_dim + len(self.periodic)

    def states(self, x: Tensor) -> Tensor:
        """Observations of a trajectory: `(..., D) -> (..., obs_dim)`."""
        return x[..., : self.obs_dim]

    def actions(self, x: Tensor) -> Tensor:
        """Actions of a trajectory: `(..., D) -> (..., act_dim)`."""
        return x[..., self.obs_dim : self.dim]

    def join(self, states: Tensor, actions: Tensor | None = None) -> Tensor:
        """Trajectory from states `(..., T, obs_dim)` and actions `(..., T or T-1, act_dim)`.

        Data usually has one action fewer than states; the action of the last time step is then 0.
        """
        if self.act_dim == 0:
            return states
        if actions is None:
            actions = states.new_zeros(*states.shape[:-1], self.act_dim)
        elif actions.shape[-2] == states.shape[-2] - 1:
            actions = torch.cat([actions, torch.zeros_like(actions[..., :1, :])], dim=-2)
        return torch.cat([states, actions], dim=-1)

    def difference(self, later: Tensor, earlier: Tensor) -> Tensor:
        """`later - earlier` of states `(..., obs_dim)`; periodic coordinates by the shorter way round."""
        delta = later - earlier
        if not self.periodic:
            return delta
        if not delta.requires_grad and not torch.compiler.is_compiling() and not delta.is_inference():
            for columns, period in self._runs:
                if period > 0:
                    part = delta[..., columns]
                    part.sub_(torch.round(part / period), alpha=period)
            return delta
        wrapped = []
        for columns, period in self._runs:
            part = delta[..., columns]
            wrapped.append(part - period * torch.round(part / period) if period > 0 else part)
        return torch.cat(wrapped, dim=-1)

    def features(self, states: Tensor) -> Tensor:
        """Network inputs for states: `(..., obs_dim) -> (..., feature_dim)`; periodic coordinates as sin and cos."""
        if not self.periodic:
            return states
        runs = self._runs
        plain = [states[..., columns] for columns, period in runs if period == 0]
        angles = [states[..., columns] * (2 * math.pi / period) for columns, period in runs if period > 0]
        angle = torch.cat(angles, dim=-1)
        return torch.cat([*plain, angle.sin(), angle.cos()], dim=-1)

    def features_gradient(self, states: Tensor, gradient: Tensor) -> Tensor:
        """Gradient with respect to states `(..., obs_dim)` from that with respect to their features."""
        if not self.periodic:
            return gradient
        parts, plain, wave, waves = [], 0, self.obs_dim - len(self.periodic), len(self.periodic)
        for columns, period in self._runs:
            width = columns.stop - columns.start
            if period == 0:
                parts.append(gradient[..., plain : plain + width])
                plain += width
                continue
            rate = 2 * math.pi / period
            angle = states[..., columns] * rate
            by_sine = gradient[..., wave : wave + width]
            by_cosine = gradient[..., wave + waves : wave + waves + width]
            parts.append(rate * (by_sine * angle.cos() - by_cosine * angle.sin()))
            wave += width
        return torch.cat(parts, dim=-1)

    def check(self, argument: str, x: Tensor) -> None:
        """Raise `InputError` unless `x` is a batch of trajectories `(B, T, D)` of this layout."""
        require_shape(argument, x, (None, None, self.dim))


def _runs(periods: Sequence[float]) -> list[tuple[slice, float]]:
    """Slices of neighbouring coordinates with equal period, each with that period.

    A list of indices or periods would be copied to the device at every step of a sampler. That copy waits for the
    device and cannot be captured in a CUDA graph, hence slices and numbers.
    """
    if len(periods) == 0:
        return []
    starts = [i for i, period in enumerate(periods) if i == 0 or period != periods[i - 1]]
    stops = [*starts[1:], len(periods)]
    return [(slice(i, j), periods[i]) for i, j in zip(starts, stops, strict=True)]


def pick(x: Tensor, index: Sequence[int]) -> Tensor:
    """Coordinates `index` of the last axis, `(..., D) -> (..., len(index))`, with nothing copied to the device.

    Raises:
        InputError: `x` lacks a coordinate, or one is named twice; see `require_index`.

    """
    require_index("index", index, x.shape[-1])
    first, count = index[0], len(index)
    if list(index) == list(range(first, first + count)):
        return x[..., first : first + count]
    return torch.stack([x[..., i] for i in index], dim=-1)


def unpick(part: Tensor, index: Sequence[int], x: Tensor) -> Tensor:
    """`part` `(..., len(index))` at the coordinates `index` of zeros in the shape of `x` `(..., D)`: undoes `pick`."""
    placed = part.new_zeros(x.shape)
    for k, i in enumerate(index):
        placed[..., i] = part[..., k]
    return placed


def require_index(argument: str, index: Sequence[int], count: int | None = None) -> None:
    """Raise `InputError` unless `index` names at least one of `count` coordinates, each at most once.

    Without `count` the upper bound is not checked. Negative indices are refused: the last coordinate of
    observations and actions is hardly ever meant. Tensors are not read.
    """
    if not is_sequence(index):
        raise _bad_index(argument, index, count)
    for i in index:
        whole = type(i) is int or (isinstance(i, Integral) and not isinstance(i, bool))
        if not whole or i < 0 or (count is not None and i >= count):
            raise _bad_index(argument, index, count)
    if len(index) == 0 or len(set(index)) < len(index):
        raise _bad_index(argument, index, count)


def _bad_index(argument: str, index: Sequence[int], count: int | None) -> InputError:
    known = "coordinates from 0 on" if count is None else f"coordinates in 0..{count - 1}"
    return InputError(f"{argument}: expected {known}, at least one and each once, got {shown(index)}")
