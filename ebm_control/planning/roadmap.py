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

    def routes(self, start: Tensor, goal: Tensor, generator: torch.Generator) -> Tensor:
        """States `(N, R, obs_dim)` from each start `(N, obs_dim)` to each goal state `(N, obs_dim)`."""
        ...


class LineOfSight:
    """Whether a straight line between states runs where data were.

    The line is cut into short equal pieces, each a transition that the energy rates.

    Args:
        energy: joint, over pairs of states alone (see `ModelSettings.joint`).
        threshold: highest energy of a piece; `of_data` takes a quantile.
        piece: longest piece, in deviations of the energy's displacement.
        cost: added to the energy of a piece: an obstacle that no data knew of, say.

    """

    def __init__(
        self, energy: TransitionEnergy, threshold: float, piece: float = 0.5, cost: Energy | None = None
    ) -> None:
        require(
            energy.window == 2 and energy.layout.act_dim == 0,
            "energy",
            given=f"window {energy.window}, {energy.layout.act_dim} actions",
            expected="window 2, over states alone",
        )
        require(piece > 0, "piece", given=piece, expected="a positive number")
        self.energy, self.threshold, self.piece, self.cost = energy, threshold, piece, cost
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

        A learned edge is soft: the share left out is the data's outermost rim, where walls begin.
        """
        require(0 < quantile <= 1, "quantile", given=quantile, expected="in (0, 1]")
        with torch.no_grad():
            rest = energy(torch.stack([states, states], dim=1))
        return cls(energy, float(torch.quantile(rest, quantile)), piece, cost)

    def length(self, start: Tensor, end: Tensor) -> Tensor:
        """Distance `(...)` of states `(..., obs_dim)` in deviations of the energy's displacement."""
        return (self.layout.difference(end, start) / self.energy.displacement_scale).norm(dim=-1)

    def __call__(self, start: Tensor, end: Tensor) -> Tensor:
        """Boolean `(B,)` for lines from `start` to `end`, both `(B, obs_dim)`."""
        return self.worst(start, end) <= self.threshold

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
        nodes: `(M, obs_dim)` states of the data, in the units of the trajectory.
        neighbours: nearest nodes that each node may be joined to.

    """

    def __init__(self, clear: LineOfSight, nodes: Tensor, neighbours: int = 24) -> None:
        require_shape("nodes", nodes, (None, clear.layout.obs_dim))
        require(len(nodes) > neighbours, "nodes", given=len(nodes), expected=f"more than {neighbours}")
        self.clear, self.nodes, self.neighbours = clear, nodes, neighbours
        near, length = self._nearest(nodes, neighbours + 1)
        self._edges = self._clear_edges(nodes, near[:, 1:], length[:, 1:], forced=False)

    def routes(self, start: Tensor, goal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Corners of the shortest clear route, the goal repeated at its end; straight there where none is found.

        Args:
            start: `(N, obs_dim)`.
            goal: `(N, obs_dim)`, whole states.
            generator: not used: there is no noise here.

        Returns:
            `(N, R, obs_dim)`, the start first.

        """
        require_shape("start", start, (None, self.clear.layout.obs_dim))
        require_shape("goal", goal, tuple(start.shape))
        count, size = len(start), len(self.nodes)
        ends = torch.cat([start, goal])
        near, length = self._nearest(ends, self.neighbours)
        rows, columns, lengths = self._clear_edges(ends, near, length, forced=True)
        direct = self.clear(start, goal).cpu().numpy()
        here = np.arange(count)[direct]
        graph = csr_array(
            (
                np.concatenate(
                    [self._edges[2], lengths, self.clear.length(start, goal).cpu().numpy()[direct]]
                ),
                (
                    np.concatenate([self._edges[0], rows + size, here + size]),
                    np.concatenate([self._edges[1], columns, here + size + count]),
                ),
            ),
            shape=(size + 2 * count, size + 2 * count),
        )
        goals = size + count + np.arange(count)
        _, before = dijkstra(graph, directed=False, indices=goals, return_predecessors=True)
        points = torch.cat([self.nodes.to(ends), ends])
        paths = []
        for i in range(count):
            path, node = [size + i], size + i
            while node != goals[i] and before[i, node] >= 0:
                node = int(before[i, node])
                path.append(node)
            paths.append(path if node == goals[i] else [size + i, int(goals[i])])
        longest = max(len(path) for path in paths)
        index = torch.tensor([path + path[-1:] * (longest - len(path)) for path in paths])
        return straightened(self.clear, points[index.to(points.device)])

    def _nearest(self, states: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Index and distance `(n, count)` of the nodes nearest to `states` `(n, obs_dim)`, nearest first."""
        distance = self.clear.length(states[:, None], self.nodes[None].to(states))
        length, index = distance.topk(count, dim=1, largest=False)
        return index, length

    def _clear_edges(
        self, states: Tensor, near: Tensor, length: Tensor, forced: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and lengths of clear lines from `states` to nodes `near`; `forced`: at least one each."""
        count = near.shape[1]
        ends = self.nodes.to(states)[near]
        worst = self.clear.worst(states.repeat_interleave(count, dim=0), ends.flatten(0, 1))
        worst = worst.unflatten(0, (-1, count))
        clear = worst <= self.clear.threshold
        if forced:  # a state that no line leads from (close to a wall, say) is joined by the likeliest
            clear |= ~clear.any(dim=1, keepdim=True) & (worst == worst.amin(dim=1, keepdim=True))
        rows, places = clear.cpu().nonzero(as_tuple=True)
        columns = near.cpu()[rows, places]
        lengths = length.cpu()[rows, places].clamp_min(1e-6)  # 0 would mean no edge
        return rows.numpy(), columns.numpy(), lengths.double().numpy()


def straightened(clear: LineOfSight, routes: Tensor) -> Tensor:
    """Routes `(N, R, obs_dim)` without the points that a straight clear line makes needless.

    The shortest way along each route that may skip points wherever the line between two is clear; neighbours
    stay joined as they were.

    Returns:
        `(N, R', obs_dim)`, `R' <= R`, the last point repeated.

    """
    count, rows = routes.shape[:2]
    if count == 0 or rows < 3:
        return routes
    i, j = torch.triu_indices(rows, rows, offset=1)
    starts, ends = routes[:, i].flatten(0, 1), routes[:, j].flatten(0, 1)
    free = clear(starts, ends).unflatten(0, (count, -1)) | (j == i + 1)
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
