"""Rare readings far outside of all others are left out and said; what is rare but real stays."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ebm_control.data import RolloutBuffer
from ebm_control.data.outliers import warn_of_units, without_outliers


def walks(episodes=100, length=40, dim=2, seed=0):
    """Random walks of small steps, as a list of (observations, actions)."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(episodes):
        actions = rng.uniform(-1, 1, (length, dim))
        start = rng.uniform(-1, 1, (1, dim))
        made.append((np.concatenate([start, start + 0.1 * actions.cumsum(axis=0)]), actions))
    return made


def buffer_of(episodes, periods=()):
    buffer = RolloutBuffer(episodes[0][0].shape[1], episodes[0][1].shape[1], periods=periods)
    for observations, actions in episodes:
        buffer.add_episode(observations, actions, np.zeros(len(actions)), terminated=True)
    return buffer


def silent(buffer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert without_outliers(buffer) is buffer
        warn_of_units(buffer)


@pytest.mark.parametrize("size", [10.0, -10.0, 100.0, 1e4, -1e6, 1e30])
@pytest.mark.parametrize("row", [0, 20, 40])
def test_one_wild_reading_is_left_out(size, row):
    episodes = walks()
    episodes[17][0][row, 0] = size
    with pytest.warns(UserWarning, match=rf"1 readings far outside.*coordinate 0.*episode 17, row {row}"):
        cleaned = without_outliers(buffer_of(episodes))
    lost = 1 if row in (0, 40) else 2
    assert len(cleaned) == 4000 - lost
    assert np.abs(cleaned.observations).max() < 5
    ended = [e.terminated for e in cleaned.episodes()]
    assert ended.count(False) == (row > 0), "of the episode that was cut the piece without the end"


def test_several_of_different_size_in_several_coordinates_and_a_run_of_them():
    episodes = walks()
    for episode, row, i, value in ((3, 5, 0, 1e6), (50, 30, 1, -200.0), (60, 7, 1, 30.0)):
        episodes[episode][0][row, i] = value
    episodes[70][0][10:13, 1] = 999.0
    with pytest.warns(UserWarning, match="6 readings far outside"):
        cleaned = without_outliers(buffer_of(episodes))
    assert np.abs(cleaned.observations).max() < 5
    assert len(cleaned) == 4000 - 3 * 2 - 4


def test_a_wild_action_is_left_out():
    episodes = walks()
    episodes[9][1][4, 1] = 1e5
    with pytest.warns(UserWarning, match="action coordinate 1 = 1e\\+05 in episode 9, row 4"):
        cleaned = without_outliers(buffer_of(episodes))
    assert len(cleaned) == 3999
    assert np.abs(cleaned.actions).max() <= 1


def bounces(rng, n=4000):
    """A velocity that turns over in one step, once in a long while, within its range."""
    v = 3.0 + 0.01 * rng.standard_normal(n + 1).cumsum()
    v[1500:3300] *= -1
    return v


@pytest.mark.parametrize(
    "real",
    [
        lambda rng: rng.standard_normal(4001),
        lambda rng: rng.standard_t(3, 4001),
        lambda rng: np.exp(rng.standard_normal(4001)),
        lambda rng: (rng.random(4001) < 0.0006).astype(float),
        lambda rng: np.where(rng.random(4001) < 0.004, rng.exponential(50.0, 4001), 0.0),
        lambda rng: np.where(np.arange(4001) < 2000, 0.0, 1000.0) + 0.01 * rng.standard_normal(4001).cumsum(),
        bounces,
        lambda rng: np.full(4001, 7.0),
    ],
    ids=["normal", "heavy tail", "skewed", "rare flag", "contact", "moved once", "bounce", "constant"],
)
def test_what_is_rare_but_real_stays(real):
    rng = np.random.default_rng(0)
    x = np.stack([real(rng), rng.standard_normal(4001)], axis=1)
    buffer = buffer_of([(x, rng.uniform(-1, 1, (4000, 1)))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert without_outliers(buffer) is buffer


def test_an_episode_that_is_far_away_as_a_whole_stays():
    episodes = walks(episodes=4000, length=10)
    episodes[5] = (episodes[5][0] + 50.0, episodes[5][1])
    silent(buffer_of(episodes))


def spinner(periods=()):
    rng = np.random.default_rng(0)
    made = []
    for _ in range(50):
        actions = rng.uniform(-1, 1, (60, 1))
        angle = (
            rng.uniform(-np.pi, np.pi)
            + (rng.uniform(-1, 1) + 0.1 * actions.cumsum(axis=0)).cumsum(axis=0) * 0.2
        )
        angle = np.concatenate([angle[:1], angle])
        made.append(((angle + np.pi) % (2 * np.pi) - np.pi, actions))
    return buffer_of(made, periods)


def test_angles_that_nobody_declared_are_hinted_at():
    with pytest.warns(
        UserWarning, match=r"observation coordinate 0 jumps from one end of its range.*periods="
    ):
        warn_of_units(spinner())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_units(spinner((2 * np.pi,)))


def test_flags_square_waves_and_noise_are_no_angles():
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 2, 2001), np.sign(np.sin(np.arange(2001) / 9)), rng.uniform(-1, 1, 2001)]
    x = np.stack(columns, axis=1).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_units(buffer_of([(x, rng.uniform(-1, 1, (2000, 1)))]))


def test_a_unit_of_a_few_stand_in_readings_is_warned_of():
    episodes = walks()
    for episode in episodes[::3]:
        episode[0][5, 1] = 1e6
    with pytest.warns(UserWarning, match=r"observation coordinate 1 has a deviation of .*98 %"):
        warn_of_units(buffer_of(episodes))
