"""Balanced data: what an agent saw over and over is left out, what it saw once stays."""

import numpy as np
import pytest

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.data.balance import balanced


def still(buffer, place, episodes):
    for _ in range(episodes):
        buffer.add_episode(np.full((11, 2), place), np.zeros((10, 2)))


def moving(buffer):
    path = np.linspace([0.05, 0.55], [0.95, 0.55], 11)
    buffer.add_episode(path, np.diff(path, axis=0))


def test_waiting_in_one_place_is_kept_until_the_place_is_full():
    buffer = RolloutBuffer(2, 2)
    still(buffer, 0.05, 20)
    assert balanced(buffer, (0, 1), 0.1, most=30).num_episodes == 3


def test_the_newest_are_kept_in_the_order_in_which_they_came():
    buffer = RolloutBuffer(2, 2)
    for i in range(6):
        buffer.add_episode(np.full((11, 2), 0.05 + 0.001 * i), np.zeros((10, 2)))
    kept = balanced(buffer, (0, 1), 0.1, most=11)
    assert kept.num_episodes == 1
    np.testing.assert_array_equal(kept.observations[0], [0.055, 0.055])
    two = balanced(buffer, (0, 1), 0.1, most=12)
    np.testing.assert_allclose(two.observations[[0, -1], 0], [0.054, 0.055])


def test_an_episode_through_new_places_is_kept_however_old():
    buffer = RolloutBuffer(2, 2)
    moving(buffer)
    still(buffer, 0.05, 20)
    kept = balanced(buffer, (0, 1), 0.1, most=5)
    assert kept.num_episodes == 2
    assert kept.observations[:11, 0].max() > 0.9


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"index": ()}, "index"),
        ({"index": (2,)}, "index"),
        ({"width": 0.0}, "width"),
        ({"most": 0}, "most"),
        ({"share": 0.0}, "share"),
    ],
)
def test_figures_of_no_sense_are_refused_by_name(given, argument):
    buffer = RolloutBuffer(2, 2)
    moving(buffer)
    settings = {"index": (0, 1), "width": 0.1, "most": 5} | given
    with pytest.raises(InputError, match=argument):
        balanced(buffer, **settings)
