"""Metrics that compare predicted futures with the truth: distributions, errors, ranks, modes and ranges.

All metrics are computed in float64, whatever the dtype of the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require, require_finite, require_number, require_shape
from ebm_control.energies.layout import TrajectoryLayout

_BLOCK = 2**21  # distances in memory at a time, 16 MiB
_SHARE = 0.25  # fraction of a mode's probability that its frequency must reach for the mode to be covered
_ROUNDING = 1e-6  # relative tolerance: probabilities often come from float32, where 0.01 is less than 0.01


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance between Gaussians fitted to two samples.

    `|μa - μb|² + tr(Ca + Cb - 2 (Ca Cb)^½)` (Dowson & Landau 1982), with unbiased covariances. Heusel et al. 2017
    apply it to a network's features (FID). Covariances may be singular. Small samples bias it upwards: compare
    values of equal N and M only.

    Args:
        a: `(N, F)` samples, N >= 2.
        b: `(M, F)` samples, M >= 2.

    Returns:
        The distance in squared units of the features, never negative.

    Raises:
        InputError: a shape is wrong, or a value is not finite.

    """
    a, b = _two_samples(a, b)
    mean_a, covariance_a = _gaussian(a)
    mean_b, covariance_b = _gaussian(b)
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    # Ca Cb is not symmetric, but it has the eigenvalues of this symmetric matrix, which are negative only by rounding.
    shared = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp_min(0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * shared
    return max(float(distance), 0.0)


def segment_features(
    states: Tensor,
    layout: TrajectoryLayout,
    *,
    end: int,
    length: int = 3,
    state_unit: Tensor,
    displacement_unit: Tensor,
) -> Tensor:
    """Short segments of trajectories as vectors, for `frechet_distance` and `energy_distance`.

    A segment consists of the `length` states up to state `end - 1` and the displacements between them. States show
    where futures are at a horizon, displacements whether their motion there is right.

    Args:
        states: `(..., T, obs_dim)`; values that are not finite remain so.
        layout: which coordinates are periodic; they are represented by sine and cosine among the states, and by the
            shorter direction among the displacements.
        end: the horizon: states `end - length` to `end - 1` are used.
        length: states in a segment, L.
        state_unit: `(obs_dim,)` divisor of plain coordinates; sine and cosine are not divided.
        displacement_unit: `(obs_dim,)` divisor of displacements.

    Returns:
        `(N, L * feature_dim + (L - 1) * obs_dim)` with N the product of the leading axes: states in order of time,
        each in the form of `layout.features`, then displacements in order of time.

    Raises:
        InputError: a shape is wrong, a segment is not within T, or a unit is not positive.

    """
    require(
        states.ndim >= 2 and states.shape[-1] == layout.obs_dim,
        "states",
        given=f"shape {tuple(states.shape)}",
        expected=f"shape (..., T, {layout.obs_dim})",
    )
    require_number("length", length, 1, whole=True)
    require(
        length <= end <= states.shape[-2],
        "end",
        given=end,
        expected=f"{length} (length) to {states.shape[-2]}, the states there are",
    )
    state_unit = _unit("state_unit", state_unit, states)
    displacement_unit = _unit("displacement_unit", displacement_unit, states)
    segment = states[..., end - length : end, :].to(torch.float64)
    # layout.features puts plain coordinates first, whatever their order among the states.
    plain = [i for i in range(layout.obs_dim) if i not in layout.periodic]
    unit = torch.cat([state_unit[plain], state_unit.new_ones(2 * len(layout.periodic))])
    features = layout.features(segment) / unit
    displacements = layout.difference(segment[..., 1:, :], segment[..., :-1, :]) / displacement_unit
    vectors = torch.cat([features.flatten(-2), displacements.flatten(-2)], dim=-1)
    return vectors.reshape(states.shape[:-2].numel(), vectors.shape[-1])


def energy_distance(a: Tensor, b: Tensor, *, most: int = 4000, seed: int = 0) -> float:
    """Energy distance between the distributions of two samples, without assumptions on their form.

    `2 E|X - Y| - E|X - X'| - E|Y - Y'|` with Euclidean norms (Székely & Rizzo 2013), 0 only for equal distributions.
    Every expectation is a mean over pairs of different samples (a U-statistic). The estimate is unbiased, so it is
    slightly negative about half the time for equal distributions. `scipy.stats.energy_distance` is the square root
    of its biased version.

    Args:
        a: `(N, F)` samples, N >= 2.
        b: `(M, F)` samples, M >= 2.
        most: largest number of samples used from each of `a` and `b`; from more, this many are drawn.
        seed: seed of that draw.

    Returns:
        The distance in units of the features.

    Raises:
        InputError: a shape is wrong, a value is not finite, or `most` is below 2.

    """
    a, b = _two_samples(a, b)
    require_number("most", most, 2, whole=True)
    generator = torch.Generator().manual_seed(int(seed))
    a, b = (
        x if len(x) <= most else x[torch.randperm(len(x), generator=generator)[:most].to(x.device)]
        for x in (a, b)
    )
    # Without centring, distances between points far from 0 lose digits.
    centre = torch.cat([a, b]).mean(dim=0)
    a, b, n, m = a - centre, b - centre, len(a), len(b)
    across = _sum_of_distances(a, b) / (n * m)
    # The n pairs of a sample with itself add 0 to the sum, and are not counted.
    within = _sum_of_distances(a, a) / (n * (n - 1)) + _sum_of_distances(b, b) / (m * (m - 1))
    return 2 * across - within


def rmse_of_mean(futures: Tensor, truth: Tensor, layout: TrajectoryLayout, unit: Tensor) -> Tensor:
    """Root mean squared error of the mean future at every step, over N cases and all coordinates.

    The mean is taken over errors, as in `prediction_error`, because periodic coordinates have no plain mean.

    Args:
        futures: `(N, K, T, obs_dim)`, K futures per case. A future that is not finite has infinite error.
        truth: `(N, T, obs_dim)`, finite.
        layout: which coordinates are periodic.
        unit: `(obs_dim,)` divisor of the errors, such as a state's standard deviation.

    Returns:
        `(T,)` errors.

    Raises:
        InputError: a shape is wrong, the truth is not finite, or a unit is not positive.

    """
    squared = _errors(futures, truth, layout, unit).mean(dim=1).square()
    return _far_where_not_finite(squared).mean(dim=(0, 2)).sqrt()


def rmse_of_sample(futures: Tensor, truth: Tensor, layout: TrajectoryLayout, unit: Tensor) -> Tensor:
    """Root mean squared error of a single future at every step, over N cases, K futures and all coordinates.

    Arguments, result and errors are those of `rmse_of_mean`.
    """
    squared = _errors(futures, truth, layout, unit).square()
    return _far_where_not_finite(squared).mean(dim=(0, 1, 3)).sqrt()


def rmse_best_of(futures: Tensor, truth: Tensor, layout: TrajectoryLayout, unit: Tensor) -> Tensor:
    """Root mean squared error at every step of the future that is best over all steps up to that one.

    For each case and step t, one of the K futures is chosen: the one with the smallest squared error averaged over
    steps 0 to t and all coordinates. The metric is the error of this future at step t. So a future must be right
    from the start to count. `PredictionError.rmse_best` chooses again at each step by the error there, and is
    never larger.

    Arguments, result and errors are those of `rmse_of_mean`.
    """
    squared = _far_where_not_finite(_errors(futures, truth, layout, unit).square()).mean(dim=-1)
    # The cumulative sum up to t gives the same order of futures as the mean up to t.
    chosen = squared.cumsum(dim=-1).argmin(dim=1, keepdim=True)
    return squared.gather(1, chosen).mean(dim=(0, 1)).sqrt()


def rank_histogram(futures: Tensor, truth: Tensor, at: int, generator: torch.Generator) -> Tensor:
    """How often the truth has each rank among its K futures (Hamill 2001); uniform for calibrated futures.

    Counts concentrated at both ends show futures that are too narrow; in the middle, too wide; at one end, biased.
    Periodic coordinates have no ranks: pass `layout.difference` from the last observed state instead, for both the
    futures and the truth. (Differences from the truth would always put the truth in the middle.)

    Args:
        futures: `(N, K, T, d)`.
        truth: `(N, T, d)`.
        at: the evaluated step, 0 to T - 1.
        generator: breaks ties: a truth equal to some futures has each of the ranks among them with equal chance.

    Returns:
        `(K + 1, d)` integer counts: entry r is the number of cases with r futures below the truth. Columns sum to N.

    Raises:
        InputError: a shape is wrong, the step does not exist, or values at that step are not finite.

    """
    _check_futures(futures, truth)
    n, k, steps, dim = futures.shape
    require(0 <= at < steps, "at", given=at, expected=f"a step, 0 to {steps - 1}")
    cloud, value = futures[:, :, at].to(torch.float64), truth[:, None, at].to(torch.float64)
    require_finite("futures", cloud)
    require_finite("truth", value)
    below, equal = (cloud < value).sum(dim=1), (cloud == value).sum(dim=1)
    chance = torch.rand(n, dim, generator=generator, dtype=torch.float64, device=generator.device)
    rank = below + (chance.to(equal.device) * (equal + 1)).long()
    return rank.new_zeros(k + 1, dim).scatter_add_(0, rank, torch.ones_like(rank))


def calibration_error(histogram: Tensor) -> float:
    """Total variation distance between a rank histogram and the uniform one, averaged over coordinates.

    For calibrated futures it is not 0 but near `sqrt(K / (2π N))`, because N cases fluctuate.

    Args:
        histogram: `(K + 1, d)` counts from `rank_histogram`.

    Returns:
        A value from 0 (uniform) to `K / (K + 1)` (always the same rank).

    Raises:
        InputError: a shape is wrong, counts are negative or not finite, or a coordinate has no counts.

    """
    require_shape("histogram", histogram, (None, None))
    _require_some("histogram", histogram)
    require_finite("histogram", histogram)
    counts = histogram.to(torch.float64)
    ranks, total = len(counts), counts.sum(dim=0)
    require(
        bool((counts >= 0).all()) and bool((total > 0).all()),
        "histogram",
        given=f"least count {float(counts.min())} and least sum {float(total.min())}",
        expected="counts of 0 or more, some in every column",
    )
    return float((counts / total - 1 / ranks).abs().sum(dim=0).mean() / 2)


@dataclass(frozen=True)
class ModeCoverage:
    """How well K samples per case match modes with given probabilities.

    Attributes:
        covered: fraction of all relevant modes, over N cases, whose frequency is at least a quarter of their
            probability.
        total_variation: distance between frequencies and probabilities, where samples outside every mode count as an
            outcome of probability 0; mean over N cases. It is above 0 even for K samples of the true distribution.
        off_mode: fraction of samples outside every mode.

    """

    covered: float
    total_variation: float
    off_mode: float


def mode_coverage(labels: Tensor, probabilities: Tensor, *, least: float = 0.01) -> ModeCoverage:
    """Compare the modes of samples with the probabilities of the modes.

    Args:
        labels: `(N, K)` integers: the mode of each of K samples in N cases, 0 to M - 1, or -1 for no mode.
        probabilities: `(N, M)` of the modes, summing to 1 per case. Modes that a case lacks have 0.
        least: smallest probability of a relevant mode, which counts for `ModeCoverage.covered`; above 0, so that a
            covered mode has at least one sample.

    Raises:
        InputError: a shape is wrong, a label or a probability is invalid, or no mode is relevant.

    """
    _check_modes(labels, probabilities, least)
    n, k = labels.shape
    expected = probabilities.to(torch.float64)
    counts = expected.new_zeros(n, expected.shape[1] + 1)
    index = labels.to(device=expected.device, dtype=torch.int64) + 1
    frequency = counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.float64)) / k
    off, frequency = frequency[:, 0], frequency[:, 1:]
    matters = expected >= least * (1 - _ROUNDING)
    bound = f"at most the greatest probability, {float(expected.max())}"
    require(bool(matters.any()), "least", given=least, expected=bound)
    met = frequency >= _SHARE * expected * (1 - _ROUNDING)
    variation = ((frequency - expected).abs().sum(dim=1) + off) / 2
    return ModeCoverage(float(met[matters].double().mean()), float(variation.mean()), float(off.mean()))


