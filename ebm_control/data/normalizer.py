"""Normalisation: units in which the data have mean 0 and std 1, and back to raw units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ebm_control.checks import InputError, require, require_finite, require_shape, require_tensor
from ebm_control.data.forms import FlatForm
from ebm_control.energies.layout import TrajectoryLayout, as_periods
from ebm_control.tensors import as_array

_TENSORS = ("obs_mean", "obs_std", "act_mean", "act_std", "state_std")


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Affine map between raw observations and actions and the normalised trajectory.

    Plain coordinates get mean 0 and std 1. Periodic coordinates keep their origin, are divided by
    half their period and wrapped, so they lie in [-1, 1] with period 2.

    All computation is in the wider of two precisions, the argument's and the normaliser's (a fitted one has float64),
    because values far from the origin lose digits in float32 in raw units, but not in normalised ones. Normalised
    values have the argument's dtype, raw values the wider one.

    Args:
        obs_mean: `(obs_dim,)`, 0 for periodic coordinates.
        obs_std: `(obs_dim,)` positive scale, half the period for periodic coordinates.
        act_mean: `(act_dim,)`.
        act_std: `(act_dim,)`, positive.
        state_std: `(obs_dim,)` std of the *normalised* data: 1 for plain coordinates. An error
            divided by it is in units of a state's std.
        periods: period of each observation coordinate in raw units, 0 if it is not periodic; () for none.
        form: how the environment's observations and actions become raw vectors; None if they are vectors.

    Raises:
        InputError: shapes disagree, or a scale is not positive.

    """

    obs_mean: Tensor
    obs_std: Tensor
    act_mean: Tensor
    act_std: Tensor
    state_std: Tensor
    periods: tuple[float, ...] = ()
    form: FlatForm | None = None

    def __post_init__(self) -> None:
        obs_dim, act_dim = self.obs_mean.numel(), self.act_mean.numel()
        for name in _TENSORS:
            value = getattr(self, name)
            require_shape(name, value, (act_dim if name.startswith("act") else obs_dim,))
            require_finite(name, value)
            positive = name.endswith("mean") or bool((value > 0).all())
            require(positive, name, given=value.tolist(), expected="positive numbers")
        require(
            len(self.periods) in (0, obs_dim),
            "periods",
            given=f"{len(self.periods)} numbers",
            expected=f"() or one for each of {obs_dim} observation coordinates",
        )

    @classmethod
    def fit(
        cls, observations: ArrayLike | Tensor, actions: ArrayLike | Tensor, periods: Sequence[float] = ()
    ) -> Normalizer:
        """Normaliser fitted to the data, in float64.

        A coordinate counts as constant if its range is no more than rounding: within 8 units of float32's
        rounding of its greatest magnitude, if float32 can represent all its values; within 1e-12 of that magnitude
        if some values are finer (such as motion of size 1 at an offset of 1e8); and within 1e-14 in any case (the
        rounding of sines and the like near 0). Its scale is its greatest magnitude, at least 1, so that its rounding
        errors stay far below 1.

        Args:
            observations: `(..., obs_dim)` raw, arrays of any layout, byte order or real type.
            actions: `(..., act_dim)` raw.
            periods: period of each observation coordinate, see the class.

        Raises:
            InputError: no data, non-finite data, or periods that do not fit the observations.

        """
        obs, act = _rows("observations", observations), _rows("actions", actions)
        layout = TrajectoryLayout(obs.shape[-1], act.shape[-1], as_periods("periods", periods))
        (obs_mean, obs_std), (act_mean, act_std) = _mean_and_std(obs), _mean_and_std(act)
        state_std = torch.ones_like(obs_std)
        for i in layout.periodic:
            obs_mean[i], obs_std[i] = 0.0, layout.periods[i] / 2
            state_std[i] = _circular_std(obs[:, i] / obs_std[i])
        return cls(obs_mean, obs_std, act_mean, act_std, state_std, layout.periods)

    @classmethod
    def identity(cls, obs_dim: int, act_dim: int, periods: Sequence[float] = ()) -> Normalizer:
        """Normaliser that leaves plain coordinates unchanged; periodic ones are still mapped to [-1, 1]."""
        layout = TrajectoryLayout(obs_dim, act_dim, as_periods("periods", periods))
        scale = torch.ones(obs_dim, dtype=torch.float64)
        for i in layout.periodic:
            scale[i] = layout.periods[i] / 2
        zero, one = torch.zeros(act_dim, dtype=torch.float64), torch.ones(act_dim, dtype=torch.float64)
        return cls(torch.zeros_like(scale), scale, zero, one, torch.ones_like(scale), layout.periods)

    @cached_property
    def layout(self) -> TrajectoryLayout:
        """Layout of the normalised trajectory; its periods are in normalised units, that is 2."""
        periods = tuple(p / s for p, s in zip(self.periods, self.obs_std.tolist(), strict=False))
        return TrajectoryLayout(self.obs_mean.numel(), self.act_mean.numel(), periods)

    def normalize_observations(self, observations: Tensor) -> Tensor:
        """Raw observations `(..., obs_dim)` in normalised units, periodic coordinates wrapped to [-1, 1].

        Floats keep their dtype; integers get the normaliser's.
        """
        scaled = _scaled(observations, self.obs_mean, self.obs_std)
        # The difference to the origin modulo the period is the wrapped coordinate.
        wrapped = self.layout.difference(scaled, torch.zeros_like(scaled)) if any(self.periods) else scaled
        return wrapped.to(_dtype(observations, wrapped))

    def normalize_array(self, observations: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `normalize_observations`, in NumPy: for the few numbers of a control step in a fraction of the time."""
        if not (self.obs_mean.is_cpu and self.obs_std.is_cpu):
            return self.normalize_observations(torch.from_numpy(observations)).cpu().numpy()
        scaled: NDArray[np.float64] = (observations - self.obs_mean.numpy()) / self.obs_std.numpy()
        for columns, period in self.layout.runs:
            if period > 0:
                part = scaled[..., columns]
                part -= period * np.rint(part / period)
        return scaled

    def denormalize_observations(self, observations: Tensor) -> Tensor:
        """Normalised observations `(..., obs_dim)` in raw units, in the wider precision (see the class)."""
        return _raw(observations, self.obs_mean, self.obs_std)

    def normalize_actions(self, actions: Tensor) -> Tensor:
        """Raw actions `(..., act_dim)` in normalised units; floats keep their dtype, integers get the normaliser's."""
        scaled = _scaled(actions, self.act_mean, self.act_std)
        return scaled.to(_dtype(actions, scaled))

    def denormalize_actions(self, actions: Tensor) -> Tensor:
        """Normalised actions `(..., act_dim)` in raw units, in the wider precision."""
        return _raw(actions, self.act_mean, self.act_std)

    def normalize(self, observations: Tensor, actions: Tensor | None = None) -> Tensor:
        """Normalised trajectory `(..., T, D)` from raw `(..., T, obs_dim)` and `(..., T or T-1, act_dim)`.

        Missing actions are 0 in normalised units: the mean action.
        """
        normalised = None if actions is None else self.normalize_actions(actions)
        return self.layout.join(self.normalize_observations(observations), normalised)

    def denormalize(self, trajectory: Tensor) -> tuple[Tensor, Tensor]:
        """Raw observations `(..., obs_dim)` and actions `(..., act_dim)` of a trajectory `(..., D)`.

        The result has the wider precision: float64 with a fitted normaliser.
        """
        layout = self.layout
        return (
            self.denormalize_observations(layout.states(trajectory)),
            self.denormalize_actions(layout.actions(trajectory)),
        )

    def to(self, *args: Any, **kwargs: Any) -> Normalizer:
        """The same normaliser on another device or in another dtype; arguments of `Tensor.to`."""
        moved = {name: getattr(self, name).to(*args, **kwargs) for name in _TENSORS}
        return Normalizer(**moved, periods=self.periods, form=self.form)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe form; `from_dict` restores the same values to the last bit."""
        settings = {name: getattr(self, name).tolist() for name in _TENSORS}
        dtype = str(self.obs_mean.dtype).removeprefix("torch.")
        form = {} if self.form is None else {"form": self.form.to_dict()}
        return {**settings, "periods": list(self.periods), "dtype": dtype, **form}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Normalizer:
        """Normaliser from the result of `to_dict`.

        Raises:
            InputError: an entry is missing, or the shapes of its values disagree.

        """
        missing = {*_TENSORS, "periods", "dtype"} - settings.keys()
        require(
            not missing,
            "settings",
            given=f"a dictionary without {sorted(missing)}",
            expected="to_dict's entries",
        )
        dtype = getattr(torch, str(settings["dtype"]), None)
        if not isinstance(dtype, torch.dtype):
            raise InputError(
                f"settings['dtype']: expected the name of a torch dtype, got {settings['dtype']!r}"
            )
        tensors = {name: torch.tensor(settings[name], dtype=dtype) for name in _TENSORS}
        form = FlatForm.from_dict(settings["form"]) if settings.get("form") is not None else None
        return cls(**tensors, periods=tuple(settings["periods"]), form=form)


def _scaled(raw: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """`(raw - mean) / scale` in the wider of both precisions."""
    require_tensor("raw values", raw)
    return (raw - mean.to(raw.device)) / scale.to(raw.device)


def _raw(scaled: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """`scaled * scale + mean` in the wider of both precisions."""
    return scaled * scale.to(scaled.device) + mean.to(scaled.device)


def _dtype(given: Tensor, computed: Tensor) -> torch.dtype:
    return given.dtype if given.is_floating_point() else computed.dtype


def _rows(name: str, value: ArrayLike | Tensor) -> Tensor:
    """Data `(..., d)` as float64 rows `(N, d)` on the CPU."""
    array = torch.from_numpy(as_array(name, value).copy())
    require(array.dim() >= 2, name, given=f"shape {tuple(array.shape)}", expected="shape (..., coordinates)")
    rows = array.reshape(-1, array.shape[-1]) if array.shape[-1] else array.new_zeros(1, 0)
    require(
        rows.shape[0] >= 1, name, given=f"shape {tuple(array.shape)}", expected="at least one row of data"
    )
    require_finite(name, rows)
    return rows


def _mean_and_std(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of each coordinate; see `Normalizer.fit` for those that count as constant."""
    low, high = rows.amin(0), rows.amax(0)
    size = torch.maximum(low.abs(), high.abs())
    coarse = (rows.float().double() == rows).all(dim=0)
    rounding = torch.where(coarse, 8 * torch.finfo(torch.float32).eps, 1e-12) * size
    # The std of a constant is a rounding error: dividing by it would amplify noise to size 1.
    constant = high - low <= rounding.clamp_min(1e-14)
    # Relative to one of the values: sums of large offsets would lose digits.
    moves = rows - rows[0]
    mean, std = rows[0] + moves.mean(0), moves.std(0, correction=0)
    return mean, torch.where(constant, size.clamp_min(1.0), std)


def _circular_std(x: Tensor) -> Tensor:
    """Std `()` of a coordinate `(N,)` of period 2 about its circular mean, modulo the period."""
    centre = torch.atan2((torch.pi * x).sin().mean(), (torch.pi * x).cos().mean()) / torch.pi
    delta = x - centre
    std = (delta - 2 * torch.round(delta / 2)).square().mean().sqrt()
    return std if std > 1e-9 else torch.ones_like(std)
