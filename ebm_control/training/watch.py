"""What the guard asks of a run beside its figures: whether batches and weights are finite, and the tilt is alive."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.data.batch import Batch
from ebm_control.energies.base import Energy


class NotFiniteError(Exception):
    """An update that could not be made; says what is not finite."""


class Watch:
    """Watches over batches, weights and tilts, with nothing read back from the device before the guard looks.

    Args:
        device: of the batches.

    """

    def __init__(self, device: torch.device) -> None:
        self._bad_batch = torch.zeros((), dtype=torch.int64, device=device)

    def batch(self, batch: Batch, update: int) -> None:
        """Remember the first update whose batch is not finite."""
        sound = batch.x.isfinite().all()
        if batch.context is not None:
            sound = sound & batch.context.isfinite().all()
        self._bad_batch = torch.where(sound | (self._bad_batch > 0), self._bad_batch, update)

    def forget(self) -> None:
        """All batches so far count as finite again."""
        self._bad_batch.zero_()

    def figures(self, *energies: Energy) -> dict[str, Tensor]:
        """See `Guard.complaint`: `bad_batch`, and `weights` of the energies."""
        # A sum is finite where its terms are.
        sums = [p.detach().sum(dtype=torch.float64) for energy in energies for p in energy.parameters()]
        return {"bad_batch": self._bad_batch, "weights": torch.stack(sums).sum()}

    @staticmethod
    def tilt(tilt: Tensor, update: int) -> dict[str, Tensor]:
        """See `Guard.complaint`: `tilt_spread` of tilts `(M,)`, where it can be judged.

        A network may begin as 0 everywhere, and of one datum there is no spread.
        """
        return {"tilt_spread": tilt.max() - tilt.min()} if update > 1 and len(tilt) > 1 else {}
