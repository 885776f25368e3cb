"""How far a cloud of predicted futures is from what happened: laws, errors, ranks, modes and ranges.

All figures are computed in float64, whatever the inputs are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_control.checks import require, require_finite, require_number, require_shape
from ebm_control.energies.layout import TrajectoryLayout

_BLOCK = 2**21  # distances held at a time, 16 MiB
_SHARE = 0.25  # of a mode's probability, that its frequency has to reach for the mode to be covered
_ROUNDING = 1e-6  # relative: probabilities often come from float32, where 0.01 is less than 0.01


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance between Gaussians fitted to two samples.

    `|μa - μb|² + tr(Ca + Cb - 2 (Ca Cb)^½)` (Dowson & Landau 1982), with unbiased covariances, as Heusel et al.
    2017 use it on a network's features (FID). Covariances may be singular. Few rows bias it upwards: compare figures
    of equal N and M only.

    Args:
        a: `(N, F)`, N >= 2 rows.
        b: `(M, F)`, M >= 2 rows.

    Returns:
        The distance in squared units of the features, never negative.

    Raises:
        InputError: other shapes, or values that are not finite.

    """
    a, b = _two_samples(a, b)
    mean_a, covariance_a = _gaussian(a)
    mean_b, covariance_b = _gaussian(b)
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    # Ca Cb is not symmetric, but has the eigenvalues of this, which is: real, and below 0 by rounding alone.
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

    A segment is the `length` states up to state `end - 1`, and the displacements between them. States show where
    futures are at a horizon, displacements whether they move as they should there.

    Args:
        states: `(..., T, obs_dim)`; values that are not finite stay so.
        layout: which coordinates are periodic; those are sine and cosine among the states, and the shorter way round
            among the displacements.
        end: the horizon: states `end - length` to `end - 1` are read.
        length: states in a segment, L.
        state_unit: `(obs_dim,)` what plain coordinates are divided by; sine and cosine are not.
        displacement_unit: `(obs_dim,)` what displacements are divided by.

    Returns:
        `(N, L * feature_dim + (L - 1) * obs_dim)` with N the product of the leading axes: states in their order,
        each as in `layout.features`, then displacements in theirs.

    Raises:
        InputError: other shapes, a segment that is not within T, or a unit that is not positive.

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
    """Energy distance between the laws of two samples, with no assumption on their form.

    `2 E|X - Y| - E|X - X'| - E|Y - Y'|` with Euclidean norms (Székely & Rizzo 2013), 0 for equal laws only. Every
    expectation is a mean over pairs of different rows (a U-statistic): unbiased, so slightly negative about half
    the time where laws are equal. `scipy.stats.energy_distance` is the square root of its biased version.

    Args:
        a: `(N, F)`, N >= 2 rows.
        b: `(M, F)`, M >= 2 rows.
        most: rows of either that are compared; where there are more, this many are drawn.
        seed: of that draw.

    Returns:
        The distance in units of the features.

    Raises:
        InputError: other shapes, values that are not finite, or `most` below 2.

    """
    a, b = _two_samples(a, b)
    require_number("most", most, 2, whole=True)
    generator = torch.Generator().manual_seed(seed)
    a, b = (
        x if len(x) <= most else x[torch.randperm(len(x), generator=generator)[:most].to(x.device)]
        for x in (a, b)
    )
    # Distances of rows far from 0 lose digits.
    centre = torch.cat([a, b]).mean(dim=0)
    a, b, n, m = a - centre, b - centre, len(a), len(b)
    across = _sum_of_distances(a, b) / (n * m)
    # A row is no distance from itself: those n pairs add nothing to the sum, and are left out of the count.
    within = _sum_of_distances(a, a) / (n * (n - 1)) + _sum_of_distances(b, b) / (m * (m - 1))
    return 2 * across - within


