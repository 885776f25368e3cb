"""Plain regression: Adam, the learning rate falling to 0 along a cosine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ebm_control.data.batch import Batch
from ebm_control.tensors import outside_inference_mode
from ebm_control.training.logger import Logger, as_figures


@outside_inference_mode
@torch.enable_grad()
def regress(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[Batch], Tensor],
    batches: Iterator[Batch],
    steps: int,
    *,
    learning_rate: float = 1e-3,
    gradient_clip: float | None = None,
    logger: Logger | None = None,
    name: str = "regression",
    figure: str = "loss",
) -> float:
    """Minimise a loss over batches: what base measures, inverse dynamics and baselines are fitted by.

    Also where the caller has switched gradients off.

    Args:
        parameters: to fit.
        loss_of: loss of a batch, a scalar.
        batches: endless.
        steps: of Adam.
        learning_rate: at the start.
        gradient_clip: largest gradient norm of a step, or None.
        logger: progress bar and events; None for neither.
        name: of the progress bar.
        figure: what the loss is logged as.

    Returns:
        The last loss; NaN after no steps.

    """
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    loss = torch.tensor(torch.nan)
    with logger or Logger(progress=False) as log:
        log.start(steps, name=name)
        for step in range(1, steps + 1):
            loss = loss_of(next(batches))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, gradient_clip)
            optimizer.step()
            scheduler.step()
            if step % log.every == 0:
                log.advance(step)
                log.figures(step, as_figures(**{figure: loss.detach()}))
    return float(loss.detach())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Networks take their first weights from the global generator, which is left as it was."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
