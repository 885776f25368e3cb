"""Drawn shapes with independent labelled attributes, for measuring compositions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require
from ebm_control.data.images import ImageSet

ATTRIBUTES: Mapping[str, int] = {"shape": 3, "position": 4, "size": 2, "tone": 2}
SIDE = 28


@dataclass(frozen=True, eq=False)
class Shapes:
    """Images and the values of all their attributes.

    Attributes:
        images: `(N, 1, 28, 28)` uint8.
        attributes: `(N,)` values from 0 by name: "shape" (disc, square, cross), "position" (quarter of the image),
            "size" (small, large), "tone" (grey, white).

    """

    images: Tensor
    attributes: Mapping[str, Tensor]

    def to(self, device: torch.device | str) -> Shapes:
        """The same images and attributes on another device."""
        moved = {name: values.to(device) for name, values in self.attributes.items()}
        return Shapes(self.images.to(device), moved)

    def labelled(self, attribute: str, test: int = 1000) -> ImageSet:
        """An image set whose classes are the values of one attribute; the last `test` images are for testing.

        Raises:
            InputError: no such attribute.

        """
        require(attribute in ATTRIBUTES, "attribute", given=attribute, expected=f"one of {tuple(ATTRIBUTES)}")
        values = self.attributes[attribute]
        cut = len(values) - test
        require(cut > 0, "test", given=test, expected=f"less than {len(values)}, the images there are")
        return ImageSet(
            f"shapes-{attribute}", self.images[:cut], values[:cut], self.images[cut:], values[cut:]
        )


def draw_shapes(
    count: int, generator: torch.Generator, *, without: Sequence[Mapping[str, int]] = ()
) -> Shapes:
    """Draw shapes with independent attributes; position, size and tone of each image are jittered.

    Args:
        count: number of images.
        generator: random generator of all draws.
        without: combinations that never occur, for example `{"shape": 1, "position": 2}`.

    Raises:
        InputError: an unknown attribute or value, or no combination is left.

    """
    for combination in without:
        require(len(combination) > 0, "without", given="a combination of nothing", expected="attributes")
        for name, value in combination.items():
            known = name in ATTRIBUTES and 0 <= value < ATTRIBUTES[name]
            require(known, "without", given={name: value}, expected=f"attributes of {dict(ATTRIBUTES)}")
    parts: dict[str, list[Tensor]] = {name: [] for name in ATTRIBUTES}
    left = count
    for _ in range(1000):
        drawn = {name: torch.randint(n, (count,), generator=generator) for name, n in ATTRIBUTES.items()}
        keep = torch.ones(count, dtype=torch.bool)
        for combination in without:
            same = [drawn[name] == value for name, value in combination.items()]
            keep &= ~torch.stack(same).all(dim=0)
        chosen = keep.nonzero().squeeze(1)[:left]
        for name, values in drawn.items():
            parts[name].append(values[chosen])
        left -= len(chosen)
        if left == 0:
            break
    require(left == 0, "without", given=list(without), expected="combinations that leave some")
    attributes = {name: torch.cat(values) for name, values in parts.items()}
    return Shapes(_drawn(attributes, generator), attributes)


def _drawn(attributes: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    """Images `(N, 1, SIDE, SIDE)` with edges one pixel wide."""
    count = len(attributes["shape"])

    def jitter(spread: float) -> Tensor:
        return spread * (2 * torch.rand((count, 1, 1), generator=generator) - 1)

    quarter = attributes["position"][:, None, None]
    x0 = torch.where(quarter % 2 == 0, SIDE * 0.27, SIDE * 0.73) + jitter(0.6)
    y0 = torch.where(quarter // 2 == 0, SIDE * 0.27, SIDE * 0.73) + jitter(0.6)
    radius = torch.where(attributes["size"][:, None, None] == 0, 2.8, 5.4) + jitter(0.4)
    tone = torch.where(attributes["tone"][:, None, None] == 0, 0.5, 0.95) + jitter(0.05)
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    dx, dy = (columns - x0).abs(), (rows - y0).abs()
    disc = (dx.square() + dy.square()).sqrt() - radius
    # The same area as the disc, so that only the outline distinguishes them.
    square = torch.maximum(dx, dy) - radius * math.sqrt(math.pi) / 2
    arm = 0.38 * radius
    cross = torch.minimum(
        torch.maximum(dx - arm, dy - 1.2 * radius), torch.maximum(dx - 1.2 * radius, dy - arm)
    )
    outside = torch.stack([disc, square, cross], dim=1)
    chosen = outside[torch.arange(count), attributes["shape"]]
    images = tone * (0.5 - chosen).clamp(0, 1)
    return (255 * images).round().to(torch.uint8)[:, None]
