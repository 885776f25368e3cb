"""Further checks for the guard: whether batches and weights are finite, and whether the tilt is constant."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy


class NotFiniteError(Exception):
    """An update that could not be made; the message names what is not finite."""


class Watch:
    """Watches batches, weights and tilts; reads nothing back from the device until the guard checks.

    Args:
        device: device of the batches.

    """

    def __init__(self, device: torch.device) -> None:
        self._bad_batch = torch.zeros((), dtype=torch.int64, device=device)

    def batch(self, batch: Batch, update: int) -> None:
        """Record the first update whose batch is not finite."""
        sound = batch.x.isfinite().all()
        if batch.context is not None:
            sound = sound & batch.context.isfinite().all()
        self._bad_batch = torch.where(sound | (self._bad_batch > 0), self._bad_batch, update)

    def forget(self) -> None:
        """Count all batches so far as finite."""
        self._bad_batch.zero_()

    def figures(self, *energies: Energy) -> dict[str, Tensor]:
        """`bad_batch`, and `weights` of the energies, for `Guard.complaint`."""
        # A sum is finite if its terms are.
        sums = [p.detach().sum(dtype=torch.float64) for energy in energies for p in energy.parameters()]
        return {"bad_batch": self._bad_batch, "weights": torch.stack(sums).sum()}

    @staticmethod
    def tilt(tilt: Tensor, update: int) -> dict[str, Tensor]:
        """`tilt_spread` of tilts `(M,)` for `Guard.complaint`; nothing if it says nothing.

        That is so at the first update, because a network may begin as 0 everywhere, and for a single datum.
        """
        return {"tilt_spread": tilt.max() - tilt.min()} if update > 1 and len(tilt) > 1 else {}
