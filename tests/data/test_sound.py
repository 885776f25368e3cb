"""An episode with readings that are not finite is cut around them, and what is sound of it is kept."""

import warnings

import numpy as np
import pytest

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.data.sound import add_finite_parts, warn_left_out

STEPS = 8


def episode():
    """Row t holds t in all of it."""
    rows = np.arange(STEPS + 1.0)
    return np.stack([rows, rows], axis=1), rows[:-1, None].copy(), rows[:-1].copy()


def added(observations, actions, rewards, terminated=True, capacity=None):
    buffer = RolloutBuffer(2, 1, capacity)
    left_out, first = add_finite_parts(buffer, observations, actions, rewards, terminated)
    if left_out:
        warn_left_out("run 3", left_out, first)
    return buffer, left_out


def pieces(buffer):
    """First and last row of each episode, and whether it was terminated."""
    return [(int(e.observations[0, 0]), int(e.observations[-1, 0]), e.terminated) for e in buffer.episodes()]


def test_a_sound_episode_is_added_as_it_is_without_a_warning():
    observations, actions, rewards = episode()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer, left_out = added(observations, actions, rewards)
    assert left_out == 0
    (only,) = buffer.episodes()
    assert np.array_equal(only.observations, observations)
    assert np.array_equal(only.rewards, rewards)
    assert only.terminated


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("which", "row", "left_out", "kept"),
    [
        (0, 3, 2, [(0, 2, False), (4, 8, True)]),
        (0, 0, 1, [(1, 8, True)]),
        (0, 8, 1, [(0, 7, False)]),
        (0, 1, 2, [(2, 8, True)]),
        (1, 3, 1, [(0, 3, False), (4, 8, True)]),
        (1, 7, 1, [(0, 7, False)]),
        (2, 0, 1, [(1, 8, True)]),
        (2, 5, 1, [(0, 5, False), (6, 8, True)]),
    ],
)
def test_an_episode_is_cut_around_a_reading(value, which, row, left_out, kept):
    parts = episode()
    parts[which][(row, -1) if which < 2 else row] = value
    name = ("observation", "action", "reward")[which]
    with pytest.warns(UserWarning, match=rf"^run 3: {left_out} transition.*{value} as {name} in row {row}"):
        buffer, found = added(*parts)
    assert found == left_out == STEPS - len(buffer)
    assert pieces(buffer) == kept
    for e in buffer.episodes():
        assert np.array_equal(e.observations[:-1, 0], e.actions[:, 0])
        assert np.array_equal(e.actions[:, 0], e.rewards)


def test_several_readings_give_one_warning_of_the_first():
    observations, actions, rewards = episode()
    observations[6], actions[2], rewards[2] = np.nan, np.inf, np.nan
    with pytest.warns(UserWarning, match="the first is inf as action in row 2, column 0") as caught:
        buffer, left_out = added(observations, actions, rewards)
    assert len(caught) == 1
    assert (left_out, pieces(buffer)) == (3, [(0, 2, False), (3, 5, False), (7, 8, True)])


def test_nothing_is_added_where_nothing_is_sound():
    observations, actions, _ = episode()
    observations[::2] = np.nan
    with pytest.warns(UserWarning, match=f"{STEPS} transitions left out"):
        buffer, left_out = added(observations, actions, None)
    assert (left_out, buffer.num_episodes) == (STEPS, 0)


def test_shapes_and_the_capacity_are_checked_before_anything_is_added():
    observations, actions, rewards = episode()
    with pytest.raises(InputError, match=r"^observations: expected shape \(9, 2\), got shape \(8, 2\)"):
        added(observations[:-1], actions, rewards)
    with pytest.raises(InputError, match=r"^rewards: expected shape \(8,\), got shape \(8, 1\)"):
        added(observations, actions, rewards[:, None])
    with pytest.raises(InputError, match=r"^actions: expected at least one"):
        added(observations[:1], actions[:0], None)
    with pytest.raises(InputError, match=r"^actions: expected an array of real numbers"):
        added(observations, [["a"]], None)
    actions[1] = np.nan
    buffer = RolloutBuffer(2, 1, capacity=4)
    with pytest.raises(InputError, match=r"at most the capacity, 4, got 6 steps"):
        add_finite_parts(buffer, observations, actions, rewards, False)
    assert buffer.num_episodes == 0