def rmse_of_mean(futures: Tensor, truth: Tensor, layout: TrajectoryLayout, unit: Tensor) -> Tensor:
    """Root mean squared error of the mean future at every step, over N cases and all coordinates.

    The mean is taken over errors, as in `prediction_error`: periodic coordinates have no plain mean, their errors do.

    Args:
        futures: `(N, K, T, obs_dim)`, K futures a case. One that is not finite is infinitely far.
        truth: `(N, T, obs_dim)`, finite.
        layout: which coordinates are periodic.
        unit: `(obs_dim,)` of the errors, such as a state's standard deviation.

    Returns:
        `(T,)`.

    Raises:
        InputError: other shapes, a truth that is not finite, or a unit that is not positive.

    """
    squared = _errors(futures, truth, layout, unit).mean(dim=1).square()
    return _far_where_not_finite(squared).mean(dim=(0, 2)).sqrt()


def rmse_of_sample(futures: Tensor, truth: Tensor, layout: TrajectoryLayout, unit: Tensor) -> Tensor:
    """Root mean squared error of a single future at every step, over N cases, K futures and all coordinates.

    Arguments, result and errors as in `rmse_of_mean`.
    """
    squared = _errors(futures, truth, layout, unit).square()
    return _far_where_not_finite(squared).mean(dim=(0, 1, 3)).sqrt()


def rmse_best_of(futures: Tensor, truth: Tensor, layout: TrajectoryLayout, unit: Tensor) -> Tensor:
    """Root mean squared error at every step of the future that came closest all the way to that step.

    At step t one of the K futures is chosen for each case: the one with the least squared error averaged over steps
    0 to t and all coordinates. The figure is the error of that one at step t alone. So a future has to be right from
    the start to count, whereas `PredictionError.rmse_best` chooses anew at each step by the error there, and is
    never larger.

    Arguments, result and errors as in `rmse_of_mean`.
    """
    squared = _far_where_not_finite(_errors(futures, truth, layout, unit).square()).mean(dim=-1)
    # The sum up to t orders futures as the mean up to t does.
    chosen = squared.cumsum(dim=-1).argmin(dim=1, keepdim=True)
    return squared.gather(1, chosen).mean(dim=(0, 1)).sqrt()


def rank_histogram(futures: Tensor, truth: Tensor, at: int, generator: torch.Generator) -> Tensor:
    """How often the truth has each rank among its K futures: flat where it might be one of them (Hamill 2001).

    Heaped at both ends, futures are too narrow; in the middle, too wide; at one end, shifted.
    Periodic coordinates have no ranks: give `layout.difference` from the last known state instead, both of the
    futures and of the truth. (From the truth it would not do, the truth would lie in their middle.)

    Args:
        futures: `(N, K, T, d)`.
        truth: `(N, T, d)`.
        at: the step that is looked at, 0 to T - 1.
        generator: splits ties: a truth equal to some futures has any of the ranks among them with equal chance.

    Returns:
        `(K + 1, d)` integer counts: in row r, cases with r futures below the truth. Columns sum to N.

    Raises:
        InputError: other shapes, a step that there is not, or values there that are not finite.

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
    """Total variation between a rank histogram and the uniform one, averaged over coordinates.

    Calibrated futures are not at 0 but near `sqrt(K / (2π N))`, which is what N cases scatter.

    Args:
        histogram: `(K + 1, d)` counts as in `rank_histogram`.

    Returns:
        From 0 (flat) to `K / (K + 1)` (always the same rank).

    Raises:
        InputError: other shapes, negative or non-finite counts, or a coordinate without any.

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
    """How well K samples a case meet modes of known probability.

    Attributes:
        covered: share of all modes that matter, over N cases, whose frequency is at least a quarter of their
            probability.
        total_variation: between frequencies and probabilities, samples off every mode counted as an outcome of
            probability 0; mean over N cases. K samples of the true law are above 0 too.
        off_mode: share of samples off every mode.

    """

    covered: float
    total_variation: float
    off_mode: float


