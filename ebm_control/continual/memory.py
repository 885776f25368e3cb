"""Replay memory: a uniform random sample of the images of a stream."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.checks import require, require_number, require_seed


class Memory:
    """A replay memory filled by reservoir sampling (Vitter 1985), which needs no task boundaries.

    Args:
        capacity: largest number of stored images.
        seed: seed of the reservoir and of the draws.

    Raises:
        InputError: a capacity below 1.

    """

    needs_boundaries = False

    def __init__(self, capacity: int, seed: int = 0) -> None:
        require_number("capacity", capacity, 1, whole=True)
        require_seed("seed", seed)
        self.capacity, self.seen = capacity, 0
        self._generator = torch.Generator().manual_seed(int(seed))
        self._images: Tensor | None = None
        self._labels: Tensor | None = None

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    @property
    def classes(self) -> Tensor:
        """Classes among the stored images, `(K,)`, ascending."""
        assert self._labels is not None
        return self._labels[: len(self)].unique()

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Offer images `(B, C, H, W)` with labels `(B,)` to the reservoir."""
        if self._images is None or self._labels is None:
            self._images = images.new_empty((self.capacity, *images.shape[1:]))
            self._labels = labels.new_empty(self.capacity)
        number = torch.arange(self.seen, self.seen + len(images))
        drawn = (torch.rand(len(images), generator=self._generator, dtype=torch.double) * (number + 1)).long()
        place = torch.where(number < self.capacity, number, drawn)
        rows = (place < self.capacity).nonzero()[:, 0]
        # If several images are assigned the same slot, the last one is stored.
        last = {int(place[row]): int(row) for row in rows}
        if last:
            into, chosen = torch.tensor(list(last)), torch.tensor(list(last.values()))
            self._images[into], self._labels[into] = images[chosen], labels[chosen]
        self.seen += len(images)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Images `(count, C, H, W)` and labels `(count,)`, with replacement.

        Raises:
            InputError: nothing has been added.

        """
        require(len(self) > 0, "memory", given="empty", expected="some images")
        assert self._images is not None
        assert self._labels is not None
        index = torch.randint(len(self), (count,), generator=self._generator)
        return self._images[index], self._labels[index]
