import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from ebm_control.checks import InputError
from ebm_control.energies import TrajectoryLayout
from ebm_control.prediction import metrics as m
from tests.helpers import normal, seeded

NAN, INF = float("nan"), float("inf")
LINE, PLAIN, ONE = TrajectoryLayout(1), TrajectoryLayout(2), torch.ones(2)
TURNING = TrajectoryLayout(3, periods=(0.0, 4.0, 0.0))  # a period of 4: no unit is 1 by chance
UNITS = {"state_unit": ONE, "displacement_unit": ONE}
DISTANCES = m.frechet_distance, m.energy_distance
ERRORS = m.rmse_of_mean, m.rmse_of_sample, m.rmse_best_of


def rotation(dim, seed):
    return torch.linalg.qr(normal(dim, dim, seed=seed)).Q


def test_gaussians_with_diagonal_covariances_are_apart_by_means_and_deviations():
    white = torch.cat([torch.eye(3), -torch.eye(3)]) * math.sqrt(5 / 2)  # of unit covariance
    a, b = white * tensor([1.0, 3.0, 0.5]) + tensor([1.0, 2.0, 0.0]), white * tensor([2.0, 1.0, 0.5])
    assert m.frechet_distance(a, b) == pytest.approx((1 + 4) + (1 + 4), rel=1e-6)


def test_gaussians_with_full_covariances_agree_with_a_matrix_square_root():
    a, b = normal(50, 4) @ normal(4, 4, seed=1), normal(70, 4, seed=2) @ normal(4, 4, seed=3) + 0.5
    means, covariances = (a.mean(dim=0) - b.mean(dim=0)).square().sum(), [np.cov(x.T.numpy()) for x in (a, b)]
    shared = np.trace(scipy.linalg.sqrtm(covariances[0] @ covariances[1])).real
    expected = float(means) + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * shared
    assert m.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances_have_a_distance():
    """Two segments of a line at right angles have nothing in common, parallel ones are apart by deviations."""
    x, y = tensor([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]]), tensor([[0, -2.0, 0], [0, 0, 0], [0, 2, 0]])
    assert m.frechet_distance(x, y) == pytest.approx(1 + 4, abs=1e-6)
    assert m.frechet_distance(x, 3 * x) == pytest.approx(4, abs=1e-6)
    point = torch.zeros(2, 3)
    assert m.frechet_distance(point, y) == pytest.approx(4, abs=1e-6)
    assert m.frechet_distance(point, point + 1) == pytest.approx(3)


def test_fewer_rows_than_features_have_a_distance():
    few, turn = normal(6, 20), rotation(20, 1)
    assert m.frechet_distance(few, few + 1) == pytest.approx(20, abs=1e-5)
    assert m.frechet_distance(few + 1e3, few + 1e3) < 1e-5
    other = normal(8, 20, seed=2)
    assert m.frechet_distance(few @ turn, other @ turn) == pytest.approx(m.frechet_distance(few, other))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(1e-3, 1e3))
def test_the_frechet_distance_is_symmetric_never_negative_and_scales_squared(seed, dim, scale):
    a, b, turn = normal(9, dim, seed=seed), normal(12, dim, seed=seed + 1), rotation(dim, seed)
    distance = m.frechet_distance(a, b)
    assert distance > 0
    assert m.frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-6)
    assert m.frechet_distance(a, a.flip(0)) >= 0
    assert m.frechet_distance(b, a) == pytest.approx(distance, rel=1e-6)
    changed = m.frechet_distance(scale * a @ turn, scale * b @ turn)
    assert changed == pytest.approx(scale**2 * distance, rel=1e-6)


def test_the_energy_distance_agrees_with_scipy_in_one_dimension():
    a, b = normal(300, 1), 0.3 + 1.5 * normal(200, 1, seed=1)
    within = [float((x - x.T).abs().mean()) for x in (a, b)]
    # Scipy's figure is a root, and counts every row with itself.
    biased = scipy.stats.energy_distance(a[:, 0], b[:, 0]) ** 2
    expected = biased + sum(w - w * len(x) / (len(x) - 1) for w, x in zip(within, (a, b), strict=True))
    assert m.energy_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_equal_laws_are_at_distance_0_in_the_mean():
    """A biased estimate would be off by E|X - X'| (1/n + 1/m), which is far more than the mean scatters."""
    pairs = ((normal(20, 3, seed=i), normal(30, 3, seed=1000 + i)) for i in range(500))
    figures = tensor([m.energy_distance(a, b) for a, b in pairs])
    error = float(figures.std()) / math.sqrt(500)
    assert abs(float(figures.mean())) < 4 * error
    assert 4 / math.sqrt(math.pi) * (1 / 20 + 1 / 30) > 15 * error
    assert figures.min() < 0


