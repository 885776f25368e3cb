"""Small antialiased pictures of the plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

PAPER: Colour = (250, 250, 247)
WALL: Colour = (70, 78, 92)
OBSTACLE: Colour = (196, 92, 76)
TRACE: Colour = (150, 180, 220)
AGENT: Colour = (32, 98, 178)
LINK: Colour = (52, 120, 196)
JOINT: Colour = (28, 62, 110)
GOAL: Colour = (40, 160, 104)
GHOST: Colour = (196, 226, 210)


class Canvas:
    """A square picture of `[-extent, extent]²`, y upwards, drawn larger and downsampled for antialiasing.

    Args:
        extent: half the side of the visible square, in units of the plane.
        size: side of the picture in pixels.

    """

    _oversampling = 4

    def __init__(self, extent: float, size: int = 256) -> None:
        self.size = size
        side = size * self._oversampling
        self._scale = side / (2 * extent)
        self._extent = extent
        self._image = Image.new("RGB", (side, side), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def box(self, low: NDArray[np.float64], high: NDArray[np.float64], colour: Colour) -> None:
        """Fill the axis-aligned box from corner `low` (2,) to corner `high` (2,)."""
        corners = self._pixels(np.stack([low, high]))
        (left, right), (top, bottom) = sorted(corners[:, 0]), sorted(corners[:, 1])
        self._draw.rectangle((left, top, right, bottom), fill=colour)

    def line(self, points: ArrayLike, colour: Colour, width: float) -> None:
        """Draw a polyline through `points` (n, 2) with round ends; `width` in units of the plane."""
        pixels = self._pixels(points)
        thickness = max(1, round(width * self._scale))
        self._draw.line([(x, y) for x, y in pixels], fill=colour, width=thickness, joint="curve")
        for end in (pixels[0], pixels[-1]):
            self._disc(end, thickness / 2, colour)

    def disc(self, centre: NDArray[np.float64], radius: float, colour: Colour) -> None:
        """Fill a disc; `radius` in units of the plane."""
        self._disc(self._pixels(centre), radius * self._scale, colour)

    def ring(self, centre: NDArray[np.float64], radius: float, colour: Colour) -> None:
        """Draw a target: a disc with a paper-coloured ring in it."""
        for share, fill in ((1.0, colour), (0.68, PAPER), (0.36, colour)):
            self.disc(centre, radius * share, fill)

    def array(self) -> NDArray[np.uint8]:
        """The picture, (size, size, 3)."""
        return np.asarray(self._image.resize((self.size, self.size), Image.Resampling.BOX), dtype=np.uint8)

    def _pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        points = np.asarray(points, dtype=np.float64)
        return np.stack(
            [(points[..., 0] + self._extent) * self._scale, (self._extent - points[..., 1]) * self._scale],
            axis=-1,
        )

    def _disc(self, pixel: NDArray[np.float64], radius: float, colour: Colour) -> None:
        x, y = pixel
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
