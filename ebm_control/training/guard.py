"""Divergence is seen, not hidden: the guard watches a run and says when it has gone wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ebm_control.checks import require, require_number

_RUNAWAY = (
    "a lower learning rate, a larger energy_l2, a smaller gradient_clip of the optimiser, more sampler steps or a "
    "smaller sampler step_size"
)
# Spread of a tilt that says nothing, as a share of its size: it was 0.07 to 2 in healthy runs.
_FLAT = 1e-3
# What to try, by the first word of a complaint.
_TRY = {
    "batch": "data without NaN and infinite values: look for them in what makes the batches",
    "tilt": "a lower learning rate (its units have died: they give 0 whatever they are shown), or wider layers",
}


class DivergenceError(RuntimeError):
    """Training ran away more often than it may be rolled back; names the figure and what to try."""


@dataclass(frozen=True)
class Guard:
    """Limits that a healthy run stays within.

    Beside the limits below a run is unsound where a figure, a batch, a weight or an averaged weight is not finite, and
    where the tilt is the same for all data and samples: too large a step can leave a network whose units give 0
    whatever they are shown, and which no gradient reaches any more.

    Args:
        every: updates between looks (each look reads figures back from the device).
        max_energy: largest |tilt| of data or samples; infinite for no limit, here and below.
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
        for name in ("every", "snapshot_every"):
            require_number(name, getattr(self, name), 1, whole=True)
        for name in ("max_energy", "max_gap", "max_gradient_norm"):
            if (limit := getattr(self, name)) != math.inf:
                require_number(name, limit, 0, above=True)
        require_number("max_rollbacks", self.max_rollbacks, 0, whole=True)
        require(
            self.snapshot_every >= self.every,
            "snapshot_every",
            given=self.snapshot_every,
            expected=f"at least every = {self.every}, so that only states the guard has seen are kept",
        )

    def complaint(self, figures: Mapping[str, float]) -> str | None:
        """What is wrong with a run's figures, or None.

        Args:
            figures: max_tilt, gap, gradient_norm, loss and whatever else is logged; and of what is not, where it is
                known: bad_batch, the first update whose batch was not finite, or 0; weights, any figure that is finite
                where all of them are; and tilt_spread, of the tilt over data and samples.

        """
        if figures.get("bad_batch", 0):
            return f"batch of update {figures['bad_batch']:.0f} is not finite"
        limits = {"max_tilt": self.max_energy, "gap": self.max_gap, "gradient_norm": self.max_gradient_norm}
        for name, value in figures.items():
            if not math.isfinite(value):
                return "weights are not finite" if name == "weights" else f"{name} is {value}"
            if name in limits and abs(value) > limits[name]:
                return f"{name} is {value:.4g}, beyond {limits[name]:g}"
        if figures.get("tilt_spread", math.inf) <= _FLAT * figures.get("max_tilt", 0.0):
            return f"tilt is the same, {figures['max_tilt']:.3g} in size, for all data and samples"
        return None

    def advice(self, complaint: str) -> str:
        """Last words of a run that diverged for good."""
        return (
            f"training diverged {self.max_rollbacks + 1} times; last: {complaint}. "
            f"Try {_TRY.get(complaint.split()[0], _RUNAWAY)}"
        )