def test_the_energy_distance_does_not_depend_on_where_and_how_samples_are_turned():
    a, b, turn = normal(60, 4), 0.5 * normal(70, 4, seed=1), rotation(4, 2)
    distance = m.energy_distance(a, b)
    assert m.energy_distance(b, a) == pytest.approx(distance)
    assert m.energy_distance(a @ turn + 1e6, b @ turn + 1e6) == pytest.approx(distance, rel=1e-6)
    assert m.energy_distance(3 * a, 3 * b) == pytest.approx(3 * distance)


@pytest.mark.parametrize("block", [1, 4, 2**21])
def test_the_energy_distance_is_a_mean_over_pairs_in_blocks_of_any_size(block, monkeypatch):
    monkeypatch.setattr(m, "_BLOCK", block)
    a, b = tensor([[0.0, 0.0], [3.0, 4.0]]), tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    across = (0 + 1 + 3 + 5 + math.sqrt(18) + math.sqrt(10)) / 6
    assert m.energy_distance(a, b) == pytest.approx(2 * across - 5 - (1 + 3 + 2) / 3, rel=1e-6)


def test_large_samples_are_compared_by_rows_drawn_with_the_seed():
    a, b = normal(500, 2), normal(300, 2, seed=1) + 1
    drawn = [m.energy_distance(a, b, most=200, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn == pytest.approx([m.energy_distance(a, b)] * 3, rel=0.3)
    assert m.energy_distance(a, b, most=500, seed=5) == m.energy_distance(a, b)
    # The first rows alone would be a sorted sample's least.
    ordered = torch.arange(1000.0)[:, None]
    assert m.energy_distance(ordered, ordered + 1000, most=100) == pytest.approx(4000 / 3, rel=0.15)


def test_segments_hold_states_and_displacements_in_their_units():
    states = tensor([[9.0, 9.0], [1.0, 10.0], [2.0, 30.0], [9.0, 9.0]])
    units = {"state_unit": tensor([2.0, 10.0]), "displacement_unit": tensor([0.5, 4.0])}
    got = m.segment_features(states, PLAIN, end=3, length=2, **units)
    assert torch.equal(got, tensor([[0.5, 1.0, 1.0, 3.0, 2.0, 5.0]], dtype=torch.float64))


def test_leading_axes_of_segments_are_flattened_in_order():
    states = normal(2, 3, 5, 2)
    got = m.segment_features(states, PLAIN, end=5, **UNITS)
    assert got.shape == (6, 3 * 2 + 2 * 2)
    assert torch.equal(got[4, :6], states[1, 1, 2:].flatten())
    alone = m.segment_features(states, PLAIN, end=1, length=1, **UNITS)
    assert torch.equal(alone, states[:, :, 0].reshape(6, 2))


def test_periodic_coordinates_are_sine_and_cosine_without_a_unit_and_move_the_shorter_way():
    states = tensor([[1.0, 1.5, 6.0], [2.0, -1.5, 9.0]], dtype=torch.float64)
    units = {"state_unit": tensor([2.0, 7.0, 3.0]), "displacement_unit": tensor([1.0, 0.1, 2.0])}
    got = m.segment_features(states, TURNING, end=2, length=2, **units)
    angle = tensor([1.5, -1.5], dtype=torch.float64) * math.pi / 2
    expected = [0.5, 2.0, angle[0].sin(), angle[0].cos(), 1.0, 3.0, angle[1].sin(), angle[1].cos()]
    assert got[0].tolist() == pytest.approx([float(x) for x in expected] + [1.0, 10.0, 1.5])
    turned = states + 4.0 * tensor([[0.0, 3.0, 0.0], [0.0, -5.0, 0.0]])
    again = m.segment_features(turned, TURNING, end=2, length=2, **units)
    assert again[0].tolist() == pytest.approx(got[0].tolist())
    layout, units = TrajectoryLayout(1, periods=(1.0,)), {"state_unit": ONE[:1], "displacement_unit": ONE[:1]}
    alone = m.segment_features(tensor([[0.25]]), layout, end=1, length=1, **units)
    assert alone[0].tolist() == pytest.approx([1.0, 0.0], abs=1e-12)


def futures_of(*paths):
    """Futures of one case and one coordinate, from the errors of each at every step."""
    return tensor(paths)[None, :, :, None], torch.zeros(1, len(paths[0]), 1)


def test_mean_and_sample_errors_of_known_futures():
    (futures, truth), unit = futures_of([1.0, 2.0], [3.0, -2.0]), tensor([2.0])
    assert m.rmse_of_mean(futures, truth, LINE, unit).tolist() == [1.0, 0.0]
    assert m.rmse_of_sample(futures, truth, LINE, unit).tolist() == pytest.approx([math.sqrt(5) / 2, 1.0])


def test_the_best_future_is_the_one_with_the_best_path_so_far():
    """The third is right from the second step on, but set out too far off."""
    futures, truth = futures_of([1.0, 3.0, 1.5], [2.0, 1.0, 0.5], [9.0, 0.0, 0.0])
    best = m.rmse_best_of(futures, truth, LINE, ONE[:1])
    # Sums of squares: 1, 10, 12.25 of the first; 4, 5, 5.25 of the second.
    assert best.tolist() == pytest.approx([1.0, 1.0, 0.5])
    late, truth = futures_of([1.0, 1.0, 1.5], [2.0, 2.0, 0.0])
    assert m.rmse_best_of(late, truth, LINE, ONE[:1]).tolist() == [1.0, 1.0, 1.5]


def test_the_best_is_chosen_for_each_case_over_all_coordinates():
    futures = tensor([[[[0.0, 9.0]], [[5.0, 5.0]]], [[[3.0, 3.0]], [[4.0, 0.0]]]])
    best = m.rmse_best_of(futures, torch.zeros(2, 1, 2), PLAIN, ONE)
    assert float(best) == pytest.approx(math.sqrt((50 + 16) / 4))
    weighed = m.rmse_best_of(futures, torch.zeros(2, 1, 2), PLAIN, tensor([1.0, 10.0]))
    assert float(weighed) == pytest.approx(math.sqrt((0.81 + 9.09) / 4))


@pytest.mark.parametrize("rmse", ERRORS)
def test_errors_are_root_mean_squares_over_cases_and_coordinates(rmse):
    futures, truth, unit = normal(7, 1, 4, 2), normal(7, 4, 2, seed=1), tensor([0.5, 2.0])
    expected = ((futures[:, 0] - truth) / unit).square().mean(dim=(0, 2)).sqrt()
    torch.testing.assert_close(rmse(futures, truth, PLAIN, unit), expected)
    single = rmse(futures.float(), truth.float(), PLAIN, unit)
    torch.testing.assert_close(single, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rmse", ERRORS)
def test_errors_of_periodic_coordinates_go_the_shorter_way(rmse):
    futures, truth = torch.zeros(1, 2, 1, 3), torch.zeros(1, 1, 3)
    futures[..., 1], truth[..., 1] = 1.9, -1.9
    assert float(rmse(futures, truth, TURNING, torch.ones(3))) == pytest.approx(0.2 / math.sqrt(3), rel=1e-5)
    # Two futures on both sides of a truth at the wrap are right in the mean.
    futures[0, :, 0, 1], truth[..., 1] = tensor([1.8, -1.8]), 2.0
    expected = 0.0 if rmse is m.rmse_of_mean else 0.2 / math.sqrt(3)
    assert float(rmse(futures, truth, TURNING, torch.ones(3))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("broken", [NAN, INF, -INF])
def test_a_future_that_broke_down_is_infinitely_far_and_never_the_best(broken):
    futures, truth = futures_of([broken, broken], [1.0, 2.0], [0.0, broken])
    assert m.rmse_best_of(futures, truth, LINE, ONE[:1]).tolist() == [0.0, 2.0]
    assert m.rmse_of_mean(futures, truth, LINE, ONE[:1]).tolist() == [INF, INF]
    assert m.rmse_of_sample(futures, truth, LINE, ONE[:1]).tolist() == [INF, INF]
    assert m.rmse_best_of(futures[:, :1], truth, LINE, ONE[:1]).tolist() == [INF, INF]


def test_ranks_count_the_futures_below_at_the_step_asked_for():
    futures = tensor([[[5.0, 1.0], [5.0, 5.0], [5.0, 9.0]], [[0.0, 2.0], [0.0, 6.0], [0.0, 9.0]]])[..., None]
    truth = tensor([[[0.0], [7.0]], [[9.0], [1.0]]])
    assert m.rank_histogram(futures, truth, 1, seeded())[:, 0].tolist() == [1, 0, 1, 0]
    assert m.rank_histogram(futures, truth, 0, seeded())[:, 0].tolist() == [1, 0, 0, 1]


def ranks_of(std, shift=0.0, n=4000, k=7):
    """Histogram where the truth is standard normal about a case's own place, futures have a `deviation`."""
    place = normal(n, 1, 1, 20, seed=2)
    futures = place + shift + std * normal(n, k, 1, 20)
    return m.rank_histogram(futures, place[:, 0] + normal(n, 1, 20, seed=1), 0, seeded())


def test_exchangeable_futures_have_uniform_ranks():
    histogram = ranks_of(1.0)
    assert histogram.sum(dim=0).tolist() == [4000] * 20
    assert scipy.stats.chisquare(histogram.sum(dim=1).numpy()).pvalue > 1e-3
    assert scipy.stats.chisquare(histogram.numpy(), axis=0).pvalue.min() > 1e-3 / 20
    # Not 0, but what so many cases scatter.
    assert m.calibration_error(histogram) == pytest.approx(math.sqrt(7 / (2 * math.pi * 4000)), rel=0.2)


def test_overconfident_timid_and_shifted_futures_have_ranks_of_their_own_shape():
    overconfident, timid, shifted = ranks_of(0.5), ranks_of(2.0), ranks_of(1.0, shift=1.0)
    assert scipy.stats.chisquare(overconfident.numpy(), axis=0).pvalue.max() < 1e-9
    assert (overconfident[[0, -1]] > 1.5 * 500).all()
    assert (timid[[0, -1]] < 0.7 * 500).all()
    assert (shifted[0] > 2 * shifted[-1]).all()
    for histogram in (overconfident, timid, shifted):
        assert m.calibration_error(histogram) > 0.1


def test_ties_are_split_evenly_among_the_ranks_they_touch():
    futures = tensor([-1.0, 0.0, 0.0, 0.0, 2.0]).reshape(1, 5, 1, 1).expand(4000, -1, -1, -1)
    histogram = m.rank_histogram(futures, torch.zeros(4000, 1, 1), 0, seeded())[:, 0]
    assert histogram[[0, 5]].tolist() == [0, 0]
    assert scipy.stats.chisquare(histogram[1:5].numpy()).pvalue > 1e-3


def test_the_calibration_error_is_the_share_of_cases_to_move():
    assert m.calibration_error(torch.full((4, 2), 10)) == 0
    assert m.calibration_error(tensor([[40, 2], [0, 2], [0, 2], [0, 2]])) == pytest.approx(0.75 / 2)
    assert m.calibration_error(tensor([[15], [5], [10], [10]])) == pytest.approx(5 / 40)


def test_mode_coverage_of_known_labels():
    labels, probabilities = [[0, 0, 1, -1], [1, 1, 1, 1]], [[0.5, 0.25, 0.25], [0.5, 0.5, 0.0]]
    got = m.mode_coverage(tensor(labels), tensor(probabilities))
    # Frequencies .5 .25 0 and .25 off; 0 1 0. Modes that matter: three and two, met are two and one.
    assert got.off_mode == pytest.approx(0.125)
    assert got.total_variation == pytest.approx(((0.25 + 0.25) / 2 + (0.5 + 0.5) / 2) / 2)
    assert got.covered == pytest.approx(3 / 5)


def test_a_mode_is_covered_from_a_quarter_of_its_probability():
    def covered(hits, p):
        labels = torch.zeros(1, 20, dtype=torch.int64)
        labels[0, :hits] = 1
        return m.mode_coverage(labels, tensor([[1 - p, p]])).covered

    assert [covered(hits, 0.8) for hits in (1, 3, 4)] == [0.5, 0.5, 1.0]  # 4 of 20 are .8 / 4 but for float32
    assert [covered(hits, 0.9) for hits in (4, 5)] == [0.5, 1.0]
    assert [covered(hits, 0.1) for hits in (0, 1)] == [0.5, 1.0]


def test_modes_below_the_least_probability_need_no_sample():
    labels, at_least = torch.zeros(1, 10, dtype=torch.int32), tensor([[0.99, 0.01]])
    assert m.mode_coverage(labels, tensor([[0.991, 0.009]])).covered == 1.0
    assert m.mode_coverage(labels, at_least).covered == 0.5
    assert m.mode_coverage(labels, at_least, least=0.02).covered == 1.0


def test_samples_off_every_mode_or_on_a_wrong_one_are_as_far_as_can_be():
    for label, expected in ((-1, (0.0, 1.0, 1.0)), (0, (1.0, 0.0, 0.0)), (1, (0.0, 1.0, 0.0))):
        got = m.mode_coverage(torch.full((1, 6), label), tensor([[1.0, 0.0]]))
        assert got == m.ModeCoverage(*expected)


def test_rollouts_are_finite_and_in_range_as_a_whole():
    states = torch.zeros(5, 4, 2)
    states[1, 2, 0] = NAN
    states[2, 3, 1] = 3.5
    states[3, 0, 0] = INF
    states[4, 1] = tensor([-1.0, 3.0])  # on the bounds
    low, high = tensor([-1.0, -INF]), tensor([INF, 3.0])
    assert m.finite_and_in_range(states, low, high) == pytest.approx((3 / 5, 2 / 5))
    assert m.finite_and_in_range(states, low, torch.full((2,), INF)) == pytest.approx((3 / 5, 3 / 5))


def test_states_clamped_to_bounds_of_another_precision_are_in_range():
    low = tensor([-0.1], dtype=torch.float64)
    states = torch.full((1, 1, 1), -5.0).clamp(min=-0.1)
    assert float(states) < float(low)
    assert m.finite_and_in_range(states, low, -low) == (1.0, 1.0)
    # Whole numbers are no reason to round the box.
    assert m.finite_and_in_range(tensor([[[0]]]), -5 * low, -10 * low) == (1.0, 0.0)


FUTURES, TRUTH, SAMPLE = torch.zeros(4, 3, 5, 2), torch.zeros(4, 5, 2), normal(5, 2)
GOOD = {
    **{distance: {"a": SAMPLE, "b": SAMPLE} for distance in DISTANCES},
    m.segment_features: {"states": TRUTH, "layout": PLAIN, "end": 4, **UNITS},
    **{rmse: {"futures": FUTURES, "truth": TRUTH, "layout": PLAIN, "unit": ONE} for rmse in ERRORS},
    m.rank_histogram: {"futures": FUTURES, "truth": TRUTH, "at": 3, "generator": seeded()},
    m.calibration_error: {"histogram": tensor([[1], [2]])},
    m.mode_coverage: {"labels": tensor([[0, 1, -1]]), "probabilities": tensor([[0.5, 0.5]])},
    m.finite_and_in_range: {"states": TRUTH, "low": -ONE, "high": ONE},
}
BAD = {
    DISTANCES: [
        ("a", tensor([[0.0, 0.0], [0.0, NAN]]), r"expected finite .* first at index \(1, 1\)"),
        ("b", SAMPLE * INF, "expected finite"),
        ("b", SAMPLE[:, :1], r"expected shape \(any, 2\), got shape \(5, 1\)"),
        ("a", SAMPLE[0], r"expected shape \(any, any\)"),
        ("a", SAMPLE[:, :0], "expected no axis of length 0"),
        ("a", SAMPLE[:1], "expected at least 2 rows, got 1"),
        ("b", SAMPLE[:1], "expected at least 2 rows, got 1"),
    ],
    (m.energy_distance,): [("most", 1, "expected a whole number of at least 2, got 1")],
    (m.segment_features,): [
        ("end", 2, r"expected 3 \(length\) to 5, the states there are, got 2"),
        ("end", 6, r"expected 3 \(length\) to 5, the states there are, got 6"),
        ("length", 0, "expected a whole number of at least 1, got 0"),
        ("states", TRUTH[..., :1], r"expected shape \(\.\.\., T, 2\), got shape \(4, 5, 1\)"),
        ("states", TRUTH[0, 0], r"expected shape \(\.\.\., T, 2\), got shape \(2,\)"),
        ("state_unit", torch.ones(3), r"expected shape \(2\), got shape \(3,\)"),
        ("state_unit", ONE * NAN, "expected finite"),
        ("displacement_unit", 0 * ONE, r"expected positive numbers, got \[0.0, 0.0\]"),
    ],
    ERRORS: [
        ("futures", FUTURES[:, :, :4], r"expected shape \(4, any, 5, 2\), got shape \(4, 3, 4, 2\)"),
        ("futures", TRUTH, r"expected shape \(4, any, 5, 2\), got shape \(4, 5, 2\)"),
        ("futures", FUTURES[:, :0], "expected no axis of length 0"),
        ("truth", TRUTH[..., :1], r"expected shape \(any, any, 2\), got shape \(4, 5, 1\)"),
        ("truth", TRUTH * NAN, "expected finite"),
        ("unit", -ONE, r"expected positive numbers, got \[-1.0, -1.0\]"),
    ],
    (m.rank_histogram,): [
        ("at", -1, "expected a step, 0 to 4, got -1"),
        ("at", 5, "expected a step, 0 to 4, got 5"),
        ("futures", FUTURES[:2], "expected shape"),
        ("futures", FUTURES * NAN, "expected finite"),
        ("truth", TRUTH * NAN, "expected finite"),
    ],
    (m.calibration_error,): [
        ("histogram", tensor([1.0, 2.0]), r"expected shape \(any, any\)"),
        ("histogram", tensor([[], []]), "expected no axis of length 0"),
        ("histogram", tensor([[3], [-1]]), "expected counts .* got least count -1.0"),
        ("histogram", tensor([[3, 0], [1, 0]]), "expected counts .* least sum 0.0"),
        ("histogram", tensor([[NAN], [1.0]]), "expected finite"),
    ],
    (m.mode_coverage,): [
        ("labels", tensor([[0, 2]]), r"expected -1 \(no mode\) to 1, got 0 to 2"),
        ("labels", tensor([[0, -2]]), r"expected -1 \(no mode\) to 1, got -2 to 0"),
        ("labels", tensor([[0.0]]), "expected integers, got torch.float32"),
        ("labels", tensor([0]), r"expected shape \(any, any\), got shape \(1,\)"),
        ("labels", tensor([[]]), "expected no axis of length 0"),
        ("probabilities", tensor([[1.0], [1.0]]), r"expected shape \(1, any\), got shape \(2, 1\)"),
        ("probabilities", tensor([[0.5, 1.0]]), "expected rows .* got sums from 1.5 to 1.5"),
        ("probabilities", tensor([[1.5, -0.5]]), "expected rows .* a least value of -0.5"),
        ("probabilities", tensor([[1.0, NAN]]), "expected finite"),
        ("probabilities", tensor([[]]), "expected no axis of length 0"),
        ("least", 0.0, "expected a number above 0 and at most 1, got 0"),
        ("least", 1.5, "expected a number above 0 and at most 1, got 1.5"),
        ("least", 0.6, "expected at most the greatest probability, 0.5, got 0.6"),
    ],
    (m.finite_and_in_range,): [
        ("low", 2 * ONE, r"expected at most high, \[1.0, 1.0\], got \[2.0, 2.0\]"),
        ("low", ONE * NAN, "expected at most high"),
        ("low", torch.ones(3), r"expected shape \(2\), got shape \(3,\)"),
        ("high", ONE[:1], r"expected shape \(2\), got shape \(1,\)"),
        ("states", TRUTH[0], r"expected shape \(any, any, any\)"),
        ("states", TRUTH[:0], "expected no axis of length 0"),
    ],
}


@pytest.mark.parametrize("function", GOOD)
def test_bad_input_is_named(function):
    function(**GOOD[function])
    for argument, bad, message in [c for functions, cs in BAD.items() if function in functions for c in cs]:
        with pytest.raises(InputError, match=f"^{argument}: {message}"):
            function(**{**GOOD[function], argument: bad})
