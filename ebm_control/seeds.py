"""Random streams of one seed that share nothing: with each other, or with those of another seed."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from ebm_control.checks import require_number, require_seed


def sequence(seed: int, purpose: str) -> np.random.SeedSequence:
    """The seed sequence of one `purpose` ("actions", say) under a user's `seed`.

    Seeds 0 and 1 would otherwise share streams wherever one is added to: `seed + i` of environment `i` is environment
    `i - 1` of the next seed, and a policy and an environment that are both seeded with `seed` draw the same numbers.

    Raises:
        InputError: `seed` is negative or no whole number.

    """
    require_number("seed", seed, 0, whole=True)
    return np.random.SeedSequence([int(seed), zlib.crc32(purpose.encode())])


def stream(seed: int, purpose: str) -> np.random.Generator:
    """NumPy generator for one purpose, its numbers independent of those for others."""
    return np.random.default_rng(sequence(seed, purpose))


def seeds(seed: int, purpose: str, count: int) -> list[int]:
    """`count` seeds below 2**31 for environments, spaces or torch generators; the first ones whatever `count` is."""
    state = sequence(seed, purpose).generate_state(count, np.uint32)
    return [int(value) >> 1 for value in state]


def torch_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """torch's generator of a seed, a NumPy number too, on a device.

    Raises:
        InputError: `seed` is negative, no whole number or more than torch takes.

    """
    require_seed("seed", seed)
    return torch.Generator(device).manual_seed(int(seed))
