"""Routes over states that an energy finds likely: where to go, before how."""

from __future__ import annotations

from itertools import product
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.trajectory import TransitionEnergy


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
        rows, columns, lengths, worst = self._rated(ends, *self._nearest(ends, self.neighbours))
        # A state that no line leads from (close to a wall, say) is joined by the likeliest.
        least = np.full(2 * count, np.inf)
        np.minimum.at(least, rows, worst)
        clear = worst <= np.maximum(level, least)[rows]
        among = self._edges[3] <= level
        direct = (self.clear.worst(start, goal) <= level).cpu().numpy()
        nodes = self.nodes.to(ends)
        if refused is not None:
            clear &= ~self._nears(ends[rows], nodes[columns], refused)
            among &= ~self._nears(nodes[self._edges[0]], nodes[self._edges[1]], refused)
            direct &= ~self._nears(start, goal, refused)
        here = np.arange(count)[direct] + size
        straight = self.clear.length(start, goal).cpu().numpy()[direct].clip(1e-6)
        graph = csr_array(
            (
                np.concatenate([self._edges[2][among], lengths[clear], straight]),
                (
                    np.concatenate([self._edges[0][among], rows[clear] + size, here]),
                    np.concatenate([self._edges[1][among], columns[clear], here + count]),
                ),
            ),
            shape=(size + 2 * count, size + 2 * count),
        )
        goals = size + count + np.arange(count)
        _, before = dijkstra(graph, directed=False, indices=goals, return_predecessors=True)
        points = torch.cat([nodes, ends])
        paths: list[Tensor | None] = []
        for i in range(count):
            path, node = [size + i], size + i
            while node != goals[i] and before[i, node] >= 0:
                node = int(before[i, node])
                path.append(node)
            paths.append(points[path] if node == goals[i] else None)
        return paths

    def _nears(self, start: Tensor, end: Tensor, refused: Tensor) -> np.ndarray:
        return self.clear.nears(start, end, refused.expand(len(start), -1, -1)).cpu().numpy()

    def _nearest(self, states: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Index and distance `(n, count)` of the nodes nearest to `states` `(n, obs_dim)`, nearest first."""
        distance = self.clear.length(states[:, None], self.nodes[None].to(states))
        length, index = distance.topk(count, dim=1, largest=False)
        return index, length

    def _rated(
        self, states: Tensor, near: Tensor, length: Tensor
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns, lengths and worst energies of the lines from `states` to nodes `near`."""
        count = near.shape[1]
        ends = self.nodes.to(states)[near]
        worst = self.clear.worst(states.repeat_interleave(count, dim=0), ends.flatten(0, 1))
        rows = np.repeat(np.arange(len(states)), count)
        lengths = length.flatten().clamp_min(1e-6)  # 0 would mean no edge
        return (
            rows,
            near.flatten().cpu().numpy(),
            lengths.double().cpu().numpy(),
            worst.double().cpu().numpy(),
        )


def straightened(clear: LineOfSight, routes: Tensor, refused: Tensor | None = None) -> Tensor:
    """Routes `(N, R, obs_dim)` without the points that a straight clear line makes needless.

    The shortest way along each route that may skip points wherever the line between two is clear, of `refused` places
    `(N, K, obs_dim)` too; neighbours stay joined as they were.

    Returns:
        `(N, R', obs_dim)`, `R' <= R`, the last point repeated.

    """
    count, rows = routes.shape[:2]
    if count == 0 or rows < 3:
        return routes
    i, j = torch.triu_indices(rows, rows, offset=1)
    starts, ends = routes[:, i].flatten(0, 1), routes[:, j].flatten(0, 1)
    away = None if refused is None else refused.repeat_interleave(len(i), dim=0)
    free = clear(starts, ends, away).unflatten(0, (count, -1)) | (j == i + 1)
    length = torch.full((count, rows, rows), torch.inf)
    length[:, i, j] = (
        torch.where(free, clear.length(starts, ends).unflatten(0, (count, -1)), torch.inf).float().cpu()
    )
    best = torch.full((count, rows), torch.inf)
    best[:, 0] = 0
    before = torch.zeros(count, rows, dtype=torch.long)
    for k in range(1, rows):
        best[:, k], before[:, k] = (best[:, :k] + length[:, :k, k]).min(dim=1)
    kept = [torch.full((count,), rows - 1)]
    while bool((kept[-1] > 0).any()):
        kept.append(before.gather(1, kept[-1][:, None])[:, 0])
    # Backwards from the goal, so a short path ends in repeated starts: move them to the end as repeated goals.
    path = torch.stack(kept[::-1], dim=1)
    surplus = (path == 0).sum(dim=1, keepdim=True) - 1
    place = (torch.arange(path.shape[1]) + surplus).clamp_max(path.shape[1] - 1)
    index = path.gather(1, place).to(routes.device)
    return routes.take_along_dim(index[..., None], 1)
