"""Coarse and fine together: a route says where to, a fine planner how."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.planning.plan import Plan
from ebm_control.planning.planner import Planner
from ebm_control.planning.roadmap import Guide, LineOfSight
from ebm_control.tensors import generator_on, outside_inference_mode

REMEMBERED = 16  # refused moves of an episode, the last ones


@dataclass(frozen=True)
class GuidedPlan(Plan):
    """A fine plan and the coarse route that it follows.

    Attributes:
        route: `(N, R, obs_dim)` states to pass, the last one the goal.
        passed: `(N,)` index of the point of the route that the plan heads for.
        refused: `(N, K, obs_dim)` where the world refused the last moves of the episode; NaN is none.

    """

    route: Tensor
    passed: Tensor
    refused: Tensor


class Guided:
    """A fine planner that heads for the farthest point of a coarse route that it sees.

    Plans are those of `planner` with that point for a goal. The route is kept from call to call (`warm`) and
    made anew where none of its points is in sight any more, or where the goal has moved.

    Learned edges are rounder than real ones, so a plan that cuts a corner which the world refuses would be made again
    and again. For the rest of the episode, lines and routes keep away from where a move was refused.

    Args:
        planner: fine, with a goal (a `GoalCost`, or a fixed goal).
        guide: makes routes: a `Roadmap`, or your own.
        sees: which straight lines are clear.
        reached: how near a point of the route has to be passed, in deviations of the displacement of `sees`, before the
            next one is headed for although that one is out of sight even from there (goals may lie close to a wall);
            others within a fifth of it.
        lookahead: near a refused move, farthest that plans head for along the line to that point, in the same unit.
            Where each coordinate has a speed limit of its own the quickest way is no straight line, but what was in
            sight is the line, and heading for a near point of it keeps to it (pure pursuit, Coulter 1992).

    """

    def __init__(
        self,
        planner: Planner,
        guide: Guide,
        sees: LineOfSight,
        reached: float = 1.0,
        lookahead: float = 2.0,
    ) -> None:
        require(len(planner.goal_index) > 0, "planner", given="no goal", expected="a planner with a goal")
        require(
            sees.layout.obs_dim == planner.layout.obs_dim,
            "sees",
            given=f"lines in {sees.layout.obs_dim} coordinates",
            expected=f"the planner's {planner.layout.obs_dim}",
        )
        require(reached > 0, "reached", given=reached, expected="a positive number")
        require(lookahead > 0, "lookahead", given=lookahead, expected="a positive number")
        self.planner, self.guide, self.sees = planner, guide, sees
        self.reached, self.lookahead = reached, lookahead
        self.layout, self.goal_index = planner.layout, planner.goal_index

    @outside_inference_mode
    @torch.no_grad()
    def plan(
        self,
        start: Tensor | ArrayLike,
        goal: Tensor | ArrayLike | None = None,
        *,
        warm: Plan | None = None,
        cold: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> GuidedPlan:
        """Plan from each start `(N, obs_dim)`; arguments and errors as in `Planner.plan`."""
        start = self.planner.checked_start(start)
        target = self._target(start, goal)
        generator = generator_on(start.device, generator)
        cold = torch.zeros(len(start), dtype=torch.bool) if cold is None else cold
        index = list(self.goal_index)
        if isinstance(warm, GuidedPlan):
            route, passed = warm.route, warm.passed
            require_shape("warm.route", route, (len(start), None, self.layout.obs_dim))
            refused, stopped = self._learned(start, warm, cold.to(start.device))
            ahead, unseen = self._ahead(start, route, passed, refused)
            ahead = torch.where(unseen, passed.to(ahead), ahead)
            lost = (unseen & ~self._nearing(start, warm)) | stopped
            lost |= cold.to(lost) | (route[:, -1, index] != target[:, index]).any(dim=1)
        else:
            route, ahead = target[:, None], torch.zeros(len(start), dtype=torch.long, device=start.device)
            refused = start.new_full((len(start), REMEMBERED, self.layout.obs_dim), torch.nan)
            lost = torch.ones(len(start), dtype=torch.bool, device=start.device)
        if bool(lost.any()):
            places = refused[lost]
            fresh = self.guide.routes(start[lost], target[lost], generator, places)
            first = torch.ones(len(fresh), dtype=torch.long, device=start.device)
            seen, unseen = self._ahead(start[lost], fresh, first, places)
            route = _replaced(route, lost, fresh)
            ahead = ahead.clone()
            ahead[lost] = torch.where(unseen, torch.ones_like(seen), seen).clamp_max(fresh.shape[1] - 1)
        heading = route.take_along_dim(ahead[:, None, None], 1)[:, 0]
        near = self.sees.length(start[:, None].expand_as(refused), refused) < self.lookahead
        share = (self.lookahead / self.sees.length(start, heading).clamp_min(1e-6)).clamp_max(1)
        share = torch.where(near.any(dim=1), share, 1.0)
        waypoint = start + self.layout.difference(heading, start) * share[:, None]
        plan = self.planner.plan(start, waypoint[:, index], warm=warm, cold=cold, generator=generator)
        return GuidedPlan(**vars(plan), route=route, passed=ahead, refused=refused)

    def _target(self, start: Tensor, goal: Tensor | ArrayLike | None) -> Tensor:
        """Whole goal states `(N, obs_dim)`: the start's coordinates wherever the goal names none."""
        require(goal is not None, "goal", given=None, expected=f"shape (N, {len(self.goal_index)})")
        assert goal is not None
        target = start.clone()
        target[:, list(self.goal_index)] = self.planner.checked_goal(start, goal)
        return target

    def _learned(self, start: Tensor, warm: GuidedPlan, cold: Tensor) -> tuple[Tensor, Tensor]:
        """Refused places after the last move, `(N, K, obs_dim)`, and whether it was one of them, `(N,)`."""
        here, expected = warm.states[:, 0], warm.states[:, 1]
        meant = self.sees.length(here, expected)
        stopped = (meant > 0.1) & (self.sees.length(here, start) < 0.2 * meant) & ~cold
        middle = here + self.layout.difference(expected, here) / 2
        longer = torch.cat([warm.refused[:, 1:], middle[:, None]], dim=1)
        refused = torch.where(stopped[:, None, None], longer, warm.refused)
        return torch.where(cold[:, None, None], torch.nan, refused), stopped

    def _ahead(self, start: Tensor, route: Tensor, passed: Tensor, refused: Tensor) -> tuple[Tensor, Tensor]:
        """Index `(N,)` of the farthest point in sight, not before `passed`, and where there is none."""
        count, rows = route.shape[:2]
        begin, places = (x.repeat_interleave(rows, dim=0) for x in (start, refused))
        seen = self.sees(begin, route.flatten(0, 1), places).unflatten(0, (count, rows))
        place = torch.arange(rows, device=start.device)
        passed = passed.to(start.device)[:, None]
        # A point that is reached gives way to the next one. One that is out of sight even from there (a goal close to a
        # wall) is headed for from some way off; otherwise a corner would be cut.
        rest = (passed + 1).clamp_max(rows - 1)
        corner, following = (route.take_along_dim(i[..., None], 1)[:, 0] for i in (passed, rest))
        hidden = ~self.sees(corner, following, refused)
        reached = self.reached * torch.where(hidden, 1.0, 0.2)
        near = self.sees.length(start, corner) < reached
        seen |= near[:, None] & (place == passed + 1)
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
