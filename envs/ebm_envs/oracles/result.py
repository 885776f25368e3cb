"""Result of an oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class OracleResult:
    """A best plan; replaying `actions` in the environment from `states[0]` gives `return_`.

    Attributes:
        return_: sum of rewards.
        actions: (steps, act_dim), float64. Cast to float32, as in action spaces, their return differs by about 1e-5.
        states: (steps + 1, obs_dim) observations, the start first.
        seconds: wall-clock time of the search.
        method: method of the best plan.
        returns: the best return of each method.

    """

    return_: float
    actions: NDArray[np.float64]
    states: NDArray[np.float64]
    seconds: float
    method: str
    returns: Mapping[str, float] = field(default_factory=dict)


def require_steps(steps: int) -> None:
    """Raise ValueError unless `steps` is at least 1."""
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
