"""The target of a kernel for samples in NumPy arrays: second-order steps of few chains on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np
from torch import Tensor

from ebm_control.energies.arrays import Array, ArrayEnergy, ArrayQuadratic
from ebm_control.energies.banded import ArraySolver
from ebm_control.samplers.kernel import Target

# Unknowns of all chains up to which arrays are faster: torch makes up for its slower start with vector instructions.
_FEW = 2**16


@dataclass(frozen=True)
class ArrayTarget:
    """What a kernel with `arrays = True` uses of a `Target`, under the same names."""

    energy: ArrayEnergy
    movable: Array | None
    low: Array | None
    high: Array | None
    backend: ClassVar[ModuleType] = np

    @classmethod
    def of(cls, target: Target, x: Tensor) -> ArrayTarget | None:
        """The target of samples like `x`; None if they are many, or the energy has no form in arrays."""
        few = x.is_cpu and 0 < x.numel() <= _FEW
        energy = target.energy.on_arrays(x, target.context) if few else None
        if energy is None:
            return None
        parts = (None if t is None else t.numpy() for t in (target.movable, target.low, target.high))
        return cls(energy, *parts)

    def value(self, x: Array) -> Array:
        """See `Target.value`."""
        return self.energy.value(x)

    def quadratic(self, x: Array) -> ArrayQuadratic:
        """See `Target.quadratic`; gradients are 0 at fixed coordinates."""
        model = self.energy.quadratic(x)
        if self.movable is None:
            return model
        gradient = np.where(self.movable, model.gradient, 0.0)
        return ArrayQuadratic(model.energy, gradient, model.bands, model.diagonal)

    def solver(self, model: ArrayQuadratic) -> ArraySolver:
        """See `Target.solver`."""
        bands = model.bands or (
            np.zeros((*model.gradient.shape, model.gradient.shape[-1]), model.gradient.dtype),
        )
        return ArraySolver(bands, model.diagonal)

    def unblocked(self, x: Array, gradient: Array) -> Array | None:
        """See `Target.unblocked`."""
        if self.low is None or self.high is None:
            return self.movable
        inside = ~(((x <= self.low) & (gradient > 0)) | ((x >= self.high) & (gradient < 0)))
        return inside if self.movable is None else inside & self.movable

    def hold(self, proposal: Array, x: Array) -> Array:
        """See `Target.hold`."""
        if self.low is not None and self.high is not None:
            proposal = np.minimum(np.maximum(proposal, self.low), self.high)
        return proposal if self.movable is None else np.where(self.movable, proposal, x)
