"""Plain regression with Adam and a cosine learning rate schedule that ends at 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ebm_control.checks import require_number
from ebm_control.data.batch import Batch
from ebm_control.tensors import outside_inference_mode
from ebm_control.threads import operations, threads_for
from ebm_control.training.logger import Logger, as_metrics


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
    metric: str = "loss",
) -> float:
    """Minimise a loss over batches; used for base measures, inverse dynamics and baselines.

    It also works if the caller has disabled gradients.

    Args:
        parameters: parameters to fit.
        loss_of: loss of a batch, a scalar.
        batches: endless iterator of batches.
        steps: number of Adam steps.
        learning_rate: initial learning rate.
        gradient_clip: greatest gradient norm of a step, or None.
        logger: progress bar and events; None for neither.
        name: name in the progress bar.
        metric: name under which the loss is logged.

    Returns:
        The last loss; NaN after no steps.

    Raises:
        InputError: a setting is out of range.

    """
    require_number("steps", steps, 0, whole=True)
    require_number("learning_rate", learning_rate, 0, above=True)
    if gradient_clip is not None:
        require_number("gradient_clip", gradient_clip, 0, above=True)
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    loss = torch.tensor(torch.nan)
    with logger or Logger(progress=False) as log:
        log.start(steps, name=name)
        for step in range(1, steps + 1):
            batch = next(batches)
            with threads_for(operations(parameters, batch.x)):
                loss = loss_of(batch)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if gradient_clip is not None:
                    torch.nn.utils.clip_grad_norm_(parameters, gradient_clip)
                optimizer.step()
            scheduler.step()
            if step % log.every == 0:
                log.advance(step)
                log.metrics(step, as_metrics(**{metric: loss.detach()}))
    return float(loss.detach())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator, which sets initial weights, for the block and restore it afterwards."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
