"""Routes through states of low energy: global path planning before local trajectory planning."""

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
from ebm_control.energies.layout import TrajectoryLayout

_LEAST_LENGTH = 1e-6  # shortest length of an edge: a sparse graph drops entries of 0


class Guide(Protocol):
    """Interface for path planners: they return the states to pass on the way to a goal."""

    def routes(
        self, start: Tensor, goal: Tensor, generator: torch.Generator, refused: Tensor | None = None
    ) -> Tensor:
        """States `(N, R, obs_dim)` from each start `(N, obs_dim)` to each goal state `(N, obs_dim)`.

        `refused` `(N, K, obs_dim)` are places where the environment blocked a move; routes keep away from them. NaN
        marks an empty entry.
        """
        ...


class PairEnergy(Protocol):
    """Interface of an energy of pairs of states: a `TransitionEnergy` over states only, or another collision checker.

    Attributes:
        window: 2.
        layout: layout of the states, without actions.
        displacement_scale: `(obs_dim,)` unit of lengths, in the units of the trajectory.

    """

    window: int
    layout: TrajectoryLayout
    displacement_scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Energies `(B,)` of pairs `(B, 2, obs_dim)`."""
        ...


class LineOfSight:
    """Checks whether a straight line between states stays where the data are.

    The line is cut into short equal pieces, and the energy rates each piece as a transition.

    Args:
        energy: a joint energy of pairs of states without actions (see `ModelSettings.joint`).
        threshold: highest energy of a piece; `of_data` sets it to a quantile of the data's energies.
        piece: longest piece, in stds of the energy's displacement.
        cost: added to the energy of a piece, for example for an obstacle that is not in the data.
        berth: distance that lines keep from blocked moves (see `Guided`), in stds of the displacement.
        slack: how much the threshold is raised, up to twice, if there is no route otherwise (see `Roadmap`).

    """

    def __init__(
        self,
        energy: PairEnergy,
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
        energy: PairEnergy,
        states: Tensor,
        quantile: float = 0.9,
        piece: float = 0.5,
        cost: Energy | None = None,
    ) -> LineOfSight:
        """Line of sight whose threshold is a `quantile` of the energies of `states` `(M, obs_dim)` at rest.

        The boundary of a learned energy is soft: the fraction above the quantile is the outer edge of the data, where
        walls begin. The slack is the difference between the energies at the quantile and at half of it.
        """
        require(0 < quantile <= 1, "quantile", given=quantile, expected="in (0, 1]")
        with torch.no_grad():
            rest = energy(torch.stack([states, states], dim=1))
        levels = torch.quantile(rest, rest.new_tensor([quantile, quantile / 2])).tolist()
        return cls(energy, levels[0], piece, cost, slack=levels[0] - levels[1])

    def length(self, start: Tensor, end: Tensor) -> Tensor:
        """Distance `(...)` of states `(..., obs_dim)` in stds of the energy's displacement."""
        return (self.layout.difference(end, start) / self.energy.displacement_scale).norm(dim=-1)

    def __call__(self, start: Tensor, end: Tensor, refused: Tensor | None = None) -> Tensor:
        """Whether the lines from `start` to `end`, both `(B, obs_dim)`, are clear: boolean `(B,)`.

        `refused` `(B, K, obs_dim)` are places that each line must keep away from; NaN marks an empty entry.
        """
        clear = self.worst(start, end) <= self.threshold
        return clear if refused is None else clear & ~self.nears(start, end, refused)

    def nears(self, start: Tensor, end: Tensor, refused: Tensor) -> Tensor:
        """Whether lines pass closer than `berth` to a refused place `(B, K, obs_dim)`: boolean `(B,)`.

        They must also pass clearly closer than their ends are, so that a line may lead away from such a place.
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
    """Shortest paths over states of the data, along lines to which a coarse energy assigns high likelihood.

    A probabilistic roadmap (Kavraki et al. 1996) with the energy as collision checker. Gradient descent from a
    straight line cannot plan around several corners. This search can, and it needs no gradient.

    Args:
        clear: decides which lines are clear, and measures distances.
        nodes: `(M, obs_dim)` states of the data, in the units of the trajectory; those that are not clear are left out.
        neighbours: number of nearest nodes to which each node may be connected.

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
        """Corners of the shortest clear route, padded with the goal; a straight line if there is no route.

        Args:
            start: `(N, obs_dim)`.
            goal: `(N, obs_dim)` complete states.
            generator: not used, because the search is deterministic.
            refused: `(N, K, obs_dim)` places to keep away from, see `LineOfSight`; None for no such places.

        Returns:
            `(N, R, obs_dim)`, beginning with the start.

        """
        width = self.clear.layout.obs_dim
        require_shape("start", start, (None, width))
        require_shape("goal", goal, tuple(start.shape))
        if refused is not None:
            require_shape("refused", refused, (len(start), None, width))
        paths: list[Tensor | None] = [None] * len(start)
        # A route through slightly less likely states, or near a refused move, is better than no route.
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
        """Problems without a path yet: one group of those without refused places, and each other one by itself."""
        missing = [i for i, path in enumerate(paths) if path is None]
        free = [i for i in missing if refused is None or bool(torch.isnan(refused[i]).all())]
        return [group for group in (free, *([i] for i in missing if i not in free)) if group]

    def _paths(
        self, start: Tensor, goal: Tensor, level: float, refused: Tensor | None
    ) -> list[Tensor | None]:
        """Points of each problem's shortest path over edges with energy up to `level`; None without a path.

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
        """Edges with energy up to `level` from starts and goals `(2N, obs_dim)`, numbered after the nodes, to nodes.

        A state without such an edge (for example close to a wall) is connected by its edge of lowest energy.
        """
        edges = self._rated(ends, *self._nearest(ends, self.neighbours))
        least = np.full(len(ends), np.inf)
        np.minimum.at(least, edges.start, edges.worst)
        edges = edges.of(edges.worst <= np.maximum(level, least)[edges.start])
        return edges._replace(start=edges.start + len(self.nodes))

    def _direct(self, start: Tensor, goal: Tensor, level: float) -> _Edges:
        """Edges from each start straight to its goal, with energy up to `level`."""
        count = len(start)
        here = len(self.nodes) + np.arange(count)
        length = self.clear.length(start, goal).cpu().numpy().clip(_LEAST_LENGTH)
        edges = _Edges(here, here + count, length, self.clear.worst(start, goal).cpu().numpy())
        return edges.of(edges.worst <= level)

    def _nears(self, points: Tensor, edges: _Edges, refused: Tensor | None) -> np.ndarray:
        """Whether each edge between `points` comes near a refused place `(K, obs_dim)`: boolean `(E,)`."""
        if refused is None:
            return np.zeros(len(edges.start), dtype=bool)
        start, end = points[edges.start], points[edges.end]
        return self.clear.nears(start, end, refused.expand(len(start), -1, -1)).cpu().numpy()

    def _nearest(self, states: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Indices and distances `(n, count)` of the nodes nearest to `states` `(n, obs_dim)`, nearest first."""
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
    """Edges of a roadmap, arrays `(E,)`: the points they connect, their length and the energy of their worst piece."""

    start: np.ndarray
    end: np.ndarray
    length: np.ndarray
    worst: np.ndarray

    def of(self, chosen: np.ndarray) -> _Edges:
        """The edges where `chosen` `(E,)` is True."""
        return _Edges(*(column[chosen] for column in self))


