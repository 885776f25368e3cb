"""The guard watches a training run, detects divergence and names its cause."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ebm_control.checks import require, require_number

_RUNAWAY = (
    "a lower learning rate, a larger energy_l2, a smaller gradient_clip of the optimiser, more sampler steps or a "
    "smaller sampler step_size"
)
# Relative spread of a constant tilt; in healthy runs the spread was 0.07 to 2.
_FLAT = 1e-3
# Advice by the first word of a complaint.
_TRY = {
    "batch": "data without NaN and infinite values: look for them in what makes the batches",
    "tilt": "a lower learning rate (its units have died: they give 0 whatever they are shown), or wider layers",
}


class DivergenceError(RuntimeError):
    """Training diverged more often than `max_rollbacks`; the message names the metric and what to try."""


@dataclass(frozen=True)
class Guard:
    """Limits for a healthy run.

    Besides these limits a run counts as diverged if a metric, a batch, a weight or an averaged weight is not finite, or
    if the tilt is the same for all data and samples: after too large a step all units of a network can be 0 for any
    input, and then have no gradient.

    Args:
        every: updates between checks (each check reads values back from the device).
        max_energy: largest |tilt| of data or samples; infinite for no limit, here and below.
        max_gap: largest difference between the mean tilts of data and samples.
        max_gradient_norm: largest gradient norm before clipping.
        snapshot_every: updates between the in-memory copies for rolling back.
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

    def complaint(self, metrics: Mapping[str, float]) -> str | None:
        """Description of what is wrong with a run, or None.

        Args:
            metrics: metrics by name: max_tilt, gap, gradient_norm, loss and all others that are logged. There may also
                be bad_batch, the first update whose batch was not finite, or 0; weights, a number that is finite if all
                weights are; and tilt_spread, the spread of the tilt over data and samples.

        """
        if metrics.get("bad_batch", 0):
            return f"batch of update {metrics['bad_batch']:.0f} is not finite"
        limits = {"max_tilt": self.max_energy, "gap": self.max_gap, "gradient_norm": self.max_gradient_norm}
        for name, value in metrics.items():
            if not math.isfinite(value):
                return "weights are not finite" if name == "weights" else f"{name} is {value}"
            if name in limits and abs(value) > limits[name]:
                return f"{name} is {value:.4g}, beyond {limits[name]:g}"
        if metrics.get("tilt_spread", math.inf) <= _FLAT * metrics.get("max_tilt", 0.0):
            return f"tilt is the same, {metrics['max_tilt']:.3g} in size, for all data and samples"
        return None

    def advice(self, complaint: str) -> str:
        """Error message for a run that diverged for good."""
        return (
            f"training diverged {self.max_rollbacks + 1} times; last: {complaint}. "
            f"Try {_TRY.get(complaint.split()[0], _RUNAWAY)}"
        )
