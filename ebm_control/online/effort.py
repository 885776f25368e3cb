"""More planning steps where the model had large errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ebm_control.checks import require
from ebm_control.planning import Guided, Planner
from ebm_control.planning.plan import AnyPlanner


def scale_steps(planner: AnyPlanner, effort: float) -> None:
    """Multiply a planner's number of sampler steps by `effort`, in place.

    Raises:
        InputError: it is neither a `Planner` nor a `Guided` planner.

    """
    inner = planner.planner if isinstance(planner, Guided) else planner
    kind = type(inner).__name__
    require(
        isinstance(inner, Planner), "plan", given=kind, expected="a Planner or Guided, for effort above 1"
    )
    assert isinstance(inner, Planner)
    for name in ("sampler", "first"):
        sampler: Any = getattr(inner, name)
        setattr(inner, name, replace(sampler, steps=round(effort * sampler.steps)))
