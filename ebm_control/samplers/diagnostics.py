"""Diagnostics of chains: effective sample size and split R-hat."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm_control.checks import require, require_tensor


def effective_sample_size(trace: Tensor) -> Tensor:
    """Effective sample size of the mean of every coordinate, over all chains.

    Geyer's initial monotone sequence on the autocovariances pooled over chains (Gelman et al., Bayesian Data
    Analysis 3; Vehtari et al. 2021).

    Args:
        trace: `(n, B, *shape)`, n >= 4 states of B chains, for example `Chain.trace`.

    Returns:
        `(*shape)` sizes, at most `n B log10(n B)` (antithetic chains may exceed `n B`).

    """
    _check(trace)
    n, chains = trace.shape[:2]
    x = trace.to(torch.float64)
    centred = x - x.mean(dim=0)
    spectrum = torch.fft.rfft(centred, n=2 * n, dim=0)
    power = (spectrum * spectrum.conj()).real
    covariance = torch.fft.irfft(power, n=2 * n, dim=0)[:n].mean(dim=1) / n
    within = covariance[0] * n / (n - 1)
    between = x.mean(dim=0).var(dim=0) if chains > 1 else torch.zeros_like(within)
    total = within * (n - 1) / n + between
    correlation = 1 - (within - covariance * n / (n - 1)) / total.clamp_min(1e-300)
    correlation[0] = 1
    pairs = correlation[0 : 2 * (n // 2) : 2] + correlation[1 : 2 * (n // 2) : 2]
    positive = (pairs > 0).to(torch.int64).cumprod(dim=0)
    monotone = torch.where(positive.bool(), pairs, torch.inf).cummin(dim=0).values
    monotone = torch.where(positive.bool(), monotone, 0.0)
    time = (2 * monotone.sum(dim=0) - 1).clamp_min(1 / torch.log10(torch.tensor(float(n * chains))))
    return n * chains / time


def split_rhat(trace: Tensor) -> Tensor:
    """Split R-hat of every coordinate: 1 if chains, and both halves of each, agree (Gelman et al. 2013).

    Args:
        trace: `(n, B, *shape)`, n >= 4.

    Returns:
        `(*shape)` values of R-hat.

    """
    _check(trace)
    half = trace.shape[0] // 2
    x = torch.cat([trace[:half], trace[-half:]], dim=1).to(torch.float64)
    within = x.var(dim=0).mean(dim=0)
    between = x.mean(dim=0).var(dim=0)
    return ((within * (half - 1) / half + between) / within).sqrt()


def _check(trace: Tensor) -> None:
    require_tensor("trace", trace)
    require(
        trace.ndim >= 2 and trace.shape[0] >= 4,
        "trace",
        given=f"shape {tuple(trace.shape)}",
        expected="(n, B, *shape) with n >= 4",
    )
