import re

import numpy as np
import pytest

from ebm_control.checks import InputError
from ebm_control.online.exploration.occupancy import Occupancy


def test_cells_are_those_of_the_points():
    grid = Occupancy([-1.0, 0.0], [1.0, 3.0], (2, 3))
    assert grid.visit([[-0.5, 0.5], [-0.4, 0.6], [0.5, 2.5]]) == 2
    assert grid.visited.tolist() == [[True, False, False], [False, False, True]]
    assert grid.visit([[-0.5, 0.5], [0.5, 1.5]]) == 1
    assert grid.fraction() == pytest.approx(3 / 6)


def test_every_cell_is_visited_by_its_centre():
    grid = Occupancy([-1.0, 0.0, 2.0], [1.0, 3.0, 2.5], (4, 3, 7))
    assert grid.centres.shape == (4, 3, 7, 3)
    for cell in np.ndindex(grid.cells):
        grid.visited[:] = False
        assert grid.visit(grid.centres[cell][None]) == 1
        assert grid.visited[cell]


def test_faces_belong_to_the_box_and_points_outside_mark_nothing():
    grid = Occupancy([0.0], [1.0], 10)
    assert grid.visit([[0.0], [1.0]]) == 2
    assert grid.visited[[0, -1]].all()
    assert grid.visit([[-0.01], [1.01], [50.0]]) == 0
    assert grid.visit(np.zeros((0, 1))) == 0


def test_fraction_is_of_the_cells_that_count():
    grid = Occupancy([0.0, 0.0], [1.0, 1.0], 4)
    free = grid.centres[..., 0] < 0.5
    assert grid.fraction() == grid.fraction(free) == 0
    grid.visit(grid.centres[2:].reshape(-1, 2))
    assert grid.fraction(free) == 0
    grid.visit(grid.centres[:1].reshape(-1, 2))
    assert grid.fraction(free) == 0.5
    assert grid.fraction() == 0.75


def test_uniform_points_fill_the_grid():
    grid = Occupancy([-1.0, -1.0], [1.0, 1.0], 20)
    rng = np.random.default_rng(0)
    curve = []
    for _ in range(10):
        grid.visit(rng.uniform(-1, 1, (400, 2)))
        curve.append(grid.fraction())
    assert curve == sorted(curve)
    assert curve[0] == pytest.approx(1 - np.exp(-1), abs=0.06)
    assert curve[-1] > 0.999


BOX = Occupancy([0.0, 0.0], [1.0, 1.0], 4)
BAD = {
    "corners": (
        lambda: Occupancy([0.0], [1.0, 1.0], 4),
        "low: expected one number a coordinate, as high, got",
    ),
    "order": (
        lambda: Occupancy([1.0], [1.0], 4),
        "low: expected finite and less than high = [1.0], got [1.0]",
    ),
    "endless": (lambda: Occupancy([0.0], [np.inf], 4), "low: expected finite and less than high"),
    "cells": (lambda: Occupancy([0.0], [1.0], (4, 4)), "cells: expected 1 numbers of 1 or more, got (4, 4)"),
    "no cells": (lambda: Occupancy([0.0], [1.0], 0), "cells: expected 1 numbers of 1 or more, got 0"),
    "points": (lambda: BOX.visit(np.zeros((3, 3))), "points: expected shape (any, 2), got shape (3, 3)"),
    "nan": (lambda: BOX.visit([[0.0, np.nan]]), "points: expected finite values only, got 1 non-finite"),
    "mask": (
        lambda: BOX.fraction(np.ones(4, bool)),
        "of: expected bool of shape (4, 4), at least 1 True, got bool of shape (4,), 4 True",
    ),
    "empty mask": (
        lambda: BOX.fraction(np.zeros((4, 4), bool)),
        "of: expected bool of shape (4, 4), at least 1",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()
