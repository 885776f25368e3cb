"""Futures in the environment's units, and what is saved with a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ebm_control.baselines import Baseline, BaselineSettings, fit_baseline, futures
from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.training import CheckpointError
from tests.baselines.helpers import fitted, swings
from tests.helpers import seeded

pytestmark = pytest.mark.slow

SMALL = {
    "feed-forward": {"hidden": (16,), "updates": 60},
    "ensemble": {"hidden": (16,), "members": 3, "updates": 60},
    "recurrent": {"hidden": 16, "window": 6, "updates": 60},
}


def raw_windows(steps, count=5):
    """Observations `(count, steps, 2)` and the actions between them `(count, steps - 1, 1)`."""
    observations, actions = swings(seed=3).sample_windows(count, steps, rng=np.random.default_rng(0))
    return observations, actions[:, : steps - 1]


@pytest.mark.parametrize("kind", SMALL)
def test_predictions_are_futures_in_other_units(kind):
    data = swings()
    scaled = RolloutBuffer(2, 1)
    for episode in data.episodes():
        scaled.add_episode(5 + 100 * episode.observations, episode.actions)
    model = fitted(scaled, kind, **SMALL[kind] | {"updates": 400})
    observations, actions = raw_windows(9)
    observations = 5 + 100 * observations
    found = model.predict(observations[:, :4], actions, horizon=5, samples=4, generator=seeded())
    padded = torch.from_numpy(np.pad(actions, ((0, 0), (0, 1), (0, 0))))
    x = model.normalizer.normalize(torch.from_numpy(observations), padded).float()
    layout = model.layout
    below = futures(model, x[:, :4], layout.actions(x)[:, 3:-1], horizon=5, samples=4, generator=seeded())
    expected = model.normalizer.denormalize_observations(below)
    assert found.states.shape == (5, 4, 5, 2)
    torch.testing.assert_close(found.states, expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(
        found.actions.double(),
        torch.from_numpy(actions[:, 3:])[:, None].expand(-1, 4, -1, -1),
        rtol=1e-5,
        atol=1e-5,
    )
    assert found.energy.shape == (5, 4)
    assert found.energy.isnan().all()
    assert model.predict(observations[:, 0], actions[:, :5], horizon=5).states.shape == (5, 1, 5, 2)
    many = model.predict(observations[:, 0], actions[:, :5], horizon=5, samples=60, generator=seeded())
    if kind != "recurrent":  # which needs a history
        after = torch.from_numpy(observations[:, 1])
        error, moved = many.mean[:, 0] - after, torch.from_numpy(observations[:, 0]) - after
        assert error.square().mean() < 0.1 * moved.square().mean()


@pytest.mark.parametrize("kind", SMALL)
def test_a_model_of_states_alone_predicts_without_actions(kind):
    model = fitted(swings(pushed=False), kind, states_only=True, **SMALL[kind])
    found = model.predict(raw_windows(4)[0], horizon=3, samples=2)
    assert found.states.shape == (5, 2, 3, 2)
    assert found.actions.shape == (5, 2, 3, 0)
    with pytest.raises(InputError, match="actions: expected None: the model has no actions"):
        model.predict(raw_windows(4)[0], np.zeros((5, 6, 1)), horizon=3)


def test_what_does_not_fit_is_refused_and_named():
    model = fitted(swings(), "feed-forward", hidden=(8,), updates=1)
    observations, actions = raw_windows(9)
    with pytest.raises(InputError, match=r"actions: expected shape \(N, h - 1 \+ 5, 1\)"):
        model.predict(observations[:, :4], horizon=5)
    with pytest.raises(InputError, match="actions: expected shape"):
        model.predict(observations[:, :4], actions[:, :5], horizon=5)
    with pytest.raises(InputError, match="observations: expected"):
        model.predict(observations[..., :1], actions, horizon=5)
    with pytest.raises(InputError, match="horizon: expected a whole number of at least 1"):
        model.predict(observations[:, :4], actions, horizon=0)


def test_a_model_saved_again_replaces_the_one_before_and_rewards_come_back(tmp_path):
    data = RolloutBuffer(2, 1)
    for episode in swings().episodes():
        data.add_episode(episode.observations, episode.actions, episode.observations[1:, 0])
    model = fitted(data, "feed-forward", hidden=(8,), updates=2)
    fitted(data, "ensemble", hidden=(8,), updates=1).save(tmp_path)
    assert model.save(tmp_path) == tmp_path
    back = Baseline.load(tmp_path)
    assert type(back.dynamics) is type(model.dynamics)
    assert torch.equal(back.recorded.rewards, model.recorded.rewards)
    assert fitted(swings(), "feed-forward", hidden=(8,), updates=1).recorded is None
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="expected a folder for one model, got that of a run"):
        model.save(tmp_path / "run")


def test_defaults_follow_the_kind():
    assert [BaselineSettings(kind).resolved() for kind in SMALL] == [
        BaselineSettings("feed-forward", hidden=(256, 256), updates=6000, batch_size=256),
        BaselineSettings("ensemble", hidden=(200, 200, 200), updates=6000, batch_size=256),
        BaselineSettings("recurrent", hidden=192, updates=3000, batch_size=64),
    ]
    own = BaselineSettings("ensemble", hidden=[8], updates=3, batch_size=2)
    assert own.resolved() == own
    assert replace(own, kind="feed-forward").resolved().hidden == (8,)


def test_settings_of_another_class_are_refused():
    with pytest.raises(InputError, match="settings: expected BaselineSettings, got dict"):
        fit_baseline(swings(), {"kind": "ensemble"}, progress=False)
