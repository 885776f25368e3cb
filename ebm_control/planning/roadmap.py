"""Routes over states that an energy finds likely: where to go, before how."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.trajectory import TransitionEnergy

_LEAST_LENGTH = 1e-6  # of an edge: 0 would mean none


class Guide(Protocol):
    """Anything that says which states to pass on the way to a goal."""

    def routes(
        self, start: Tensor, goal: Tensor, generator: torch.Generator, refused: Tensor | None = None
    ) -> Tensor:
        """States `(N, R, obs_dim)` from each start `(N, obs_dim)` to each goal state `(N, obs_dim)`.

        `refused` `(N, K, obs_dim)` are places where the world refused a move, to be given a wider berth; NaN is none.
        """
        ...


class LineOfSight:
    """Whether a straight line between states runs where data were.

    The line is cut into short equal pieces, each a transition that the energy rates.

    Args:
        energy: joint, over pairs of states alone (see `ModelSettings.joint`).
        threshold: highest energy of a piece; `of_data` takes a quantile.
        piece: longest piece, in deviations of the energy's displacement.
        cost: added to the energy of a piece: an obstacle that no data knew of, say.
        berth: distance that lines keep from refused moves (see `Guided`), in deviations of the displacement.
        slack: what the threshold may be raised by, twice, where there is no route otherwise (see `Roadmap`).

    """

    def __init__(
        self,
        energy: TransitionEnergy,
        threshold: float,
        piece: float = 0.5,
        cost: Energy | None = None,
        berth: float = 0.6,
        slack: float = 0.0,
    ) -> None:
        require(
            energy.window == 2 and energy.layout.act_dim == 0,
            "energy",
            given=f"window {energy.window}, {energy.layout.act_dim} actions",
            expected="window 2, over states alone",
        )
        require(piece > 0, "piece", given=piece, expected="a positive number")
        require(berth >= 0, "berth", given=berth, expected="at least 0")
        require(slack >= 0, "slack", given=slack, expected="at least 0")
        self.energy, self.threshold, self.piece, self.cost = energy, threshold, piece, cost
        self.berth, self.slack = berth, slack
        self.layout = energy.layout

    @classmethod
    def of_data(
        cls,
        energy: TransitionEnergy,
        states: Tensor,
        quantile: float = 0.9,
        piece: float = 0.5,
        cost: Energy | None = None,
    ) -> LineOfSight:
        """Lines no piece of which is less likely than `quantile` of the data's `states` `(M, obs_dim)` at rest.

        A learned edge is soft: the share left out is the data's outermost rim, where walls begin. The slack is
        what lies between it and half the quantile.
        """
        require(0 < quantile <= 1, "quantile", given=quantile, expected="in (0, 1]")
        with torch.no_grad():
            rest = energy(torch.stack([states, states], dim=1))
        levels = torch.quantile(rest, rest.new_tensor([quantile, quantile / 2])).tolist()
        return cls(energy, levels[0], piece, cost, slack=levels[0] - levels[1])

    def length(self, start: Tensor, end: Tensor) -> Tensor:
        """Distance `(...)` of states `(..., obs_dim)` in deviations of the energy's displacement."""
        return (self.layout.difference(end, start) / self.energy.displacement_scale).norm(dim=-1)

    def __call__(self, start: Tensor, end: Tensor, refused: Tensor | None = None) -> Tensor:
        """Boolean `(B,)` for lines from `start` to `end`, both `(B, obs_dim)`.

        `refused` `(B, K, obs_dim)` are places that each line has to keep away from; NaN is none.
        """
        clear = self.worst(start, end) <= self.threshold
        return clear if refused is None else clear & ~self.nears(start, end, refused)

    def nears(self, start: Tensor, end: Tensor, refused: Tensor) -> Tensor:
        """Boolean `(B,)`: whether lines come nearer than `berth` to a place `(B, K, obs_dim)`, and than their ends are.

        Ends may be near: a way that leads out of there has to begin somewhere.
        """
        scale = self.energy.displacement_scale
        line = (self.layout.difference(end, start) / scale)[:, None]
        place = self.layout.difference(refused, start[:, None].expand_as(refused)) / scale
        share = (place * line).sum(-1) / line.square().sum(-1).clamp_min(1e-12)
        gap = (place - share.clamp(0, 1)[..., None] * line).norm(dim=-1)
        ends = torch.minimum(place.norm(dim=-1), (place - line).norm(dim=-1))
        return (gap < (0.9 * ends).clamp_max(self.berth)).any(dim=-1)

    @torch.no_grad()
    def worst(self, start: Tensor, end: Tensor) -> Tensor:
        """Energy `(B,)` of the least likely piece of each line from `start` to `end`, both `(B, obs_dim)`."""
        if len(start) == 0:
            return start.new_zeros(0)
        pieces = max(1, int(np.ceil(float(self.length(start, end).max()) / self.piece)))
        step = self.layout.difference(end, start) / pieces
        points = start[:, None] + step[:, None] * torch.arange(pieces + 1, device=start.device)[:, None]
        pairs = points.unfold(1, 2, 1).transpose(-1, -2).flatten(0, 1)
        rated = self.energy(pairs) if self.cost is None else self.energy(pairs) + self.cost(pairs)
        return rated.unflatten(0, (-1, pieces)).amax(dim=1)


