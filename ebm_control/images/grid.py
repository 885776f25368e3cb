"""Images side by side in one picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ebm_control.checks import require, require_number
from ebm_control.images.pixels import pixels


def grid(images: Tensor, columns: int, *, gap: int = 1, scale: int = 1) -> Tensor:
    """One picture `(H, W, 3)` uint8 of images `(N, C, h, w)` in [0, 1], row by row on white.

    Args:
        images: with 1 or 3 channels.
        columns: images per row; the last row may have fewer.
        gap: pixels between images.
        scale: pixels of the picture per pixel of an image.

    """
    images = pixels("images", images, finite=False)
    require(
        images.shape[1] in (1, 3) and len(images) > 0,
        "images",
        given=f"shape {tuple(images.shape)}",
        expected="(N, 1 or 3, h, w)",
    )
    for name, value, least in (("columns", columns, 1), ("gap", gap, 0), ("scale", scale, 1)):
        require_number(name, value, least, whole=True)
    bytes_ = (images.detach().clamp(0, 1).nan_to_num() * 255).round().to(torch.uint8).cpu()
    bytes_ = bytes_.expand(-1, 3, -1, -1).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    count, _, height, width = bytes_.shape
    rows, gap = -(-count // columns), gap * scale
    made = torch.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=torch.uint8)
    for i, image in enumerate(bytes_.permute(0, 2, 3, 1)):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        made[top : top + height, left : left + width] = image
    return made


def save_grid(path: Path | str, images: Tensor, columns: int, *, scale: int = 2) -> Path:
    """Write `grid` as a picture file; its folder is created if needed."""
    path, picture = Path(path), Image.fromarray(grid(images, columns, scale=scale).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = (
        BytesIO()
    )  # encode first: on a full disk, writers of some formats fail a second time when they are collected
    picture.save(encoded, Image.registered_extensions()[path.suffix.lower()])
    path.write_bytes(encoded.getvalue())
    return path
