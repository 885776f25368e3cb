"""Bootstraps of an ensemble's members: how often each member's data hold each window."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def bootstrap_counts(members: int, windows: int, seed: int) -> Tensor:
    """Of data that are all there: `windows` drawn with replacement by each member, `(members, windows)` counts.

    The bootstrap of Efron (1979), as in PETS: the counts of a member sum to `windows`.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(windows, (members, windows), generator=generator)
    return torch.stack([row.bincount(minlength=windows) for row in drawn]).float()


def stream_bootstrap_counts(members: int, windows: int, seed: int) -> Tensor:
    """Of data that go on growing: independent Poisson(1) counts, `(members, windows)`.

    The bootstrap of a stream (Oza & Russell 2001), the limit of the other one for many windows. Counts are drawn window
    by window, so that those of earlier windows stay as they are when more come: with draws with replacement every
    member would change its data in each round.
    """
    drawn = np.random.default_rng(seed).poisson(1.0, (windows, members))
    return torch.from_numpy(drawn).float().T.contiguous()
