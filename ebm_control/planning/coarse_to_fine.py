"""Plan over long time spans with coarse time gaps, then refine with finer ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.planning.plan import Plan, refined
from ebm_control.planning.planner import Planner


class CoarseToFine:
    """Routes from samplers alone: plans over decreasing time gaps, the chains of each initialising the next.

    With a wide gap a few time steps cover a long time span and many chains are cheap. Started from random curves, some
    of them go around the obstacles. The best ones, interpolated, initialise the sampler for the next finer energy. This
    is a `Guide` for `Guided` that needs no states of the data, unlike a `Roadmap`. It needs enough chains, spread
    widely enough, that one starts on the right side of every wall.

    Args:
        stages: `(gap, planner)` from coarse to fine, at least one. Every gap divides the previous one. `horizon * gap`,
            coordinates and goal are the same for all planners, and no planner has more chains than the previous one.
            Routes end at the goal if it is fixed (`fix_goal`).

    Raises:
        InputError: the stages do not fit each other, or a planner has no goal.

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
        """States of the best chain of the finest plan, followed by the goal unless the plan has it fixed.

        Args:
            start: `(N, obs_dim)`.
            goal: `(N, obs_dim)` complete states, of which plans use the coordinates in `goal_index`.
            generator: source of noise; None takes a seed from the system.
            refused: not used, because no line of sight is checked.

        Returns:
            `(N, R, obs_dim)`, beginning with the start; R is the finest horizon + 1, or + 2 with the goal appended.

        """
        require_shape("start", start, (None, self.layout.obs_dim))
        require_shape("goal", goal, tuple(start.shape))
        states = self.plan(start, goal[:, list(self.goal_index)], generator=generator).states
        arrives = self.stages[-1][1].fix_goal
        return states if arrives else torch.cat([states, goal[:, None].to(states)], dim=1)

    def plan(self, start: Tensor, goal: Tensor, *, generator: torch.Generator | None = None) -> Plan:
        """The finest plan from each start `(N, obs_dim)`; see `Planner.plan` for arguments and errors."""
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
