"""Actions as environments take them."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box

from ebm_control.data import collect
from ebm_control.data.actions import as_actions, half_widths, random_actions
from tests.data.environments import Point

BOXES = [
    Box(-1, 1, (2,), np.float32),
    Box(-0.1, 0.7, (2,), np.float64),
    Box(-2, 1, (2,), np.float16),
    Box(np.float32([-1, 0.5]), np.float32([1, 0.5]), dtype=np.float32),
    Box(-1, 1, (2,), np.int8),
    Box(-10, 10, (2,), np.int64),
    Box(0, 255, (2,), np.uint8),
    Box(-np.inf, np.inf, (2,), np.float32),
    Box(0, np.inf, (2,), np.float32),
    Box(-np.inf, 1, (2,), np.float64),
    Box(-3.4e38, 3.4e38, (2,), np.float32),
    Box(0, 1, (2,), bool),
    Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64),
    Box(0, np.iinfo(np.uint64).max, (2,), np.uint64),
]


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_random_actions_are_in_the_space_and_finite(box):
    drawn = random_actions(box, np.random.default_rng(0), (500,))
    assert drawn.shape == (500, 2)
    assert all(box.contains(a) for a in drawn)
    assert np.isfinite(drawn.astype(float)).all()
    assert np.abs(drawn.astype(float)).max() < 300


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_whatever_is_asked_for_becomes_an_action_of_the_space(box):
    for value in (-1e9, -0.6, 0.0, 0.49, 0.5, 3.3, 1e9):
        given = as_actions(np.full((3, 2), value), box)
        assert given.dtype == box.dtype
        assert all(box.contains(a) for a in given)


def test_whole_numbers_are_rounded_and_drawn_alike():
    box = Box(-1, 1, (1,), np.int8)
    asked = np.array([[-0.9], [-0.5], [-0.4], [0.4], [0.5], [0.9], [7.0]])
    assert as_actions(asked, box)[:, 0].tolist() == [-1, 0, 0, 0, 1, 1, 1]
    drawn = random_actions(box, np.random.default_rng(0), (6000,))
    shares = [np.mean(drawn == k) for k in (-1, 0, 1)]
    assert np.allclose(shares, 1 / 3, atol=0.03)


def test_flags_are_drawn_alike_and_bounds_beyond_float64_are_kept():
    flags = random_actions(Box(0, 1, (1,), bool), np.random.default_rng(0), (2000,))
    assert 0.45 < flags.mean() < 0.55
    for dtype in (np.int64, np.uint64):
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        box = Box(least, most, (1,), dtype)
        assert as_actions([[1e30], [-1e30]], box)[:, 0].tolist() == [most, least]


def test_half_widths_stand_in_where_there_are_no_bounds():
    box = Box(np.float32([-1, -np.inf, 0, -3.4e38]), np.float32([3, np.inf, np.inf, 3.4e38]))
    assert half_widths(box, 0.25).tolist() == [2.0, 0.25, 0.25, 0.25]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_policy_of_another_precision_acts_within_the_space(dtype):
    class Strict(Point):
        def step(self, action):
            assert self.action_space.contains(action), action
            return super().step(action)

    make = lambda: Strict(dtype=dtype, high=0.1)  # noqa: E731
    collect(make, 60, lambda o: np.full((8, 2), 2.0), progress=False)
    collect(make, 60, progress=False)


def test_recorded_actions_are_the_rounded_ones_that_were_taken():
    class Steps(Point):
        def __init__(self):
            super().__init__()
            self.action_space = Box(-10, 10, (2,), np.int64)

    buffer = collect(Steps, 80, lambda o: np.full((8, 2), 2.6), progress=False)
    assert (buffer.actions == 3).all()
    s, a, after = buffer.transitions()
    np.testing.assert_allclose(after, s + 0.1 * a, atol=1e-12)
