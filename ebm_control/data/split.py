"""Training data and held-out data."""

from __future__ import annotations

import numpy as np

from ebm_control.checks import require, require_number
from ebm_control.data.rollout_buffer import Episode, RolloutBuffer

Stretch = tuple[int, int]


def split(
    buffer: RolloutBuffer, fraction: float, rng: np.random.Generator, steps: int = 1
) -> tuple[RolloutBuffer, RolloutBuffer]:
    """Hold out about `fraction` of the transitions: whole episodes, drawn at random, and a stretch of one more.

    The fraction counts transitions, not episodes, so that neither part is almost empty if lengths differ.
    The stretch is cut out of its episode; the parts before and after it stay in the other buffer. No transition is
    in both buffers, and no window spans a cut.

    Args:
        buffer: all data.
        fraction: fraction of the transitions to hold out, at least one window.
        rng: random generator of the draw.
        steps: transitions per window; each part has at least one window, whatever the draw.

    Returns:
        Two buffers: held-out data and the rest.

    Raises:
        InputError: `fraction` is not within (0, 1), `steps` is not a whole number of at least 1, or the data are too
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
    parts = [buffer.empty() for _ in range(2)]
    for i, episode in enumerate(buffer.episodes()):
        first, last = chosen.get(i, (0, 0))
        _add(parts[0], episode, first, last)
        _add(parts[1], episode, 0, first)
        _add(parts[1], episode, last, len(episode))
    return parts[0], parts[1]


def _choose(lengths: np.ndarray, wanted: int, steps: int, rng: np.random.Generator) -> dict[int, Stretch]:
    """Stretches to hold out, by episode; the rest has at least one window."""
    chosen: dict[int, Stretch] = {}
    others = int((lengths >= steps).sum())  # episodes with a window that remain for training
    for i in rng.permutation(np.flatnonzero(lengths >= steps)).tolist():
        if wanted < steps:
            break
        length, others = int(lengths[i]), others - 1
        # The last training episode with a window keeps one, before or after the stretch.
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
    """Add steps `first` to `last` of an episode as a new episode."""
    if last <= first:
        return
    rewards = None if episode.rewards is None else episode.rewards[first:last]
    ended = episode.terminated and last == len(episode)
    part.add_episode(episode.observations[first : last + 1], episode.actions[first:last], rewards, ended)