def finite_and_in_range(states: Tensor, low: Tensor, high: Tensor) -> tuple[float, float]:
    """Fraction of rollouts that are finite at every step, and fraction that also stays within a box.

    Args:
        states: `(N, T, obs_dim)`.
        low: `(obs_dim,)` lower bounds, inclusive; -inf for no bound.
        high: `(obs_dim,)` upper bounds, inclusive; inf for no bound.

    Raises:
        InputError: a shape is wrong, there is no rollout, or `low` is above `high`.

    """
    require_shape("states", states, (None, None, None))
    _require_some("states", states)
    require_shape("low", low, (states.shape[-1],))
    require_shape("high", high, (states.shape[-1],))
    # In the dtype of the states, so that a state clamped to a bound is within it.
    states = states if states.is_floating_point() else states.double()
    low, high = low.to(states), high.to(states)
    require(bool((low <= high).all()), "low", given=low.tolist(), expected=f"at most high, {high.tolist()}")
    finite = states.isfinite().flatten(1).all(dim=1)
    within = ((states >= low) & (states <= high)).flatten(1).all(dim=1)
    return float(finite.double().mean()), float((finite & within).double().mean())


def _gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(F,)` and unbiased covariance `(F, F)` of samples `(N, F)`."""
    mean = x.mean(dim=0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def _sum_of_distances(a: Tensor, b: Tensor) -> float:
    """Sum of the Euclidean distances of all pairs of samples, computed in blocks."""
    return sum(float(torch.cdist(rows, b).sum()) for rows in a.split(max(1, _BLOCK // len(b))))


def _errors(futures: Tensor, truth: Tensor, layout: TrajectoryLayout, unit: Tensor) -> Tensor:
    """Errors `(N, K, T, obs_dim)` of futures in `unit`, after checks."""
    require_shape("truth", truth, (None, None, layout.obs_dim))
    _check_futures(futures, truth)
    require_finite("truth", truth)
    unit = _unit("unit", unit, truth)
    return layout.difference(futures.to(torch.float64), truth[:, None].to(torch.float64)) / unit


def _far_where_not_finite(squared: Tensor) -> Tensor:
    """`squared` errors with NaN replaced by infinity, so that the minimum never selects a failed future."""
    return squared.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _two_samples(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two samples in float64; raises `InputError` unless they are finite `(N, F)` and `(M, F)` with N, M >= 2."""
    require_shape("a", a, (None, None))
    _require_some("a", a)
    require_shape("b", b, (None, a.shape[1]))
    for argument, x in (("a", a), ("b", b)):
        require(len(x) >= 2, argument, given=len(x), expected="at least 2 rows")
        require_finite(argument, x)
    return a.to(torch.float64), b.to(torch.float64)


def _unit(argument: str, unit: Tensor, states: Tensor) -> Tensor:
    """`unit` in float64 on the device of `states`; raises `InputError` unless it has `obs_dim` positive values."""
    require_shape(argument, unit, (states.shape[-1],))
    require_finite(argument, unit)
    require(bool((unit > 0).all()), argument, given=unit.tolist(), expected="positive numbers")
    return unit.to(device=states.device, dtype=torch.float64)


def _check_futures(futures: Tensor, truth: Tensor) -> None:
    """Raise `InputError` unless futures `(N, K, T, d)` fit the truth `(N, T, d)` and no axis is empty."""
    require_shape("truth", truth, (None, None, None))
    n, steps, dim = truth.shape
    require_shape("futures", futures, (n, None, steps, dim))
    _require_some("futures", futures)


def _check_modes(labels: Tensor, probabilities: Tensor, least: float) -> None:
    """Raise `InputError` unless these are valid arguments of `mode_coverage`."""
    require_shape("labels", labels, (None, None))
    _require_some("labels", labels)
    integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    require(integer, "labels", given=labels.dtype, expected="integers")
    require_shape("probabilities", probabilities, (len(labels), None))
    _require_some("probabilities", probabilities)
    require_finite("probabilities", probabilities)
    sums, lowest = probabilities.to(torch.float64).sum(dim=1), float(probabilities.min())
    require(
        lowest >= 0 and bool(((sums - 1).abs() < 1e-4).all()),
        "probabilities",
        given=f"sums from {float(sums.min())} to {float(sums.max())} and a least value of {lowest}",
        expected="rows of 0 or more that sum to 1",
    )
    first, last, modes = int(labels.min()), int(labels.max()), probabilities.shape[1]
    expected = f"-1 (no mode) to {modes - 1}"
    require(first >= -1 and last < modes, "labels", given=f"{first} to {last}", expected=expected)
    require_number("least", least, 0, 1, above=True)


def _require_some(argument: str, value: Tensor) -> None:
    """Raise `InputError` if `value` has an axis of length 0."""
    require(value.numel() > 0, argument, given=f"shape {tuple(value.shape)}", expected="no axis of length 0")
