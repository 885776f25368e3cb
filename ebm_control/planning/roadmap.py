"""Routes over states that an energy finds likely: where to go, before how."""

from __future__ import annotations

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
        self, start: Tensor, goal: Tensor, generator: torch.Generator, threshold: Tensor | None = None
    ) -> Tensor:
        """States `(N, R, obs_dim)` from each start `(N, obs_dim)` to each goal state `(N, obs_dim)`.

        `threshold` `(N,)` is the highest energy that each problem's lines may have, for guides that ask for lines
        in sight.
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
        floor: no refused move lowers a threshold below this (see `Guided`).

    """

    def __init__(
        self,
        energy: TransitionEnergy,
        threshold: float,
        piece: float = 0.5,
        cost: Energy | None = None,
        floor: float = -torch.inf,
    ) -> None:
        require(
            energy.window == 2 and energy.layout.act_dim == 0,
            "energy",
            given=f"window {energy.window}, {energy.layout.act_dim} actions",
            expected="window 2, over states alone",
        )
        require(piece > 0, "piece", given=piece, expected="a positive number")
        self.energy, self.threshold, self.piece, self.cost, self.floor = energy, threshold, piece, cost, floor
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

        A learned edge is soft: the share left out is the data's outermost rim, where walls begin. The floor is at
        half the quantile.
        """
        require(0 < quantile <= 1, "quantile", given=quantile, expected="in (0, 1]")
        with torch.no_grad():
            rest = energy(torch.stack([states, states], dim=1))
        levels = torch.quantile(rest, rest.new_tensor([quantile, quantile / 2])).tolist()
        return cls(energy, levels[0], piece, cost, floor=levels[1])

    def length(self, start: Tensor, end: Tensor) -> Tensor:
        """Distance `(...)` of states `(..., obs_dim)` in deviations of the energy's displacement."""
        return (self.layout.difference(end, start) / self.energy.displacement_scale).norm(dim=-1)

    def __call__(self, start: Tensor, end: Tensor, threshold: Tensor | None = None) -> Tensor:
        """Boolean `(B,)` for lines from `start` to `end`, both `(B, obs_dim)`; `threshold` `(B,)` if not its own."""
        return self.worst(start, end) <= (self.threshold if threshold is None else threshold)

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
        threshold: Tensor | None = None,
    ) -> Tensor:
        """Corners of the shortest clear route, the goal repeated at its end; straight there where none is found.

        Args:
            start: `(N, obs_dim)`.
            goal: `(N, obs_dim)`, whole states.
            generator: not used: there is no noise here.
            threshold: `(N,)` highest energy of each problem's lines; None takes that of `clear`.

        Returns:
            `(N, R, obs_dim)`, the start first.

        """
        require_shape("start", start, (None, self.clear.layout.obs_dim))
        require_shape("goal", goal, tuple(start.shape))
        if threshold is None:
            threshold = start.new_full((len(start),), self.clear.threshold)
        require_shape("threshold", threshold, (len(start),))
        paths: list[Tensor | None] = [None] * len(start)
        # Rather a route by the usual threshold, or over states a little less likely, than none.
        spread = self.clear.threshold - self.clear.floor
        rises = (0.0, spread, 2 * spread) if np.isfinite(spread) else (0.0,)
        for levels in (threshold, *(torch.full_like(threshold, self.clear.threshold + r) for r in rises)):
            missing = torch.tensor([path is None for path in paths], device=start.device)
            for level in levels[missing].unique() if len(start) else ():
                group = (missing & (levels == level)).nonzero()[:, 0]
                found = self._paths(start[group], goal[group], level)
                for i, path in zip(group.tolist(), found, strict=True):
                    paths[i] = path
        points = [torch.stack([start[i], goal[i]]) if p is None else p for i, p in enumerate(paths)]
        if not points:
            return torch.stack([start, goal], dim=1)
        longest = max(len(path) for path in points)
        routes = torch.stack([torch.cat([p, p[-1:].expand(longest - len(p), -1)]) for p in points])
        return straightened(self.clear, routes, threshold)

    def _paths(self, start: Tensor, goal: Tensor, level: Tensor) -> list[Tensor | None]:
        """Points of the shortest path of each problem over edges no worse than `level`; None where there is none."""
        count, size = len(start), len(self.nodes)
        ends = torch.cat([start, goal])
        rows, columns, lengths, worst = self._rated(ends, *self._nearest(ends, self.neighbours))
        # A state that no line leads from (close to a wall, say) is joined by the likeliest.
        least = np.full(2 * count, np.inf)
        np.minimum.at(least, rows, worst)
        clear = worst <= np.maximum(float(level), least)[rows]
        among = self._edges[3] <= float(level)
        direct = self.clear(start, goal, level.expand(count)).cpu().numpy()
        here = np.arange(count)[direct] + size
        graph = csr_array(
            (
                np.concatenate(
                    [
                        self._edges[2][among],
                        lengths[clear],
                        self.clear.length(start, goal).cpu().numpy()[direct].clip(1e-6),
                    ]
                ),
                (
                    np.concatenate([self._edges[0][among], rows[clear] + size, here]),
                    np.concatenate([self._edges[1][among], columns[clear], here + count]),
                ),
            ),
            shape=(size + 2 * count, size + 2 * count),
        )
        goals = size + count + np.arange(count)
        _, before = dijkstra(graph, directed=False, indices=goals, return_predecessors=True)
        points = torch.cat([self.nodes.to(ends), ends])
        paths: list[Tensor | None] = []
        for i in range(count):
            path, node = [size + i], size + i
            while node != goals[i] and before[i, node] >= 0:
                node = int(before[i, node])
                path.append(node)
            paths.append(points[path] if node == goals[i] else None)
        return paths

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


def straightened(clear: LineOfSight, routes: Tensor, threshold: Tensor | None = None) -> Tensor:
    """Routes `(N, R, obs_dim)` without the points that a straight clear line makes needless.

    The shortest way along each route that may skip points wherever the line between two is clear, by `threshold`
    `(N,)` or by that of `clear`; neighbours stay joined as they were.

    Returns:
        `(N, R', obs_dim)`, `R' <= R`, the last point repeated.

    """
    count, rows = routes.shape[:2]
    if count == 0 or rows < 3:
        return routes
    i, j = torch.triu_indices(rows, rows, offset=1)
    starts, ends = routes[:, i].flatten(0, 1), routes[:, j].flatten(0, 1)
    levels = None if threshold is None else threshold.repeat_interleave(len(i))
    free = clear(starts, ends, levels).unflatten(0, (count, -1)) | (j == i + 1)
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
