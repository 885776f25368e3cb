"""The sample buffer: persistent negatives from which chains restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ebm_control.checks import (
    require,
    require_finite,
    require_flag,
    require_number,
    require_shape,
)
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.tensors import outside_inference_mode


class Fresh(Protocol):
    """Source of the starts of fresh chains."""

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator, data: Tensor | None) -> Tensor:
        """Starts `(n, *shape)` on the generator's device, given the data batch that they will be compared with."""
        ...


def uniform(low: float = 0.0, high: float = 1.0) -> Fresh:
    """Fresh chains start uniformly in a box."""
    require_number("low", low)
    require_number("high", high, low)

    def fresh(shape: tuple[int, ...], generator: torch.Generator, data: Tensor | None) -> Tensor:
        return low + (high - low) * torch.rand(
            shape, generator=generator, device=generator.device, dtype=torch.float32
        )

    return fresh


def gaussian(mean: float = 0.0, std: float = 1.0) -> Fresh:
    """Fresh chains start from a Gaussian."""
    require_number("mean", mean)
    require_number("std", std, 0)

    def fresh(shape: tuple[int, ...], generator: torch.Generator, data: Tensor | None) -> Tensor:
        return mean + std * torch.randn(
            shape, generator=generator, device=generator.device, dtype=torch.float32
        )

    return fresh


def displaced(layout: TrajectoryLayout, std: Tensor, *, actions: bool = False) -> Fresh:
    """Fresh chains start at the data's own windows with Gaussian noise on every state after the first.

    Args:
        layout: layout of the trajectories.
        std: std of the noise in the units of the trajectory, `(obs_dim,)`, or `(T-1, obs_dim)` for each time step after
            the first; a few times a typical displacement starts chains well off the data.
        actions: add noise of std 1 to the actions too.

    """
    require_finite("std", std)
    require_flag("actions", actions)

    def fresh(shape: tuple[int, ...], generator: torch.Generator, data: Tensor | None) -> Tensor:
        require(
            data is not None and data.shape == shape,
            "data",
            given=None if data is None else tuple(data.shape),
            expected=f"windows of shape {shape}",
        )
        assert data is not None
        noise = torch.randn(shape, generator=generator, device=data.device, dtype=data.dtype)
        scale = torch.zeros(shape[1:], device=data.device, dtype=data.dtype)
        scale[1:, : layout.obs_dim] = std.to(scale)
        scale[:, layout.obs_dim :] = float(actions)
        noise[:, 0, : layout.obs_dim] = 0
        return data + scale * noise

    return fresh


def scattered(layout: TrajectoryLayout, low: Tensor, high: Tensor, std: Tensor) -> Fresh:
    """Fresh chains start anywhere: a first state uniform in a box, then a Gaussian random walk.

    Args:
        layout: layout of the trajectories.
        low: `(obs_dim,)` lower corner of the box, which also bounds the walk.
        high: `(obs_dim,)` upper corner.
        std: `(obs_dim,)` root mean square of one displacement.

    """
    for name, value in (("low", low), ("high", high), ("std", std)):
        require_shape(name, value, (layout.obs_dim,))
        require_finite(name, value)
    require(bool((low <= high).all()), "low", given=low.tolist(), expected=f"at most high, {high.tolist()}")

    def fresh(shape: tuple[int, ...], generator: torch.Generator, data: Tensor | None) -> Tensor:
        device = generator.device
        box = [bound.to(device) for bound in (low, high)]
        place = {"generator": generator, "device": device, "dtype": torch.float32}
        first = torch.rand((shape[0], 1, layout.obs_dim), **place)  # type: ignore[call-overload]
        noise = torch.randn(shape, **place)  # type: ignore[call-overload]
        walk = (layout.states(noise)[:, 1:] * std.to(device)).cumsum(dim=1)
        start = box[0] + (box[1] - box[0]) * first
        states = torch.cat([start, (start + walk).clamp(*box)], dim=1)
        return torch.cat([states, layout.actions(noise)], dim=-1)

    return fresh


