"""A batch of training data: samples with their context and index."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """A batch of data samples.

    Attributes:
        x: `(B, *shape)` samples.
        context: `(B, ...)` what the energy is conditioned on, or None.
        index: `(B,)` index of each sample's datum, for persistent chains that belong to a datum; or None.

    """

    x: Tensor
    context: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]  # a tuple has an index method
