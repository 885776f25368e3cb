import numpy as np
import torch

from ebm_control.data import RolloutBuffer
from ebm_control.energies import TrajectoryLayout
from experiments.prediction.gaps import GAP, HISTORIES, LONGEST, SAMPLES, pairs, strided
from experiments.prediction.methods import Fitted


def ramp(episodes=6, rows=LONGEST + 5):
    """`(t, 3t)` from a start of each episode's own."""
    buffer = RolloutBuffer(2, 1)
    for i in range(episodes):
        t = 0.1 * np.arange(rows)[:, None] + i
        buffer.add_episode(np.concatenate([t, 3 * t], axis=1), np.zeros((rows - 1, 1)))
    return buffer


def test_strides_keep_every_state_once_and_never_mix_episodes():
    whole, cut = ramp(), strided(ramp())
    assert len(cut) == len(whole) + whole.num_episodes - cut.num_episodes
    for episode in cut.episodes():
        steps = np.diff(episode.observations, axis=0)
        assert np.allclose(steps, [[0.1 * GAP, 0.3 * GAP]] * len(steps))


def test_the_true_continuation_is_the_true_pair_in_strides_and_step_by_step():
    train, held = ramp(), ramp()
    normalizer = train.normalizer()
    unit = normalizer.obs_std.float()
    for ratio in (1, GAP):
        slope = torch.tensor([0.1, 0.3]) * GAP / ratio / unit

        def futures(history, actions, *, horizon, samples, generator, bounds, slope=slope):
            steps = torch.arange(1, horizon + 1)[:, None] * slope
            return (history[:, None, -1:] + steps).expand(-1, samples, -1, -1)

        fitted = Fitted(futures, TrajectoryLayout(2, 0), normalizer, unit, 1.0, 1)
        found, true = pairs(fitted, train, held, ratio, 0)
        assert len(found) == len(true) == LONGEST // GAP
        assert found[0].shape == (HISTORIES * SAMPLES, 4)
        for mine, other in zip(found, true, strict=True):
            # Pairs move as they should, and from the same places.
            expected = torch.from_numpy(np.array([GAP * 0.1, GAP * 0.3]) / train.observations.std(axis=0))
            assert torch.allclose(
                (mine[:, 2:] - mine[:, :2]).double(), expected.expand(len(mine), 2), atol=1e-4
            )
            assert torch.allclose(mine.mean(dim=0), other.mean(dim=0), atol=0.2)
