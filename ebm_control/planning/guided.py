"""Coarse and fine together: a route says where to, a fine planner how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import InputError, require, require_shape
from ebm_control.energies.layout import pick, require_index
from ebm_control.planning.plan import Plan
from ebm_control.planning.planner import Planner
from ebm_control.planning.roadmap import Guide, LineOfSight
from ebm_control.tensors import generator_on, outside_inference_mode

REMEMBERED = 16  # refused moves of an episode, the last ones
# Lengths are in stds of the displacement of the guide's energy, as those of `LineOfSight`.
_LEAST_MOVE = 0.1  # planned moves shorter than this are too short to say whether they were refused
_REFUSED_SHARE = 0.2  # a move that came less far than this share of the planned one was refused
_PROGRESS = 0.01  # least approach in a step that counts as one, above rounding and noise of the simulator
_TURN_SHARE = (
    0.2  # of `reached`: how near to a point the plan turns to a next one that is in sight from there
)


@dataclass(frozen=True)
class GuidedPlan(Plan):
    """A fine plan and the coarse route that it follows; `G` are the guide's coordinates.

    Attributes:
        route: `(N, R, G)` places to pass, the last one the goal.
        passed: `(N,)` index of the point of the route that the plan heads for.
        refused: `(N, K, G)` where the world refused the last moves of the episode; NaN is none.

    """

    route: Tensor
    passed: Tensor
    refused: Tensor


@dataclass(frozen=True)
class _Following:
    """Routes, the point headed for, refused places as in `GuidedPlan`, and `(N,)` where a new route is due."""

    route: Tensor
    heading: Tensor
    refused: Tensor
    lost: Tensor


class Guided:
    """A fine planner that heads for the farthest point of a coarse route that it sees.

    Plans are those of `planner` with that point for a goal. The route is kept from call to call (`warm`) and
    made anew where none of its points is in sight any more, or where the goal has moved.

    Learned edges are rounder than real ones, so a plan that cuts a corner which the world refuses would be made again
    and again. For the rest of the episode, lines and routes keep away from where a move was refused.

    Guide and lines may be over a part of the observation, positions without velocities say: an energy of fewer
    coordinates is learned from fewer data, and walls are a matter of positions alone. Way-points then name these
    coordinates only, and the planner is free to choose the others.

    Args:
        planner: fine, with a goal (a `GoalCost`, or a fixed goal).
        guide: makes routes: a `Roadmap`, or your own.
        sees: which straight lines are clear.
        reached: how near a point of the route has to be passed, in stds of the displacement of `sees`, before the
            next one is headed for although that one is out of sight even from there (goals may lie close to a wall);
            others within a fifth of it.
        lookahead: near a refused move, farthest that plans head for along the line to that point, in the same unit.
            Where each coordinate has a speed limit of its own the quickest way is no straight line, but what was in
            sight is the line, and heading for a near point of it keeps to it (pure pursuit, Coulter 1992).
        index: `G` observation coordinates of the planner that guide and lines are over, in their order and in the
            units of the trajectory, those of the goal among them; None for all.

    Raises:
        InputError: a planner without a goal, lines in another number of coordinates, a goal that names a coordinate
            that the guide does not have, or a length that is not positive.

    """

    def __init__(
        self,
        planner: Planner,
        guide: Guide,
        sees: LineOfSight,
        reached: float = 1.0,
        lookahead: float = 2.0,
        index: Sequence[int] | None = None,
    ) -> None:
        require(len(planner.goal_index) > 0, "planner", given="no goal", expected="a planner with a goal")
        self.index = tuple(range(planner.layout.obs_dim)) if index is None else tuple(index)
        require_index("index", self.index, planner.layout.obs_dim)
        source = "the planner's" if index is None else "those of the index,"
        require(
            sees.layout.obs_dim == len(self.index),
            "sees",
            given=f"lines in {sees.layout.obs_dim} coordinates",
            expected=f"{source} {len(self.index)}",
        )
        require(
            set(planner.goal_index) <= set(self.index),
            "index",
            given=self.index,
            expected=f"the coordinates of the planner's goal among them, {planner.goal_index}",
        )
        require(reached > 0, "reached", given=reached, expected="a positive number")
        require(lookahead > 0, "lookahead", given=lookahead, expected="a positive number")
        self.planner, self.guide, self.sees = planner, guide, sees
        self.reached, self.lookahead = reached, lookahead
        self.layout, self.goal_index = planner.layout, planner.goal_index
        self._goal_columns = [self.index.index(i) for i in planner.goal_index]  # of the guide's coordinates

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
        here = pick(start, self.index)
        target = self._target(start, goal)
        generator = generator_on(start.device, generator)
        cold = torch.zeros(len(start), dtype=torch.bool) if cold is None else cold
        if isinstance(warm, GuidedPlan):
            following = self._continued(here, target, warm, cold.to(start.device))
        else:
            following = self._unguided(target)
        if bool(following.lost.any()):
            following = self._rerouted(here, target, following, generator)
        waypoint = self._waypoint(here, following)[:, self._goal_columns]
        plan = self.planner.plan(start, waypoint, warm=warm, cold=cold, generator=generator)
        return GuidedPlan(
            **vars(plan), route=following.route, passed=following.heading, refused=following.refused
        )

    def _target(self, start: Tensor, goal: Tensor | ArrayLike | None) -> Tensor:
        """Goals `(N, G)` in all of the guide's coordinates: the start's wherever the goal names none."""
        if goal is None:
            raise InputError(f"goal: expected shape (N, {len(self.goal_index)}), got None")
        target = pick(start, self.index).clone()
        target[:, self._goal_columns] = self.planner.checked_goal(start, goal)
        return target

    def _unguided(self, target: Tensor) -> _Following:
        """No routes yet, and nothing refused: all are due."""
        count, device = len(target), target.device
        return _Following(
            route=target[:, None],
            heading=torch.zeros(count, dtype=torch.long, device=device),
            refused=target.new_full((count, REMEMBERED, target.shape[1]), torch.nan),
            lost=torch.ones(count, dtype=torch.bool, device=device),
        )

    def _continued(self, here: Tensor, target: Tensor, warm: GuidedPlan, cold: Tensor) -> _Following:
        """The routes of the call before, each with the point that is headed for now.

        A new route is due in a new episode, where the goal has moved, where the last move was refused, and where no
        point of the route is in sight and the last step led no nearer to the one that was headed for.
        """
        require_shape("warm.route", warm.route, (len(here), None, len(self.index)))
        refused, stopped = self._refusals(here, warm, cold)
        heading, unseen = self._farthest(here, warm.route, warm.passed, refused)
        moved = warm.route[:, -1, self._goal_columns] != target[:, self._goal_columns]
        lost = (unseen & ~self._nearing(here, warm)) | stopped | cold | moved.any(dim=1)
        return _Following(warm.route, torch.where(unseen, warm.passed.to(heading), heading), refused, lost)

    def _rerouted(
        self, here: Tensor, target: Tensor, following: _Following, generator: torch.Generator
    ) -> _Following:
        """New routes where they are due, the point headed for the farthest in sight, or the second without."""
        lost = following.lost
        refused = following.refused[lost]
        routes = self.guide.routes(here[lost], target[lost], generator, refused)
        second = torch.ones(len(routes), dtype=torch.long, device=here.device)
        farthest, unseen = self._farthest(here[lost], routes, second, refused)
        heading = following.heading.clone()
        heading[lost] = torch.where(unseen, second, farthest).clamp_max(routes.shape[1] - 1)
        return replace(following, route=_replaced(following.route, lost, routes), heading=heading)

    def _waypoint(self, here: Tensor, following: _Following) -> Tensor:
        """Places `(N, G)` to plan for: the point headed for, or one on the line to it near a refused move."""
        ahead = _at(following.route, following.heading)
        refused = following.refused
        near = self.sees.length(here[:, None].expand_as(refused), refused) < self.lookahead
        share = (self.lookahead / self.sees.length(here, ahead).clamp_min(1e-6)).clamp_max(1)
        share = torch.where(near.any(dim=1), share, 1.0)
        return here + self.sees.layout.difference(ahead, here) * share[:, None]

    def _refusals(self, here: Tensor, warm: GuidedPlan, cold: Tensor) -> tuple[Tensor, Tensor]:
        """Refused places after the last move, `(N, K, G)`, and whether that move was refused, `(N,)`."""
        before, expected = (pick(warm.states[:, t], self.index) for t in (0, 1))
        planned = self.sees.length(before, expected)
        stopped = self.sees.length(before, here) < _REFUSED_SHARE * planned
        stopped &= (planned > _LEAST_MOVE) & ~cold
        middle = before + self.sees.layout.difference(expected, before) / 2
        longer = torch.cat([warm.refused[:, 1:], middle[:, None]], dim=1)
        refused = torch.where(stopped[:, None, None], longer, warm.refused)
        return torch.where(cold[:, None, None], torch.nan, refused), stopped

    def _farthest(
        self, here: Tensor, route: Tensor, passed: Tensor, refused: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Index `(N,)` of the farthest point of a route that may be headed for, and `(N,)` where there is none.

        These are the points with a clear line to them, and the one after `passed` `(N,)` once that is reached, whether
        in sight or not; never one before `passed`.
        """
        count, rows = route.shape[:2]
        begin, places = (x.repeat_interleave(rows, dim=0) for x in (here, refused))
        allowed = self.sees(begin, route.flatten(0, 1), places).unflatten(0, (count, rows))
        place = torch.arange(rows, device=here.device)
        passed = passed.to(here.device)
        allowed |= self._reached(here, route, passed, refused)[:, None] & (place == passed[:, None] + 1)
        allowed &= place >= passed[:, None]
        return torch.where(allowed, place, 0).amax(dim=1), ~allowed.any(dim=1)

    def _reached(self, here: Tensor, route: Tensor, passed: Tensor, refused: Tensor) -> Tensor:
        """Boolean `(N,)`: whether point `passed` of each route is near enough to give way to the next one.

        A next one that is out of sight even from there (a goal close to a wall) is headed for from farther off;
        turning to others as early would cut the corner.
        """
        corner = _at(route, passed)
        following = _at(route, (passed + 1).clamp_max(route.shape[1] - 1))
        hidden = ~self.sees(corner, following, refused)
        return self.sees.length(here, corner) < self.reached * torch.where(hidden, 1.0, _TURN_SHARE)

    def _nearing(self, here: Tensor, warm: GuidedPlan) -> Tensor:
        """Whether the last step led nearer to the point headed for: then it need not be in sight."""
        ahead = _at(warm.route, warm.passed.to(here.device))
        before = self.sees.length(pick(warm.states[:, 0], self.index), ahead)
        return self.sees.length(here, ahead) < before - _PROGRESS


def _at(route: Tensor, place: Tensor) -> Tensor:
    """Point `place` `(N,)` of each route `(N, R, G)`: `(N, G)`."""
    return route.take_along_dim(place[:, None, None], 1)[:, 0]


def _replaced(routes: Tensor, which: Tensor, fresh: Tensor) -> Tensor:
    """`routes` `(N, R, D)` with rows `which` replaced by `fresh` `(n, R', D)`, last points repeated to one length."""
    longest = max(routes.shape[1], fresh.shape[1])

    def stretched(part: Tensor) -> Tensor:
        missing = longest - part.shape[1]
        return torch.cat([part, part[:, -1:].expand(-1, missing, -1)], dim=1)

    result = stretched(routes).clone()
    result[which] = stretched(fresh)
    return result
