"""Divergence is seen, not hidden: the guard watches a run and says when it has gone wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ebm_control.checks import require


class DivergenceError(RuntimeError):
    """Training ran away more often than it may be rolled back; names the figure and what to try."""


@dataclass(frozen=True)
class Guard:
    """Limits that a healthy run stays within.

    Args:
        every: updates between looks (each look reads figures back from the device).
        max_energy: largest |tilt| of data or samples.
        max_gap: largest distance of mean tilts between data and samples.
        max_gradient_norm: largest gradient norm before clipping.
        snapshot_every: updates between the in-memory copies that a run is rolled back to.
        max_rollbacks: roll-backs before `DivergenceError` is raised.

    """

    every: int = 20
    max_energy: float = 1e3
    max_gap: float = 100.0
    max_gradient_norm: float = 1e4
    snapshot_every: int = 200
    max_rollbacks: int = 3

    def __post_init__(self) -> None:
        require(self.every >= 1, "every", given=self.every, expected="at least 1")
        require(
            self.snapshot_every >= self.every,
            "snapshot_every",
            given=self.snapshot_every,
            expected=f"at least every = {self.every}, so that only states the guard has seen are kept",
        )
        require(self.max_rollbacks >= 0, "max_rollbacks", given=self.max_rollbacks, expected="0 or more")

    def complaint(self, figures: Mapping[str, float]) -> str | None:
        """What is wrong with `figures` (max_tilt, gap, gradient_norm, loss), or None."""
        limits = {"max_tilt": self.max_energy, "gap": self.max_gap, "gradient_norm": self.max_gradient_norm}
        for name, value in figures.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
            if name in limits and abs(value) > limits[name]:
                return f"{name} is {value:.4g}, beyond {limits[name]:g}"
        return None

    def advice(self, complaint: str) -> str:
        """Last words of a run that diverged for good."""
        return (
            f"training diverged {self.max_rollbacks + 1} times; last: {complaint}. Try a lower learning rate, "
            "a larger energy_l2, a smaller gradient_clip of the optimiser, more sampler steps or a smaller "
            "sampler step_size"
        )
