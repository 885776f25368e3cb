"""Independent random streams: for several purposes under one seed, and for different seeds."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from ebm_control.checks import require_number, require_seed


def sequence(seed: int, purpose: str) -> np.random.SeedSequence:
    """The seed sequence for one `purpose` (for example "actions") under a user's `seed`.

    With `seed + i` for environment `i` instead, seeds 0 and 1 would share streams: environment `i` would equal
    environment `i - 1` of the next seed. A policy and an environment with the same seed would draw the same numbers.

    Raises:
        InputError: `seed` is negative or not a whole number.

    """
    require_number("seed", seed, 0, whole=True)
    return np.random.SeedSequence([int(seed), zlib.crc32(purpose.encode())])


def stream(seed: int, purpose: str) -> np.random.Generator:
    """NumPy generator for one purpose, independent of those for other purposes."""
    return np.random.default_rng(sequence(seed, purpose))


def seeds(seed: int, purpose: str, count: int) -> list[int]:
    """`count` seeds below 2**31 for environments, spaces or torch generators; a greater `count` only appends more."""
    state = sequence(seed, purpose).generate_state(count, np.uint32)
    return [int(value) >> 1 for value in state]


def torch_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """torch's generator with a seed, which may be a NumPy integer, on a device.

    Raises:
        InputError: `seed` is negative, not a whole number, or greater than torch accepts.

    """
    require_seed("seed", seed)
    return torch.Generator(device).manual_seed(int(seed))
