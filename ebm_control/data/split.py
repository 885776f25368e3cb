"""Data to learn from, and data held out to judge by."""

from __future__ import annotations

import numpy as np

from ebm_control.checks import require, require_number
from ebm_control.data.rollout_buffer import Episode, RolloutBuffer

Stretch = tuple[int, int]


def split(
    buffer: RolloutBuffer, fraction: float, rng: np.random.Generator, steps: int = 1
) -> tuple[RolloutBuffer, RolloutBuffer]:
    """Hold out about `fraction` of the transitions: whole episodes, drawn at random, and a stretch of one more.

    By transitions and not by episodes, so that neither part is left with next to nothing where lengths differ.
    A stretch is cut out of its episode: what lies before and after it stays in the other part, no transition is in
    both, and no window of either part spans the cut.

    Args:
        buffer: all data.
        fraction: share of the transitions to hold out, at least one window.
        rng: source of the draw.
        steps: transitions that a window takes; each part has at least one window, whatever the draw.

    Returns:
        Held-out data and the rest, two buffers.

    Raises:
        InputError: `fraction` not within (0, 1), `steps` no whole number of at least 1, or data that are too
            short for a window in each part.

    """
    require_number("fraction", fraction, 0, 1, above=True, below=True)
    require_number("steps", steps, 1, whole=True)
    lengths = np.array([len(e) for e in buffer.episodes()], dtype=np.int64)
    windows = lengths >= steps
    require(
        bool(windows.sum() >= 2 or (lengths >= 2 * steps).any()),
        "buffer",
        given=f"{len(lengths)} episodes, the longest of {lengths.max(initial=0)} steps",
        expected=f"two episodes of {steps} steps or more, or one of {2 * steps}: one window to learn from, one to "
        "judge by",
    )
    chosen = _choose(lengths, max(steps, round(fraction * int(lengths.sum()))), steps, rng)
    parts = [RolloutBuffer(buffer.obs_dim, buffer.act_dim, periods=buffer.periods) for _ in range(2)]
    for i, episode in enumerate(buffer.episodes()):
        first, last = chosen.get(i, (0, 0))
        _add(parts[0], episode, first, last)
        _add(parts[1], episode, 0, first)
        _add(parts[1], episode, last, len(episode))
    return parts[0], parts[1]


def _choose(lengths: np.ndarray, wanted: int, steps: int, rng: np.random.Generator) -> dict[int, Stretch]:
    """Stretches to hold out, by episode; the rest keeps a window."""
    chosen: dict[int, Stretch] = {}
    others = int((lengths >= steps).sum())  # episodes with a window that are left to learn from
    for i in rng.permutation(np.flatnonzero(lengths >= steps)).tolist():
        if wanted < steps:
            break
        length, others = int(lengths[i]), others - 1
        # The last episode with a window keeps one; it lies before or after the stretch.
        spare = length if others else length - steps
        taken = min(wanted, spare)
        if taken < steps:
            continue
        offset = int(rng.integers(0, length - taken + 1))
        if not others and max(offset, length - taken - offset) < steps:
            offset = 0 if rng.random() < 0.5 else length - taken
        chosen[i] = (offset, offset + taken)
        wanted -= taken
    return chosen


def _add(part: RolloutBuffer, episode: Episode, first: int, last: int) -> None:
    """Add steps `first` to `last` of an episode as one of their own."""
    if last <= first:
        return
    rewards = None if episode.rewards is None else episode.rewards[first:last]
    ended = episode.terminated and last == len(episode)
    part.add_episode(episode.observations[first : last + 1], episode.actions[first:last], rewards, ended)
