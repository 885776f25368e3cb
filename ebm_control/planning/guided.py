"""Hierarchical planning: a fine planner follows the way-points of a coarse route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ebm_control.checks import InputError, require, require_number, require_shape
from ebm_control.energies.layout import pick, require_index
from ebm_control.planning.plan import Plan
from ebm_control.planning.planner import Planner
from ebm_control.planning.roadmap import Guide, LineOfSight
from ebm_control.tensors import generator_on, outside_inference_mode

REMEMBERED = 16  # number of refused moves that are stored per episode, the latest ones
# Lengths are in stds of the displacement of the guide's energy, as those of `LineOfSight`.
_LEAST_MOVE = 0.1  # shorter planned moves cannot show whether they were refused
_REFUSED_SHARE = 0.2  # a move that covers less than this fraction of the planned one counts as refused
_PROGRESS = 0.01  # smallest approach per step that counts as progress, above rounding and simulator noise
_AHEAD = 0.5  # distance from a state that is stuck to the place that counts as refused
_TURN_SHARE = 0.2  # fraction of `reached` within which the plan turns to a next point visible from there


@dataclass(frozen=True)
class GuidedPlan(Plan):
    """A fine plan and the coarse route that it follows; `G` is the number of the guide's coordinates.

    Attributes:
        route: `(N, R, G)` way-points, the last one the goal.
        passed: `(N,)` index of the way-point that the plan heads for.
        refused: `(N, K, G)` places of the episode's last refused moves; NaN marks an empty entry.
        nearest: `(N,)` least distance to that way-point so far, in stds of the guide's displacement.
        waited: `(N,)` plans since then.

    """

    route: Tensor
    passed: Tensor
    refused: Tensor
    nearest: Tensor
    waited: Tensor


@dataclass(frozen=True)
class _Following:
    """Routes, index of the point headed for, refused places (see `GuidedPlan`), and `(N,)` where a route is due."""

    route: Tensor
    heading: Tensor
    refused: Tensor
    lost: Tensor


class Guided:
    """A fine planner that heads for the farthest point of a coarse route to which the line of sight is clear.

    `planner` makes the plans, with that point as the goal. The route is reused from call to call (`warm`). It is
    replaced when the goal has moved, or when no point is in sight and the last step made no progress.

    Learned boundaries are rounder than real ones, so a plan that cuts a corner where the environment blocks the move
    would be repeated forever. For the rest of the episode, lines and routes keep away from refused moves.

    Guide and lines may cover a part of the observation, for example positions without velocities: an energy of fewer
    coordinates needs fewer data, and walls depend on positions only. Way-points then specify these coordinates only,
    and the planner chooses the others.

    Args:
        planner: fine planner with a goal (a `GoalCost`, or a fixed goal).
        guide: makes routes: a `Roadmap`, or your own.
        line_of_sight: decides which straight lines are clear.
        reached: distance to a point of the route, in stds of the displacement of `line_of_sight`. Below it the plan
            turns to the next point, although that is not visible from there (a goal close to a wall). If the next
            point is visible from there, a fifth of this distance is used.
        lookahead: largest distance to the way-point near a refused move, along the line to the point headed for, in
            the same unit. If each coordinate has its own speed limit the fastest path is not straight, but only the
            line was checked. A near way-point keeps the path on the line (pure pursuit, Coulter 1992).
        index: `G` observation coordinates of the planner that guide and lines cover, in their order and in the
            units of the trajectory, including those of the goal; None for all.
        patience: plans without approach to a way-point, unless it is the goal and reached, after which the way to it
            counts as refused; None for any number. A planner that knows that a move would be blocked plans none.

    Raises:
        InputError: the planner has no goal, the lines have another number of coordinates, the goal uses a coordinate
            that the guide does not have, or a length is not positive.

    """

    def __init__(
        self,
        planner: Planner,
        guide: Guide,
        line_of_sight: LineOfSight,
        reached: float = 1.0,
        lookahead: float = 2.0,
        index: Sequence[int] | None = None,
        patience: int | None = None,
    ) -> None:
        require(len(planner.goal_index) > 0, "planner", given="no goal", expected="a planner with a goal")
        self.index = tuple(range(planner.layout.obs_dim)) if index is None else tuple(index)
        require_index("index", self.index, planner.layout.obs_dim)
        source = "the planner's" if index is None else "those of the index,"
        require(
            line_of_sight.layout.obs_dim == len(self.index),
            "line_of_sight",
            given=f"lines in {line_of_sight.layout.obs_dim} coordinates",
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
        self.planner, self.guide, self.line_of_sight = planner, guide, line_of_sight
        if patience is not None:
            require_number("patience", patience, 1, whole=True)
        self.reached, self.lookahead, self.patience = reached, lookahead, patience
        self.layout, self.goal_index = planner.layout, planner.goal_index
        self._goal_columns = [
            self.index.index(i) for i in planner.goal_index
        ]  # indices into the guide's coordinates

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
        """Plan from each start `(N, obs_dim)`; see `Planner.plan` for arguments and errors."""
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
        nearest, waited = self._waiting(here, following, warm)
        return GuidedPlan(
            **vars(plan),
            route=following.route,
            passed=following.heading,
            refused=following.refused,
            nearest=nearest,
            waited=waited,
        )

    def _waiting(self, here: Tensor, following: _Following, warm: Plan | None) -> tuple[Tensor, Tensor]:
        """Least distance `(N,)` to the point headed for, and plans `(N,)` since then; anew for another point."""
        away = self.line_of_sight.length(here, _at(following.route, following.heading))
        if not isinstance(warm, GuidedPlan):
            return away, torch.zeros_like(following.heading)
        same = ~following.lost & (following.heading == warm.passed.to(following.heading))
        nearer = ~same | (away < warm.nearest - _PROGRESS)
        return torch.where(nearer, away, warm.nearest), torch.where(nearer, 0, warm.waited + 1)

    def _target(self, start: Tensor, goal: Tensor | ArrayLike | None) -> Tensor:
        """Goals `(N, G)` in all of the guide's coordinates; those that the goal does not specify are the start's."""
        if goal is None:
            raise InputError(f"goal: expected shape (N, {len(self.goal_index)}), got None")
        target = pick(start, self.index).clone()
        target[:, self._goal_columns] = self.planner.checked_goal(start, goal)
        return target

    def _unguided(self, target: Tensor) -> _Following:
        """State before the first route: nothing is refused, and every problem needs a route."""
        count, device = len(target), target.device
        return _Following(
            route=target[:, None],
            heading=torch.zeros(count, dtype=torch.long, device=device),
            refused=target.new_full((count, REMEMBERED, target.shape[1]), torch.nan),
            lost=torch.ones(count, dtype=torch.bool, device=device),
        )

    def _continued(self, here: Tensor, target: Tensor, warm: GuidedPlan, cold: Tensor) -> _Following:
        """The routes of the previous call, each with the point that is headed for now.

        A new route is due in a new episode, after the goal has moved, after a refused move, and if no point of the
        route is in sight and the last step did not approach the point headed for.
        """
        require_shape("warm.route", warm.route, (len(here), None, len(self.index)))
        refused, stopped = self._refusals(here, warm, cold)
        if self.patience is not None:
            final = (_at(warm.route, warm.passed.to(here.device)) == warm.route[:, -1]).all(dim=1)
            arrived = final & (warm.nearest <= self.reached)
            stuck = (warm.waited >= self.patience) & ~arrived & ~cold
            refused, stopped = self._blocked(here, warm, refused, stuck & ~stopped), stopped | stuck
        heading, unseen = self._farthest(here, warm.route, warm.passed, refused)
        moved = warm.route[:, -1, self._goal_columns] != target[:, self._goal_columns]
        lost = (unseen & ~self._nearing(here, warm)) | stopped | cold | moved.any(dim=1)
        return _Following(warm.route, torch.where(unseen, warm.passed.to(heading), heading), refused, lost)

    def _rerouted(
        self, here: Tensor, target: Tensor, following: _Following, generator: torch.Generator
    ) -> _Following:
        """New routes where they are due, heading for the farthest visible point, or the second if none is visible."""
        lost = following.lost
        refused = following.refused[lost]
        routes = self.guide.routes(here[lost], target[lost], generator, refused)
        second = torch.ones(len(routes), dtype=torch.long, device=here.device)
        farthest, unseen = self._farthest(here[lost], routes, second, refused)
        heading = following.heading.clone()
        heading[lost] = torch.where(unseen, second, farthest).clamp_max(routes.shape[1] - 1)
        return replace(following, route=_replaced(following.route, lost, routes), heading=heading)

    def _waypoint(self, here: Tensor, following: _Following) -> Tensor:
        """Goals `(N, G)` of the next plan: the point headed for, or a nearer one on the line near a refused move."""
        ahead = _at(following.route, following.heading)
        refused = following.refused
        near = self.line_of_sight.length(here[:, None].expand_as(refused), refused) < self.lookahead
        share = (self.lookahead / self.line_of_sight.length(here, ahead).clamp_min(1e-6)).clamp_max(1)
        share = torch.where(near.any(dim=1), share, 1.0)
        return here + self.line_of_sight.layout.difference(ahead, here) * share[:, None]

    def _refusals(self, here: Tensor, warm: GuidedPlan, cold: Tensor) -> tuple[Tensor, Tensor]:
        """Refused places `(N, K, G)` after the last move, and whether that move was refused, `(N,)`."""
        before, expected = (pick(warm.states[:, t], self.index) for t in (0, 1))
        planned = self.line_of_sight.length(before, expected)
        stopped = self.line_of_sight.length(before, here) < _REFUSED_SHARE * planned
        stopped &= (planned > _LEAST_MOVE) & ~cold
        middle = before + self.line_of_sight.layout.difference(expected, before) / 2
        longer = torch.cat([warm.refused[:, 1:], middle[:, None]], dim=1)
        refused = torch.where(stopped[:, None, None], longer, warm.refused)
        return torch.where(cold[:, None, None], torch.nan, refused), stopped

    def _blocked(self, here: Tensor, warm: GuidedPlan, refused: Tensor, stuck: Tensor) -> Tensor:
        """Refused places `(N, K, G)` with one more, a little ahead of `here`, where a plan is `stuck` `(N,)`."""
        ahead = self.line_of_sight.layout.difference(_at(warm.route, warm.passed.to(here.device)), here)
        share = (_AHEAD / warm.nearest.clamp_min(_AHEAD))[:, None]
        longer = torch.cat([refused[:, 1:], (here + share * ahead)[:, None]], dim=1)
        return torch.where(stuck[:, None, None], longer, refused)

    def _farthest(
        self, here: Tensor, route: Tensor, passed: Tensor, refused: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Index `(N,)` of the farthest point of a route that may be headed for, and `(N,)` True if there is none.

        Candidates are the points with a clear line to them, and the one after `passed` `(N,)` once that is reached,
        visible or not. Points before `passed` are never candidates.
        """
        count, rows = route.shape[:2]
        begin, places = (x.repeat_interleave(rows, dim=0) for x in (here, refused))
        allowed = self.line_of_sight(begin, route.flatten(0, 1), places).unflatten(0, (count, rows))
        place = torch.arange(rows, device=here.device)
        passed = passed.to(here.device)
        allowed |= self._reached(here, route, passed, refused)[:, None] & (place == passed[:, None] + 1)
        allowed &= place >= passed[:, None]
        return torch.where(allowed, place, 0).amax(dim=1), ~allowed.any(dim=1)

    def _reached(self, here: Tensor, route: Tensor, passed: Tensor, refused: Tensor) -> Tensor:
        """Boolean `(N,)`: whether point `passed` of each route is close enough to turn to the next one.

        If the next point is not visible even from there (a goal close to a wall), the turn begins farther away.
        For other points an early turn would cut the corner.
        """
        corner = _at(route, passed)
        following = _at(route, (passed + 1).clamp_max(route.shape[1] - 1))
        hidden = ~self.line_of_sight(corner, following, refused)
        return self.line_of_sight.length(here, corner) < self.reached * torch.where(hidden, 1.0, _TURN_SHARE)

    def _nearing(self, here: Tensor, warm: GuidedPlan) -> Tensor:
        """Whether the last step approached the point headed for; it then need not be visible."""
        ahead = _at(warm.route, warm.passed.to(here.device))
        before = self.line_of_sight.length(pick(warm.states[:, 0], self.index), ahead)
        return self.line_of_sight.length(here, ahead) < before - _PROGRESS


def _at(route: Tensor, place: Tensor) -> Tensor:
    """Point `place` `(N,)` of each route `(N, R, G)`: `(N, G)`."""
    return route.take_along_dim(place[:, None, None], 1)[:, 0]


def _replaced(routes: Tensor, which: Tensor, fresh: Tensor) -> Tensor:
    """`routes` `(N, R, D)` with entries `which` replaced by `fresh` `(n, R', D)`, padded with their last points."""
    longest = max(routes.shape[1], fresh.shape[1])

    def stretched(part: Tensor) -> Tensor:
        missing = longest - part.shape[1]
        return torch.cat([part, part[:, -1:].expand(-1, missing, -1)], dim=1)

    result = stretched(routes).clone()
    result[which] = stretched(fresh)
    return result
