"""Coarse and fine together: a route says where to, a fine planner how."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require, require_finite, require_shape
from ebm_control.planning.plan import Plan
from ebm_control.planning.planner import Planner
from ebm_control.planning.roadmap import Guide, LineOfSight


@dataclass(frozen=True)
class GuidedPlan(Plan):
    """A fine plan and the coarse route that it follows.

    Attributes:
        route: `(N, R, obs_dim)` states to pass, the last one the goal.
        passed: `(N,)` index of the point of the route that the plan heads for.

    """

    route: Tensor
    passed: Tensor


class Guided:
    """A fine planner that heads for the farthest point of a coarse route that it sees.

    Plans are those of `planner` with that point for a goal. The route is kept from call to call (`warm`) and
    made anew where none of its points is in sight any more, or where the goal has moved.

    Args:
        planner: fine, with a goal (a `GoalCost`, or a fixed goal).
        guide: makes routes: a `Roadmap`, or your own.
        sees: which straight lines are clear.
        reached: how near a point of the route has to be passed, in deviations of the displacement of `sees`.

    """

    def __init__(self, planner: Planner, guide: Guide, sees: LineOfSight, reached: float = 1.0) -> None:
        require(len(planner.goal_index) > 0, "planner", given="no goal", expected="a planner with a goal")
        require(
            sees.layout.obs_dim == planner.layout.obs_dim,
            "sees",
            given=f"lines in {sees.layout.obs_dim} coordinates",
            expected=f"the planner's {planner.layout.obs_dim}",
        )
        require(reached > 0, "reached", given=reached, expected="a positive number")
        self.planner, self.guide, self.sees, self.reached = planner, guide, sees, reached
        self.layout, self.goal_index = planner.layout, planner.goal_index

    @torch.no_grad()
    def plan(
        self,
        start: Tensor,
        goal: Tensor | None = None,
        *,
        warm: Plan | None = None,
        cold: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> GuidedPlan:
        """Plan from each start `(N, obs_dim)`; arguments and errors as in `Planner.plan`."""
        target = self._target(start, goal)
        if generator is None:
            generator = torch.Generator(start.device)
            generator.seed()
        cold = torch.zeros(len(start), dtype=torch.bool) if cold is None else cold
        index = list(self.goal_index)
        if isinstance(warm, GuidedPlan):
            route, passed = warm.route, warm.passed
            require_shape("warm.route", route, (len(start), None, self.layout.obs_dim))
            ahead, unseen = self._ahead(start, route, passed)
            lost = unseen & ~self._nearing(start, warm)
            ahead = torch.where(unseen, passed.to(ahead), ahead)
            lost |= cold.to(lost) | (route[:, -1, index] != target[:, index]).any(dim=1)
        else:
            route = target[:, None]
            ahead, lost = self._ahead(start, route, torch.zeros(len(start), dtype=torch.long))
            lost = torch.ones_like(lost)
        if bool(lost.any()):
            fresh = self._routes(start, target, lost, warm, cold, generator)
            seen, unseen = self._ahead(start[lost], fresh, torch.ones(len(fresh), dtype=torch.long))
            route = _replaced(route, lost, fresh)
            ahead = ahead.clone()
            ahead[lost] = torch.where(unseen, torch.ones_like(seen), seen).clamp_max(fresh.shape[1] - 1)
        waypoint = route.take_along_dim(ahead[:, None, None], 1)[:, 0, index]
        plan = self.planner.plan(start, waypoint, warm=warm, cold=cold, generator=generator)
        return GuidedPlan(**vars(plan), route=route, passed=ahead)

    def _target(self, start: Tensor, goal: Tensor | None) -> Tensor:
        """Whole goal states `(N, obs_dim)`: the start's coordinates wherever the goal names none."""
        width = len(self.goal_index)
        require_shape("start", start, (None, self.layout.obs_dim))
        require_finite("start", start)
        require(goal is not None, "goal", given=None, expected=f"shape (N, {width})")
        assert goal is not None
        goal = goal.to(start).expand(len(start), -1) if goal.ndim == 1 else goal.to(start)
        require_shape("goal", goal, (len(start), width))
        require_finite("goal", goal)
        target = start.clone()
        target[:, list(self.goal_index)] = goal
        return target

    def _routes(
        self,
        start: Tensor,
        target: Tensor,
        lost: Tensor,
        warm: Plan | None,
        cold: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Routes of those that are `lost`, `(n, R, obs_dim)`; those that the last step did not move first step back.

        Learned edges are rounder than real ones: a plan that the world refuses would be made again and again.
        """
        if not isinstance(warm, GuidedPlan):
            return self.guide.routes(start[lost], target[lost], generator)
        here, expected = warm.states[:, 0], warm.states[:, 1]
        unmoved = self.sees.length(here, start) < 0.2 * self.sees.length(here, expected)
        stuck = (unmoved & ~cold.to(unmoved))[lost]
        base = start[lost]
        tries = 2 * torch.randn(16, *base.shape, generator=generator, device=base.device, dtype=base.dtype)
        away = base + tries * self.sees.energy.displacement_scale.to(base)
        worst = self.sees.worst(base.expand_as(away).flatten(0, 1), away.flatten(0, 1)).unflatten(0, (16, -1))
        back = away.gather(0, worst.argmin(dim=0)[None, :, None].expand(1, -1, base.shape[1]))[0]
        first = torch.where(stuck[:, None], back, base)
        return torch.cat([base[:, None], self.guide.routes(first, target[lost], generator)], dim=1)

    def _ahead(self, start: Tensor, route: Tensor, passed: Tensor) -> tuple[Tensor, Tensor]:
        """Index `(N,)` of the farthest point in sight, not before `passed`, and where there is none."""
        count, rows = route.shape[:2]
        seen = self.sees(start.repeat_interleave(rows, dim=0), route.flatten(0, 1)).unflatten(
            0, (count, rows)
        )
        place = torch.arange(rows, device=start.device)
        passed = passed.to(start.device)[:, None]
        # A point that is reached gives way to the next one, in sight or not: goals may lie close to a wall.
        here = self.sees.length(start[:, None], route) < self.reached
        seen |= here.gather(1, passed) & (place == passed + 1)
        seen &= place >= passed
        return torch.where(seen, place, 0).amax(dim=1), ~seen.any(dim=1)

    def _nearing(self, start: Tensor, warm: GuidedPlan) -> Tensor:
        """Whether the last step led nearer to the point headed for: then it need not be in sight."""
        heading = warm.route.take_along_dim(warm.passed.to(start.device)[:, None, None], 1)[:, 0]
        before, now = self.sees.length(warm.states[:, 0], heading), self.sees.length(start, heading)
        return now < before - 0.01


def _replaced(routes: Tensor, which: Tensor, fresh: Tensor) -> Tensor:
    """`routes` `(N, R, D)` with rows `which` replaced by `fresh` `(n, R', D)`, last points repeated to one length."""
    longest = max(routes.shape[1], fresh.shape[1])

    def stretched(part: Tensor) -> Tensor:
        missing = longest - part.shape[1]
        return torch.cat([part, part[:, -1:].expand(-1, missing, -1)], dim=1)

    result = stretched(routes).clone()
    result[which] = stretched(fresh)
    return result
