"""Further checks for the guard: whether batches and weights are finite, and whether the tilt is constant."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy


class NotFiniteError(Exception):
    """An update that could not be made; the message names what is not finite."""


_APART = 0.01  # relative spread of tilts that tell data apart


class Watch:
    """Watches batches, weights and tilts; reads nothing back from the device until the guard checks.

    Args:
        device: device of the batches.

    """

    def __init__(self, device: torch.device) -> None:
        self._bad_batch = torch.zeros((), dtype=torch.int64, device=device)
        self._widest = torch.zeros((), device=device)  # relative spread of the tilt

    def batch(self, batch: Batch, update: int) -> None:
        """Record the first update whose batch is not finite."""
        sound = batch.x.isfinite().all()
        if batch.context is not None:
            sound = sound & batch.context.isfinite().all()
        self._bad_batch = torch.where(sound | (self._bad_batch > 0), self._bad_batch, update)

    def forget(self) -> None:
        """Count all batches so far as finite."""
        self._bad_batch.zero_()

    def metrics(self, *energies: Energy) -> dict[str, Tensor]:
        """`bad_batch`, and `weights` of the energies, for `Guard.complaint`."""
        # A sum is finite if its terms are.
        sums = [p.detach().sum(dtype=torch.float64) for energy in energies for p in energy.parameters()]
        return {"bad_batch": self._bad_batch, "weights": torch.stack(sums).sum()}

    def tilts(self, tilt: Tensor) -> None:
        """Record how far the tilts `(M,)` of an update are apart, relative to the largest."""
        spread = (tilt.max() - tilt.min()) / tilt.abs().max().clamp_min(1e-30)
        self._widest = torch.maximum(self._widest, spread.nan_to_num(0.0))

    def tilt(self, tilt: Tensor) -> dict[str, Tensor]:
        """`tilt_spread` of tilts `(M,)` for `Guard.complaint`; nothing for a single datum.

        Tilts that were never apart are no sign of a network that has died: it may begin as 0 everywhere, or the data
        hardly differ (images of one pixel). The spread is then that of the largest tilt.
        """
        if len(tilt) < 2:
            return {}
        size = tilt.abs().max()
        return {"tilt_spread": torch.where(self._widest > _APART, tilt.max() - tilt.min(), size + 1.0)}