def _graph(edges: Sequence[_Edges], size: int) -> csr_array:
    """Sparse matrix `(size, size)` with the lengths of all edges between `size` points."""
    start, end, length, _ = (np.concatenate(column) for column in zip(*edges, strict=True))
    return csr_array((length, (start, end)), shape=(size, size))


def _traced(before: np.ndarray, start: int, goal: int) -> list[int] | None:
    """Path from `start` to `goal`, from the predecessors `before` of a search from the goal; None without a path."""
    path = [start]
    while path[-1] != goal:
        following = int(before[path[-1]])
        if following < 0:
            return None
        path.append(following)
    return path


def straightened(clear: LineOfSight, routes: Tensor, refused: Tensor | None = None) -> Tensor:
    """Routes `(N, R, obs_dim)` without the points that a straight clear line makes unnecessary.

    The result is the shortest path along each route that may skip points wherever the line between two of them is
    clear, also of `refused` places `(N, K, obs_dim)`. Adjacent points stay connected.

    Example: a route A B C D turns at C, and lines are clear from A to C but not to D. The shortest paths from A have
    lengths `best = [0, AB, AC, AC + CD]` and the predecessors `before = [A, A, A, C]`. Read backwards from D this
    is D, C, A: the route A C D. For another problem of the batch with a clear line from A to D it is D, A, A. Its
    repeated start is dropped and its goal repeated: A D D.

    Returns:
        `(N, R', obs_dim)`, `R' <= R`, padded with the last point.

    """
    if len(routes) == 0 or routes.shape[1] < 3:
        return routes
    before = _shortcuts(_leg_lengths(clear, routes, refused))
    path = _shortest(before).to(routes.device)
    return routes.take_along_dim(path[..., None], 1)


def _leg_lengths(clear: LineOfSight, routes: Tensor, refused: Tensor | None) -> Tensor:
    """Length `(N, R, R)` of the line from point i to a later point j of each route; infinite if it is not clear."""
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
    """Predecessor `(N, R)` of each point on the shortest path from the first, given line lengths `(N, R, R)`."""
    count, rows = length.shape[:2]
    best = torch.full((count, rows), torch.inf)
    best[:, 0] = 0
    before = torch.zeros(count, rows, dtype=torch.long)
    for k in range(1, rows):
        best[:, k], before[:, k] = (best[:, :k] + length[:, :k, k]).min(dim=1)
    return before


def _shortest(before: Tensor) -> Tensor:
    """Points `(N, R')` on the path to the last point, given predecessors `(N, R)`; padded with the last point."""
    count, rows = before.shape
    backwards = [torch.full((count,), rows - 1)]
    while bool((backwards[-1] > 0).any()):
        backwards.append(before.gather(1, backwards[-1][:, None])[:, 0])
    path = torch.stack(backwards[::-1], dim=1)
    # A shorter path begins with repeated starts: drop all but one, and repeat the goal at the end instead.
    repeated = (path == 0).sum(dim=1, keepdim=True) - 1
    place = (torch.arange(path.shape[1]) + repeated).clamp_max(path.shape[1] - 1)
    return path.gather(1, place)
