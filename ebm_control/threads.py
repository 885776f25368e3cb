"""Torch's threads, chosen by the size of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ebm_control.provenance import usable_cores

# Floating-point operations of one pass forward and backward from which several threads pay where the other cores are
# busy. Each operation waits for its slowest thread, which waits for its turn. With one core of two busy, two threads
# took 5.8 times as long as one for 0.03e9 operations, 2.1 times for 0.4e9 and 0.7 times for 52e9. On quiet cores two
# threads save a quarter to a third from 0.1e9 on; that is given up.
LARGE = 1e10


def operations(parameters: Iterable[nn.Parameter], x: Tensor) -> float:
    """Floating-point operations of one pass forward and backward through a network, at most.

    Args:
        parameters: the network's parameters; matrices count for each row, kernels of convolutions for each place.
        x: a batch, `(B, D)`, `(B, T, D)` or `(B, C, H, W)`.

    """
    rows = x.shape[0] * (x.shape[1] if x.ndim == 3 else 1)
    places = rows * (x.shape[2:].numel() if x.ndim > 3 else 1)
    sizes = (p.numel() * (rows if p.ndim == 2 else places) for p in parameters if p.ndim >= 2)
    return 6.0 * sum(sizes)


@contextmanager
def threads_for(work: float | Callable[[], float]) -> Iterator[None]:
    """One thread within the block for small work; for large work all that torch may use and the process has cores for.

    Never more than torch has: `OMP_NUM_THREADS` and `torch.set_num_threads` of the user are upper bounds. The number is
    restored afterwards.

    Args:
        work: floating-point operations of one pass, see `operations`; or a function that counts them, which is called
            if torch has several threads.

    """
    before = wanted = torch.get_num_threads()
    if before > 1:
        wanted = min(before, usable_cores()) if (work() if callable(work) else work) >= LARGE else 1
    if wanted != before:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        if wanted != before:
            torch.set_num_threads(before)
