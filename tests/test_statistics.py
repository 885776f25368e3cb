import numpy as np
import pytest
from scipy import stats

from ebm_control.statistics import half_interval


@pytest.mark.parametrize("n", [2, 3, 10, 200])
def test_the_interval_is_students(n):
    values = np.random.default_rng(n).normal(size=n)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert half_interval(values) == pytest.approx((high - low) / 2, rel=1e-9)
    assert half_interval(list(values), 0.5) == pytest.approx(
        stats.t.ppf(0.75, n - 1) * stats.sem(values), rel=1e-9
    )


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_mean_lies_within_as_often_as_is_said(n):
    repeats = np.random.default_rng(0).normal(5, 2, (4000, n))
    covered = np.mean([abs(row.mean() - 5) < half_interval(row) for row in repeats])
    assert covered == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("values", [[], [3.0], np.array([3.0], np.float32)])
def test_fewer_than_two_values_have_no_interval(values):
    assert half_interval(values) is None


def test_equal_values_and_whole_numbers_have_one():
    assert half_interval([2, 2, 2]) == 0.0
    assert half_interval([0, 1]) == pytest.approx(12.7062 / 2, rel=1e-4)
