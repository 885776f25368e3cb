"""Graph of visited places and of the moves between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

Array = NDArray[np.float32]
NONE = -1


class Ways:
    """A graph of visited places, with an edge where one was entered from the other.

    Edges are used in both directions. This is right for point masses, about right for arms, and wrong for falling
    objects.

    Args:
        width: `(k,)` size of a place.
        spacing: smallest distance between places, in widths.

    Attributes:
        places: `(M, k)`, in the order of discovery.
        visits: `(M,)` number of steps that ended there.

    """

    def __init__(self, width: ArrayLike, spacing: float = 0.5) -> None:
        self.width, self.spacing = np.asarray(width, np.float32), spacing
        self.places: Array = np.empty((0, self.width.size), np.float32)
        self.visits: NDArray[np.intp] = np.empty(0, np.intp)
        self._links: set[tuple[int, int]] = set()
        self._graph: csr_array | None = None

    def nearest(self, points: Array) -> NDArray[np.intp]:
        """Index of the place nearest to each point `(N, k)`."""
        return self._distance(points).argmin(axis=1)

    def visit(self, points: Array, before: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Record one step of N points.

        Args:
            points: `(N, k)`.
            before: `(N,)` index of the previous place; `NONE` at the start of an episode.

        Returns:
            Index of the current place `(N,)`, and the indices of new places.

        """
        now, known = np.empty(len(points), np.intp), len(self.places)
        for i, point in enumerate(points):
            away = self._distance(point[None])[0]
            if len(away) == 0 or away.min() > self.spacing:
                self.places = np.concatenate([self.places, point[None]])
                now[i] = len(self.places) - 1
            else:
                now[i] = away.argmin()
            link = (min(before[i], now[i]), max(before[i], now[i]))
            if before[i] != NONE and link[0] != link[1] and link not in self._links:
                self._links.add(link)
                self._graph = None
        if len(self.places) > known:
            self._graph = None
            self.visits = np.concatenate([self.visits, np.zeros(len(self.places) - known, np.intp)])
        np.add.at(self.visits, now, 1)
        return now, np.arange(known, len(self.places))

    def lengths(self, place: int) -> tuple[Array, NDArray[np.intp]]:
        """Length in widths of the shortest path from each place `(M,)`, infinite without one, and its next place."""
        length, following = dijkstra(
            self._links_matrix(), directed=False, indices=place, return_predecessors=True
        )
        return length.astype(np.float32), following.astype(np.intp)

    def _links_matrix(self) -> csr_array:
        if self._graph is None:
            rows, columns = (np.array([link[i] for link in self._links], np.intp) for i in (0, 1))
            away = np.linalg.norm((self.places[rows] - self.places[columns]) / self.width, axis=-1)
            count = len(self.places)
            self._graph = csr_array((away.clip(1e-3), (rows, columns)), shape=(count, count))
        return self._graph

    def _distance(self, points: Array) -> Array:
        return np.linalg.norm((points[:, None] - self.places[None]) / self.width, axis=-1)
