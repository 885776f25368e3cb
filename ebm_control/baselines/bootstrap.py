"""Bootstraps for the members of an ensemble: how often each member's data contain each window."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def bootstrap_counts(members: int, windows: int, seed: int) -> Tensor:
    """Bootstrap counts `(members, windows)` for a fixed data set: `windows` draws with replacement per member.

    The bootstrap of Efron (1979), as used in PETS: the counts of a member sum to `windows`.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(windows, (members, windows), generator=generator)
    return torch.stack([row.bincount(minlength=windows) for row in drawn]).float()


def stream_bootstrap_counts(members: int, windows: int, seed: int) -> Tensor:
    """Bootstrap counts `(members, windows)` for growing data: independent Poisson(1) variables.

    This online bootstrap (Oza & Russell 2001) is the limit of the other one for many windows. Counts are drawn window
    by window, so those of earlier windows do not change when more are added. With draws with replacement every
    member's data would change in each round.
    """
    drawn = np.random.default_rng(seed).poisson(1.0, (windows, members))
    return torch.from_numpy(drawn).float().T.contiguous()