class SampleBuffer:
    """Persistent chains on the device: most draws continue a chain, a few start afresh.

    Du & Mordatch 2019: 95 % of the chains continue and 5 % are re-initialised. Chains can thus mix across modes
    over many updates, with only a short chain per update.

    Args:
        capacity: number of chains, `N`.
        shape: shape of one sample.
        fresh: starts of fresh chains: `uniform(0, 1)`, `gaussian()`, `displaced(...)` or your own function.
        fresh_fraction: fraction of draws that start afresh.
        device: device of the chains.
        dtype: a float type, or uint8 for samples in [0, 1], which takes a quarter of the memory.

    """

    @outside_inference_mode
    def __init__(
        self,
        capacity: int,
        shape: Sequence[int],
        fresh: Fresh,
        *,
        fresh_fraction: float = 0.05,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        require_number("capacity", capacity, 1, whole=True)
        require_number("fresh_fraction", fresh_fraction, 0, 1)
        require(
            dtype.is_floating_point or dtype == torch.uint8,
            "dtype",
            given=dtype,
            expected="a float type or uint8",
        )
        self.capacity, self.shape, self.fresh = capacity, tuple(shape), fresh
        self.fresh_fraction = fresh_fraction
        self.samples = torch.zeros((capacity, *self.shape), dtype=dtype, device=device)
        self.filled = torch.zeros(capacity, dtype=torch.bool, device=device)

    def __len__(self) -> int:
        return int(self.filled.sum())

    def draw(
        self,
        n: int,
        generator: torch.Generator,
        *,
        slots: Tensor | None = None,
        data: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Starts for `n` chains and their slots.

        Args:
            n: number of chains.
            generator: random generator of the draw, on the buffer's device.
            slots: `(n,)` slots to draw; None draws distinct slots at random (some twice if n > N).
            data: the batch that the chains will be compared with, for `fresh`.

        Returns:
            `(n, *shape)` float starts, and `(n,)` slots to pass to `store`.

        """
        device = self.samples.device
        if slots is None:
            slots = self._distinct(n, generator)
        require_shape("slots", slots, (n,))
        restart = torch.rand(n, generator=generator, device=device, dtype=torch.float32) < self.fresh_fraction
        restart = restart | ~self.filled[slots]
        fresh = self.fresh((n, *self.shape), generator, data)
        kept = self.samples[slots]
        if kept.dtype == torch.uint8:
            kept = kept.to(fresh.dtype) / 255
        return torch.where(restart.reshape(-1, *[1] * len(self.shape)), fresh, kept), slots

    def _distinct(self, n: int, generator: torch.Generator) -> Tensor:
        """`(n,)` slots: one from each of n strata, shifted by a random offset; the cost does not depend on N.

        Whole strata keep slots distinct; the offset makes all slots equally likely if n does not divide N.
        """
        device = self.samples.device
        edges = torch.arange(n + 1, device=device) * self.capacity // n
        jitter = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        offset = torch.randint(self.capacity, (), generator=generator, device=device)
        return (edges[:-1] + (jitter * edges.diff()).long() + offset) % self.capacity

    def store(self, slots: Tensor, samples: Tensor) -> None:
        """Write chains back to their slots: `slots` `(n,)` from `draw`, `samples` `(n, *shape)`.

        A chain that is no longer finite is not stored: its slot is emptied and its next draw starts afresh.
        """
        require_shape("samples", samples, (slots.shape[0], *self.shape))
        samples = samples.detach()
        finite = samples.isfinite().flatten(1).all(dim=1)
        samples = samples.nan_to_num(0.0, 0.0, 0.0)
        if self.samples.dtype == torch.uint8:
            samples = (samples * 255).round().clamp(0, 255)
        self.samples[slots] = samples.to(self.samples.dtype)
        self.filled[slots] = finite

    def forget(self) -> None:
        """Empty every slot: all chains start afresh."""
        self.filled.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """Chains and a mask of filled slots."""
        return {"samples": self.samples, "filled": self.filled}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the chains of `state`; raises `InputError` if capacity, shape or dtype differ."""
        require_shape("samples", state["samples"], tuple(self.samples.shape))
        given = state["samples"].dtype
        require(given == self.samples.dtype, "samples", given=given, expected=str(self.samples.dtype))
        self.samples.copy_(state["samples"])
        self.filled.copy_(state["filled"])