def mode_coverage(labels: Tensor, probabilities: Tensor, *, least: float = 0.01) -> ModeCoverage:
    """Compare which modes samples fell into with the probabilities of the modes.

    Args:
        labels: `(N, K)` integers: the mode of each of K samples in N cases, 0 to M - 1, or -1 for none.
        probabilities: `(N, M)` of the modes, each row sums to 1. Modes that a case lacks have 0.
        least: probability from which a mode matters, and counts for `ModeCoverage.covered`; above 0, so that a
            covered mode has at least one sample.

    Raises:
        InputError: other shapes, labels of no mode, probabilities that are none, or no mode that matters.

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
    """Shares of rollouts that are finite at every step, and that are finite and stay within a box.

    Args:
        states: `(N, T, obs_dim)`.
        low: `(obs_dim,)` least values, in the box; -inf for none.
        high: `(obs_dim,)` greatest values, in the box; inf for none.

    Raises:
        InputError: other shapes, no rollout, or `low` above `high`.

    """
    require_shape("states", states, (None, None, None))
    _require_some("states", states)
    require_shape("low", low, (states.shape[-1],))
    require_shape("high", high, (states.shape[-1],))
    # In the states' own precision, so that one clamped to a bound is within it.
    states = states if states.is_floating_point() else states.double()
    low, high = low.to(states), high.to(states)
    require(bool((low <= high).all()), "low", given=low.tolist(), expected=f"at most high, {high.tolist()}")
    finite = states.isfinite().flatten(1).all(dim=1)
    within = ((states >= low) & (states <= high)).flatten(1).all(dim=1)
    return float(finite.double().mean()), float((finite & within).double().mean())


def _gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(F,)` and unbiased covariance `(F, F)` of rows `(N, F)`."""
    mean = x.mean(dim=0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def _sum_of_distances(a: Tensor, b: Tensor) -> float:
    """Sum of the Euclidean distances of all pairs of rows, a block of rows at a time."""
    return sum(float(torch.cdist(rows, b).sum()) for rows in a.split(max(1, _BLOCK // len(b))))


def _errors(futures: Tensor, truth: Tensor, layout: TrajectoryLayout, unit: Tensor) -> Tensor:
    """Errors `(N, K, T, obs_dim)` of futures in `unit`, after checks."""
    require_shape("truth", truth, (None, None, layout.obs_dim))
    _check_futures(futures, truth)
    require_finite("truth", truth)
    unit = _unit("unit", unit, truth)
    return layout.difference(futures.to(torch.float64), truth[:, None].to(torch.float64)) / unit


def _far_where_not_finite(squared: Tensor) -> Tensor:
    """`squared` errors, infinite where they are NaN: the least of several is then never one that broke down."""
    return squared.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _two_samples(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two samples in float64, or `InputError` unless they are finite `(N, F)` and `(M, F)` of 2 rows or more."""
    require_shape("a", a, (None, None))
    _require_some("a", a)
    require_shape("b", b, (None, a.shape[1]))
    for argument, x in (("a", a), ("b", b)):
        require(len(x) >= 2, argument, given=len(x), expected="at least 2 rows")
        require_finite(argument, x)
    return a.to(torch.float64), b.to(torch.float64)


def _unit(argument: str, unit: Tensor, states: Tensor) -> Tensor:
    """`unit` in float64 beside `states`, or `InputError` unless it has a positive figure per coordinate."""
    require_shape(argument, unit, (states.shape[-1],))
    require_finite(argument, unit)
    require(bool((unit > 0).all()), argument, given=unit.tolist(), expected="positive figures")
    return unit.to(device=states.device, dtype=torch.float64)


def _check_futures(futures: Tensor, truth: Tensor) -> None:
    """Raise `InputError` unless futures `(N, K, T, d)` belong to a truth `(N, T, d)`, none of them 0."""
    require_shape("truth", truth, (None, None, None))
    n, steps, dim = truth.shape
    require_shape("futures", futures, (n, None, steps, dim))
    _require_some("futures", futures)


def _check_modes(labels: Tensor, probabilities: Tensor, least: float) -> None:
    """Raise `InputError` unless `mode_coverage` can read these."""
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
