"""Holding out is by transitions: neither part is left with next to nothing, whatever the draw."""

from __future__ import annotations

import numpy as np
import pytest

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer, split


def rollouts(lengths):
    """Episode i has states (i, t), actions t and rewards t; all are terminated."""
    buffer = RolloutBuffer(2, 1)
    for i, n in enumerate(lengths):
        t = np.arange(n + 1.0)
        buffer.add_episode(np.stack([np.full(n + 1, i), t], 1), t[:-1, None], t[:-1], terminated=True)
    return buffer


def transitions(part):
    s, a, after = part.transitions()
    assert (after[:, 1] == s[:, 1] + 1).all()
    assert (a[:, 0] == s[:, 1]).all()
    return {(int(i), int(t)) for i, t in s}


@pytest.mark.parametrize(
    "lengths",
    [
        [3000, 6],
        [6, 3000],
        [3000, 5, 4, 3],
        [300] * 10,
        [50] * 400,
        [1] * 100 + [900],
        [40],
        [1000, 1, 1, 1],
        [7, 7],
    ],
)
@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_parts_share_no_transition_and_lose_none(lengths, fraction, steps):
    whole = transitions(rollouts(lengths))
    for seed in range(4):
        held, rest = split(rollouts(lengths), fraction, np.random.default_rng(seed), steps)
        a, b = transitions(held), transitions(rest)
        assert not a & b
        assert a | b == whole
        wanted = max(steps, round(fraction * len(whole)))
        assert len(a) <= wanted
        usable = sum(n for n in lengths if n >= steps)
        assert len(a) >= min(wanted, usable - steps) - steps * len(lengths) * (steps > 1)
        for part in (held, rest):
            assert len(part.window_starts(steps + 1)) > 0


def test_episodes_of_one_length_are_held_out_whole():
    held, rest = rollouts([50] * 100).split(0.1, np.random.default_rng(0))
    assert [len(e) for e in held.episodes()] == [50] * 10
    assert rest.num_episodes == 90
    assert all(e.terminated for part in (held, rest) for e in part.episodes())


def test_only_the_piece_with_the_end_is_terminated_and_rewards_go_along():
    held, rest = split(rollouts([100]), 0.1, np.random.default_rng(1))
    ends = [(int(e.observations[-1, 1]) == 100, e.terminated) for p in (held, rest) for e in p.episodes()]
    assert all(last == terminated for last, terminated in ends)
    assert all((e.rewards == e.actions[:, 0]).all() for p in (held, rest) for e in p.episodes())


@pytest.mark.parametrize(("lengths", "steps"), [([1], 1), ([5], 3), ([2, 3], 3), ([], 1), ([1] * 50, 2)])
def test_data_too_short_for_a_window_in_each_part_are_refused_whatever_the_draw(lengths, steps):
    for seed in range(5):
        with pytest.raises(InputError, match=r"^buffer: expected two episodes"):
            split(rollouts(lengths), 0.3, np.random.default_rng(seed), steps)


@pytest.mark.parametrize(
    "steps", [0, -1, 1.5, 2.0, -(2**70), float("nan"), float("inf"), True, "two", [], None]
)
def test_steps_that_are_no_count_are_refused(steps):
    with pytest.raises(InputError, match=r"^steps: expected a whole number of at least 1"):
        split(rollouts([9, 9]), 0.5, np.random.default_rng(0), steps)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), True, "half"])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match=r"^fraction"):
        split(rollouts([9, 9]), fraction, np.random.default_rng(0))
