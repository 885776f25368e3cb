"""Plan far with coarse time gaps, then refine with fine ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ebm_control.checks import require
from ebm_control.planning.plan import Plan, refined
from ebm_control.planning.planner import Planner


class CoarseToFine:
    """Planners over falling time gaps: the chains of each, interpolated, start the next.

    Args:
        stages: `(gap, planner)` from coarse to fine; every gap divides the one before, and every planner has
            the horizon that follows: `horizon * gap` is the same for all.

    """

    def __init__(self, stages: Sequence[tuple[int, Planner]]) -> None:
        require(len(stages) > 0, "stages", given="none", expected="at least one (gap, planner)")
        span = stages[0][0] * stages[0][1].horizon
        for (coarse, _), (gap, planner) in pairwise(stages):
            require(
                coarse % gap == 0 and gap < coarse,
                "stages",
                given=f"gap {gap} after {coarse}",
                expected="gaps that divide the one before",
            )
            require(
                gap * planner.horizon == span,
                "stages",
                given=f"horizon {planner.horizon} at gap {gap}",
                expected=f"horizon {span // gap}, to span the same {span} steps",
            )
            require(
                planner.chains <= stages[0][1].chains,
                "stages",
                given=f"{planner.chains} chains at gap {gap}",
                expected=f"no more than the first stage's {stages[0][1].chains}",
            )
        self.stages = list(stages)

    def plan(
        self, start: Tensor, goal: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Plan:
        """Plan from each start `(N, obs_dim)`; arguments and errors as in `Planner.plan`."""
        gap, planner = self.stages[0]
        plan = planner.plan(start, goal, generator=generator)
        for finer, planner in self.stages[1:]:
            best = plan.energies.argsort(dim=1)[:, : planner.chains]
            chosen = plan.chains.take_along_dim(best[..., None, None], 1)
            fine = refined(chosen.flatten(0, 1), gap // finer, planner.layout)
            initial = fine.unflatten(0, (len(start), planner.chains))
            plan = planner.plan(start, goal, initial=initial, generator=generator)
            gap = finer
        return plan
