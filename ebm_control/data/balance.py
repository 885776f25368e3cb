"""Data that lie evenly: experience of one's own piles up where one has been most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ebm_control.checks import require
from ebm_control.data.rollout_buffer import RolloutBuffer


def balanced(
    buffer: RolloutBuffer, index: Sequence[int], width: ArrayLike, most: int, share: float = 0.3
) -> RolloutBuffer:
    """The newest episodes that still tell something: those with enough states in places that are not full yet.

    A joint energy is a density. Where an agent waited, bumped into a wall or went to and fro the data would make all
    other places unlikely.

    Args:
        buffer: episodes, or stretches of them; each is kept whole or not at all.
        index: observation coordinates that make a place.
        width: `(len(index),)` or a number, raw: size of a place, a cell of a grid.
        most: states after which a place is full.
        share: of an episode's states that must lie in places which are not full.

    Returns:
        A buffer of the same limits, oldest first.

    Raises:
        InputError: no coordinate, or figures of no sense.

    """
    require(
        len(index) > 0 and all(0 <= i < buffer.obs_dim for i in index),
        "index",
        given=tuple(index),
        expected=f"observation coordinates in 0..{buffer.obs_dim - 1}",
    )
    size = np.broadcast_to(np.asarray(width, np.float64), (len(index),))
    require(bool((size > 0).all()), "width", given=width, expected="positive figures")
    require(most >= 1, "most", given=most, expected="at least 1 state")
    require(0 < share <= 1, "share", given=share, expected="in (0, 1]")
    counts: dict[tuple[int, ...], int] = {}
    kept = []
    for episode in reversed(list(buffer.episodes())):
        cells = np.floor(episode.observations[:, list(index)] / size).astype(int)
        places = [tuple(cell) for cell in cells.tolist()]
        if np.mean([counts.get(place, 0) < most for place in places]) < share:
            continue
        kept.append(episode)
        for place in places:
            counts[place] = counts.get(place, 0) + 1
    result = RolloutBuffer(buffer.obs_dim, buffer.act_dim, buffer.capacity, buffer.periods)
    for episode in reversed(kept):
        result.add_episode(episode.observations, episode.actions, episode.rewards, episode.terminated)
    return result
