"""Ways that were gone: places, and which of them were left for which."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

Array = NDArray[np.float32]
NONE = -1


class Ways:
    """A graph of visited places, joined where one was entered from the other.

    It is taken that what was gone can be gone back: so for points, roughly so for arms, not for what falls.

    Args:
        width: `(k,)` size of a place.
        apart: widths between places at least.

    Attributes:
        places: `(M, k)`, in the order in which they were found.
        visits: `(M,)` steps that ended there.

    """

    def __init__(self, width: ArrayLike, apart: float = 0.5) -> None:
        self.width, self.apart = np.asarray(width, np.float32), apart
        self.places: Array = np.empty((0, self.width.size), np.float32)
        self.visits: NDArray[np.intp] = np.empty(0, np.intp)
        self._links: set[tuple[int, int]] = set()
        self._graph: csr_array | None = None

    def nearest(self, points: Array) -> NDArray[np.intp]:
        """Index of the place nearest to each point `(N, k)`."""
        return self._distance(points).argmin(axis=1)

    def visit(self, points: Array, before: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """One step of N points.

        Args:
            points: `(N, k)`.
            before: `(N,)` places that they were in; `NONE` where they have just been put there.

        Returns:
            Places that they are in now `(N,)`, and the indices of places that are new.

        """
        now, known = np.empty(len(points), np.intp), len(self.places)
        for i, point in enumerate(points):
            away = self._distance(point[None])[0]
            if len(away) == 0 or away.min() > self.apart:
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
        """Widths along the shortest way from each place `(M,)`, and the place that comes next on it; infinite, none."""
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
