"""Plan far with coarse time gaps, then refine with fine ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.planning.plan import Plan, refined
from ebm_control.planning.planner import Planner


class CoarseToFine:
    """Routes by samplers alone: plans over falling time gaps, the chains of each starting the next.

    A few rows of a wide gap reach far, and many chains of them are cheap: started from random curves, some find a
    way round. The best of them, interpolated, are the first guess under the next finer energy. A `Guide` for
    `Guided` that needs no states of the data, as a `Roadmap` does, but chains enough, spread widely enough,
    for one to start on the right side of every wall.

    Args:
        stages: `(gap, planner)` from coarse to fine, one suffices. Every gap divides the one before; every
            planner has the horizon that follows, `horizon * gap` being the same for all, the same coordinates and
            goal, and no more chains than the one before. Fixed goals (`fix_goal`) make routes that arrive.

    Raises:
        InputError: stages that do not fit each other, or a planner without a goal.

    """

    def __init__(self, stages: Sequence[tuple[int, Planner]]) -> None:
        require(len(stages) > 0, "stages", given="none", expected="at least one (gap, planner)")
        first = stages[0][1]
        require(len(first.goal_index) > 0, "stages", given="no goal", expected="planners with a goal")
        span = stages[0][0] * first.horizon
        for (coarse, before), (gap, planner) in pairwise(stages):
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
                planner.chains <= before.chains,
                "stages",
                given=f"{planner.chains} chains at gap {gap}",
                expected=f"no more than the {before.chains} at gap {coarse}",
            )
            require(
                (planner.layout, planner.goal_index) == (first.layout, first.goal_index),
                "stages",
                given=f"{planner.layout}, goal {planner.goal_index} at gap {gap}",
                expected=f"{first.layout}, goal {first.goal_index} as in the first",
            )
        self.stages = list(stages)
        self.layout, self.goal_index = first.layout, first.goal_index

    def routes(
        self,
        start: Tensor,
        goal: Tensor,
        generator: torch.Generator | None = None,
        refused: Tensor | None = None,
    ) -> Tensor:
        """States of the best chain of the finest plan; where it need not arrive (a goal cost), the goal besides.

        Args:
            start: `(N, obs_dim)`.
            goal: `(N, obs_dim)`, whole states, of which plans heed the coordinates that a goal names.
            generator: source of noise; None seeds from the system.
            refused: not used: no line of sight is asked for.

        Returns:
            `(N, R, obs_dim)`, the start first; R is the finest horizon + 1, or + 2 with the goal besides.

        """
        require_shape("start", start, (None, self.layout.obs_dim))
        require_shape("goal", goal, tuple(start.shape))
        states = self.plan(start, goal[:, list(self.goal_index)], generator=generator).states
        arrives = self.stages[-1][1].fix_goal
        return states if arrives else torch.cat([states, goal[:, None].to(states)], dim=1)

    def plan(self, start: Tensor, goal: Tensor, *, generator: torch.Generator | None = None) -> Plan:
        """The finest plan from each start `(N, obs_dim)`; arguments and errors as in `Planner.plan`."""
        gap, planner = self.stages[0]
        plan = planner.plan(start, goal, generator=generator)
        for finer, planner in self.stages[1:]:
            best = plan.energies.argsort(dim=1)[:, : planner.chains]
            chosen = plan.chains.take_along_dim(best[..., None, None], 1)
            fine = refined(chosen.flatten(0, 1), gap // finer, self.layout)
            initial = fine.unflatten(0, (len(start), planner.chains))
            plan = planner.plan(start, goal, initial=initial, generator=generator)
            gap = finer
        return plan
