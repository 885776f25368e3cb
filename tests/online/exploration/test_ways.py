import numpy as np
import pytest

from ebm_control.online.exploration.ways import NONE, Ways

WIDTH = (0.2, 0.4)


def gone(*path, width=WIDTH):
    """Ways of one point that went along `path`."""
    ways, at = Ways(width), np.array([NONE])
    for point in path:
        at, _ = ways.visit(np.array([point], np.float32), at)
    return ways


def test_places_are_apart_in_widths():
    ways = gone((0.0, 0.0), (0.09, 0.0), (0.11, 0.0), (0.11, 0.19), (0.11, 0.21))
    assert ways.places.tolist() == pytest.approx(np.array([(0, 0), (0.11, 0), (0.11, 0.21)]), abs=1e-6)


def test_a_visit_says_where_everyone_is_and_what_is_new():
    ways = gone((0.0, 0.0), (0.2, 0.0))
    at, new = ways.visit(np.array([(0.21, 0.0), (0.5, 0.0), (0.52, 0.0)], np.float32), np.array([0, 1, 0]))
    assert at.tolist() == [1, 2, 2]
    assert new.tolist() == [2]


def test_lengths_are_those_of_ways_that_were_gone_not_of_straight_lines():
    # Up, across and down again: the ends are 2 widths apart, the way is 2 + 2 + 2 widths long.
    ways = gone((0.0, 0.0), (0.0, 0.4), (0.0, 0.8), (0.2, 0.8), (0.4, 0.8), (0.4, 0.4), (0.4, 0.0))
    length, following = ways.lengths(6)
    assert length == pytest.approx([6, 5, 4, 3, 2, 1, 0], abs=1e-5)
    assert following[:6].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_way_that_was_gone_can_be_gone_back():
    ways = gone((0.0, 0.0), (0.2, 0.0), (0.4, 0.0))
    assert ways.lengths(0)[0] == pytest.approx([0, 1, 2], abs=1e-5)
    assert ways.lengths(2)[0] == pytest.approx([2, 1, 0], abs=1e-5)


def test_being_put_somewhere_makes_no_way():
    ways, at = Ways(WIDTH), np.array([NONE])
    at, _ = ways.visit(np.zeros((1, 2), np.float32), at)
    ways.visit(np.ones((1, 2), np.float32), np.array([NONE]))
    assert np.isinf(ways.lengths(0)[0][1])
    assert np.isfinite(ways.lengths(0)[0][0])


def test_ways_of_several_hang_together_where_they_met():
    ways = gone((0.0, 0.0), (0.2, 0.0))
    at, _ = ways.visit(np.array([(0.6, 0.0)], np.float32), np.array([NONE]))
    assert np.isinf(ways.lengths(0)[0][2])
    at, _ = ways.visit(np.array([(0.4, 0.0)], np.float32), at)
    ways.visit(np.array([(0.2, 0.0)], np.float32), at)
    assert ways.lengths(0)[0][2] == pytest.approx(3, abs=1e-5)
