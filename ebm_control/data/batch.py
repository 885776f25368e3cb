"""A batch of training data: samples with what belongs to them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Data samples, with what belongs to each.

    Attributes:
        x: `(B, *shape)` samples.
        context: `(B, ...)` what the energy is conditioned on, or None.
        index: `(B,)` which datum each sample is, for persistent chains that belong to a datum; or None.

    """

    x: Tensor
    context: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]  # a tuple has an index method