class Roadmap:
    """Shortest paths over states of the data, along lines that a coarse energy finds likely.

    A probabilistic roadmap (Kavraki et al. 1996) whose collision check is the energy. Planning by descent alone
    does not find its way round several corners from a straight first guess; this does, and needs no gradient.

    Args:
        clear: which lines are free, and what a distance is.
        nodes: `(M, obs_dim)` states of the data, in the units of the trajectory; those that are not clear are left out.
        neighbours: nearest nodes that each node may be joined to.

    """

    def __init__(self, clear: LineOfSight, nodes: Tensor, neighbours: int = 24) -> None:
        require_shape("nodes", nodes, (None, clear.layout.obs_dim))
        nodes = nodes[clear(nodes, nodes)]
        require(
            len(nodes) > neighbours,
            "nodes",
            given=f"{len(nodes)} clear ones",
            expected=f"more than {neighbours}",
        )
        self.clear, self.nodes, self.neighbours = clear, nodes, neighbours
        near, length = self._nearest(nodes, neighbours + 1)
        self._edges = self._rated(nodes, near[:, 1:], length[:, 1:])

    def routes(
        self,
        start: Tensor,
        goal: Tensor,
        generator: torch.Generator | None = None,
        refused: Tensor | None = None,
    ) -> Tensor:
        """Corners of the shortest clear route, the goal repeated at its end; straight there where none is found.

        Args:
            start: `(N, obs_dim)`.
            goal: `(N, obs_dim)`, whole states.
            generator: not used: there is no noise here.
            refused: `(N, K, obs_dim)` places to keep away from, as in `LineOfSight`; None is none at all.

        Returns:
            `(N, R, obs_dim)`, the start first.

        """
        width = self.clear.layout.obs_dim
        require_shape("start", start, (None, width))
        require_shape("goal", goal, tuple(start.shape))
        if refused is not None:
            require_shape("refused", refused, (len(start), None, width))
        paths: list[Tensor | None] = [None] * len(start)
        # Rather a route over states a little less likely, or near a refused move, than none.
        avoiding = [refused, None] if refused is not None else [None]
        for avoid, rise in product(avoiding, (0, 1, 2)):
            for group in self._groups(paths, avoid):
                away = None if avoid is None or torch.isnan(avoid[group]).all() else avoid[group[0]]
                level = self.clear.threshold + rise * self.clear.slack
                for i, path in zip(group, self._paths(start[group], goal[group], level, away), strict=True):
                    paths[i] = path
        if not paths:
            return torch.stack([start, goal], dim=1)
        points = [torch.stack([start[i], goal[i]]) if p is None else p for i, p in enumerate(paths)]
        longest = max(len(path) for path in points)
        routes = torch.stack([torch.cat([p, p[-1:].expand(longest - len(p), -1)]) for p in points])
        return straightened(self.clear, routes, refused)

    @staticmethod
    def _groups(paths: list[Tensor | None], refused: Tensor | None) -> list[list[int]]:
        """Problems without a path yet: those that nothing was refused together, the others one by one."""
        missing = [i for i, path in enumerate(paths) if path is None]
        free = [i for i in missing if refused is None or bool(torch.isnan(refused[i]).all())]
        return [group for group in (free, *([i] for i in missing if i not in free)) if group]

    def _paths(
        self, start: Tensor, goal: Tensor, level: float, refused: Tensor | None
    ) -> list[Tensor | None]:
        """Points of the shortest path of each problem over edges no worse than `level`; None where there is none.

        `refused` `(K, obs_dim)` are places that no edge may come near.
        """
        count, size = len(start), len(self.nodes)
        ends = torch.cat([start, goal])
        points = torch.cat([self.nodes.to(ends), ends])  # nodes, then starts, then goals
        among = self._edges.of(self._edges.worst <= level)
        joining = self._joining(ends, level)
        direct = self._direct(start, goal, level)
        edges = [edges.of(~self._nears(points, edges, refused)) for edges in (among, joining, direct)]
        graph = _graph(edges, len(points))
        goals = size + count + np.arange(count)
        _, before = dijkstra(graph, directed=False, indices=goals, return_predecessors=True)
        traces = [_traced(before[i], size + i, goals[i]) for i in range(count)]
        return [None if trace is None else points[trace] for trace in traces]

    def _joining(self, ends: Tensor, level: float) -> _Edges:
        """Edges from starts and goals `(2N, obs_dim)` to nodes, numbered from the nodes on, no worse than `level`.

        A state that no such line leads from (close to a wall, say) is joined by the likeliest.
        """
        edges = self._rated(ends, *self._nearest(ends, self.neighbours))
        least = np.full(len(ends), np.inf)
        np.minimum.at(least, edges.start, edges.worst)
        edges = edges.of(edges.worst <= np.maximum(level, least)[edges.start])
        return edges._replace(start=edges.start + len(self.nodes))

    def _direct(self, start: Tensor, goal: Tensor, level: float) -> _Edges:
        """Edges from each start straight to its goal, no worse than `level`."""
        count = len(start)
        here = len(self.nodes) + np.arange(count)
        length = self.clear.length(start, goal).cpu().numpy().clip(_LEAST_LENGTH)
        edges = _Edges(here, here + count, length, self.clear.worst(start, goal).cpu().numpy())
        return edges.of(edges.worst <= level)

    def _nears(self, points: Tensor, edges: _Edges, refused: Tensor | None) -> np.ndarray:
        """Boolean, one an edge between `points`: whether it comes near a refused place `(K, obs_dim)`."""
        if refused is None:
            return np.zeros(len(edges.start), dtype=bool)
        start, end = points[edges.start], points[edges.end]
        return self.clear.nears(start, end, refused.expand(len(start), -1, -1)).cpu().numpy()

    def _nearest(self, states: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Index and distance `(n, count)` of the nodes nearest to `states` `(n, obs_dim)`, nearest first."""
        distance = self.clear.length(states[:, None], self.nodes[None].to(states))
        length, index = distance.topk(count, dim=1, largest=False)
        return index, length

    def _rated(self, states: Tensor, near: Tensor, length: Tensor) -> _Edges:
        """Edges from `states` `(n, obs_dim)` to the nodes `near` `(n, k)`, at distances `length` `(n, k)`."""
        count = near.shape[1]
        ends = self.nodes.to(states)[near]
        worst = self.clear.worst(states.repeat_interleave(count, dim=0), ends.flatten(0, 1))
        return _Edges(
            np.repeat(np.arange(len(states)), count),
            near.flatten().cpu().numpy(),
            length.flatten().clamp_min(_LEAST_LENGTH).double().cpu().numpy(),
            worst.double().cpu().numpy(),
        )


class _Edges(NamedTuple):
    """Lines of a roadmap, arrays `(E,)`: the points they join, their length and the energy of their worst piece."""

    start: np.ndarray
    end: np.ndarray
    length: np.ndarray
    worst: np.ndarray

    def of(self, chosen: np.ndarray) -> _Edges:
        """The edges where `chosen` `(E,)` is True."""
        return _Edges(*(column[chosen] for column in self))


def _graph(edges: Sequence[_Edges], size: int) -> csr_array:
    """Matrix `(size, size)` of the lengths of all edges between `size` points."""
    start, end, length, _ = (np.concatenate(column) for column in zip(*edges, strict=True))
    return csr_array((length, (start, end)), shape=(size, size))


def _traced(before: np.ndarray, start: int, goal: int) -> list[int] | None:
    """Points on the way from `start` to `goal` by the predecessors `before` of a search from the goal; None without."""
    path = [start]
    while path[-1] != goal:
        following = int(before[path[-1]])
        if following < 0:
            return None
        path.append(following)
    return path


def straightened(clear: LineOfSight, routes: Tensor, refused: Tensor | None = None) -> Tensor:
    """Routes `(N, R, obs_dim)` without the points that a straight clear line makes needless.

    The shortest way along each route that may skip points wherever the line between two is clear, of `refused` places
    `(N, K, obs_dim)` too; neighbours stay joined as they were.

    Of a route A B C D round one corner, C, with clear lines from A to C but not to D: the shortest ways from A have
    lengths `best = [0, AB, AC, AC + CD]` and come from the points `before = [A, A, A, C]`. Read backwards from D that
    is D, C, A: the route A C D. Another problem of the batch, whose line from A to D is clear, reads D, A, A: without
    the repeated start, and with a repeated goal, A D D.

    Returns:
        `(N, R', obs_dim)`, `R' <= R`, the last point repeated.

    """
    if len(routes) == 0 or routes.shape[1] < 3:
        return routes
    before = _shortcuts(_leg_lengths(clear, routes, refused))
    path = _shortest(before).to(routes.device)
    return routes.take_along_dim(path[..., None], 1)


def _leg_lengths(clear: LineOfSight, routes: Tensor, refused: Tensor | None) -> Tensor:
    """Length `(N, R, R)` of the line from point i to a later point j of each route; infinite where it is not clear."""
    count, rows = routes.shape[:2]
    i, j = torch.triu_indices(rows, rows, offset=1)
    starts, ends = routes[:, i].flatten(0, 1), routes[:, j].flatten(0, 1)
    away = None if refused is None else refused.repeat_interleave(len(i), dim=0)
    free = clear(starts, ends, away).unflatten(0, (count, -1)) | (j == i + 1)
    line = torch.where(free, clear.length(starts, ends).unflatten(0, (count, -1)), torch.inf)
    length = torch.full((count, rows, rows), torch.inf)
    length[:, i, j] = line.float().cpu()
    return length


def _shortcuts(length: Tensor) -> Tensor:
    """The point `(N, R)` that comes before each on the shortest way from the first, by lengths `(N, R, R)` of lines."""
    count, rows = length.shape[:2]
    best = torch.full((count, rows), torch.inf)
    best[:, 0] = 0
    before = torch.zeros(count, rows, dtype=torch.long)
    for k in range(1, rows):
        best[:, k], before[:, k] = (best[:, :k] + length[:, :k, k]).min(dim=1)
    return before


def _shortest(before: Tensor) -> Tensor:
    """Points `(N, R')` on the way to the last one, by what comes `before` `(N, R)` each; the last is repeated."""
    count, rows = before.shape
    backwards = [torch.full((count,), rows - 1)]
    while bool((backwards[-1] > 0).any()):
        backwards.append(before.gather(1, backwards[-1][:, None])[:, 0])
    path = torch.stack(backwards[::-1], dim=1)
    # A shorter one begins with repeated starts: leave out all but one, and repeat the goal at the end instead.
    repeated = (path == 0).sum(dim=1, keepdim=True) - 1
    place = (torch.arange(path.shape[1]) + repeated).clamp_max(path.shape[1] - 1)
    return path.gather(1, place)
