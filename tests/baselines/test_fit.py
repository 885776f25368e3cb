import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ebm_control.baselines import Baseline, futures
from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.models import ModelSettings, TrainSettings, fit_model
from ebm_control.training import CheckpointError, latest_checkpoint
from tests.baselines.helpers import fitted, ring, rollouts
from tests.helpers import seeded
from tests.training.helpers import resign

pytestmark = pytest.mark.slow


def test_a_fitted_baseline_follows_the_true_dynamics(baseline):
    fresh = rollouts(episodes=50, steps=10, seed=7)
    states = np.stack([episode.observations for episode in fresh.episodes()])
    actions = np.stack([episode.actions for episode in fresh.episodes()])
    x = baseline.normalizer.normalize(torch.from_numpy(states), torch.from_numpy(actions)).float()
    paths = baseline.dynamics.rollout(x).mean(dim=1)  # far from the seam of the ring particles agree
    error = baseline.layout.difference(baseline.layout.states(paths), baseline.layout.states(x))
    assert error[:, 1].square().mean().sqrt() < 0.02
    assert error[:, -1].square().mean().sqrt() < 0.1
    still = baseline.layout.difference(x[:, :1, :2], x[..., :2])
    assert still[:, -1].square().mean().sqrt() > 0.4


def test_held_out_error_is_that_of_episodes_never_seen(baseline):
    assert baseline.held_out_error.shape == (2,)
    rng = np.random.default_rng(3)
    state, action = rng.uniform(-1, 1, (2000, 2)), rng.uniform(-1, 1, (2000, 1))
    pairs = np.stack([state, ring(state, action)], axis=1)
    x = baseline.normalizer.normalize(torch.from_numpy(pairs), torch.from_numpy(action[:, None])).float()
    error = baseline.dynamics.residual(x).square().mean(dim=0).sqrt()
    assert torch.allclose(error, baseline.held_out_error, rtol=0.6)
    assert baseline.held_out_error.max() < 0.1


def test_units_are_those_of_a_trajectory_model(buffer, baseline):
    model = fit_model(
        buffer, TrainSettings(ModelSettings(hidden=(8,), base="none"), updates=1), progress=False
    )
    assert model.normalizer.to_dict() == baseline.normalizer.to_dict()
    assert torch.equal(model.energy.displacement_scale, baseline.dynamics.displacement_scale)


def test_an_ensemble_learns_how_noisy_its_data_are():
    noise = 0.1
    noisy = fitted(rollouts(noise=noise), "ensemble", hidden=(32, 32), updates=400)
    x = torch.rand(500, 2, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    ensemble = noisy.dynamics
    _, log_variance = ensemble(ensemble.inputs(x[:, 0]).expand(5, -1, -1))
    raw = noise / noisy.normalizer.obs_std[1] / ensemble.displacement_scale[1]
    assert torch.allclose((0.5 * log_variance[..., 1]).exp().mean(), raw.float(), rtol=0.15)
    assert (0.5 * log_variance[..., 0]).exp().mean() < 0.3 * raw


def test_members_of_an_ensemble_disagree_more_away_from_the_data(ensemble):
    generator = torch.Generator().manual_seed(0)
    near = torch.rand(500, 1, 3, generator=generator) - 0.5
    far = near.clone()
    far[..., 1:] *= 20
    model = ensemble.dynamics
    apart = [model(model.inputs(x[:, 0]).expand(5, -1, -1))[0].std(dim=0).mean() for x in (near, far)]
    assert apart[1] > 5 * apart[0]
    assert apart[0] > 0


@pytest.mark.parametrize("kind", ["feed-forward", "ensemble"])
def test_equal_seeds_give_equal_fits_and_the_global_generator_is_left_alone(buffer, kind):
    state = torch.get_rng_state()
    first, second, other = (
        fitted(buffer, kind, hidden=(8,), updates=5, batch_size=32, seed=seed).dynamics.state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first if "displacement" not in name)


def test_a_saved_baseline_comes_back_as_it_was(baseline, tmp_path):
    assert baseline.save(tmp_path) == tmp_path
    path = latest_checkpoint(tmp_path)
    back = Baseline.load(tmp_path)
    x = torch.randn(3, 5, 3)
    assert type(back.dynamics) is type(baseline.dynamics)
    assert torch.equal(back.dynamics.rollout(x), baseline.dynamics.rollout(x))
    assert back.normalizer.to_dict() == baseline.normalizer.to_dict()
    assert torch.equal(back.held_out_error, baseline.held_out_error)
    assert back.training == baseline.training
    assert back.training.metrics.keys() == {"loss", "held_out_error"}
    assert {"weights.safetensors", "settings.json"} <= {file.name for file in path.iterdir()}
    assert json.loads((path / "settings.json").read_text())["updates"] == baseline.training.updates


def test_a_checkpoint_that_does_not_say_what_its_model_sees_is_of_one_that_sees_actions(
    feed_forward, tmp_path
):
    """As all were before there were models of states alone."""
    path = latest_checkpoint(feed_forward.save(tmp_path))
    settings = json.loads((path / "settings.json").read_text())
    assert settings.pop("states_only") is False
    (path / "settings.json").write_text(json.dumps(settings))
    resign(path)
    assert Baseline.load(path).layout == feed_forward.layout


@pytest.mark.parametrize("kind", ["feed-forward", "ensemble"])
def test_a_model_of_states_alone_has_the_units_of_one_that_sees_actions(buffer, kind):
    plain, alone = (fitted(buffer, kind, hidden=(8,), updates=2, states_only=only) for only in (False, True))
    assert (plain.layout.act_dim, alone.layout.act_dim) == (1, 0)
    assert alone.layout == replace(plain.layout, act_dim=0)
    assert torch.equal(alone.dynamics.displacement_scale, plain.dynamics.displacement_scale)
    assert alone.normalizer.to_dict() == plain.normalizer.to_dict()


def test_a_checkpoint_of_another_model_is_refused(buffer, tmp_path):
    fit_model(
        buffer,
        TrainSettings(ModelSettings(hidden=(8,), base="none"), updates=1),
        folder=tmp_path,
        progress=False,
    )
    with pytest.raises(CheckpointError, match="not a checkpoint of a baseline"):
        Baseline.load(tmp_path / "checkpoints")


def test_data_and_settings_of_no_sense_are_refused(buffer):
    single = RolloutBuffer(2, 1)
    single.add_episode(np.zeros((2, 2)), np.zeros((1, 1)))
    with pytest.raises(InputError, match="buffer: expected two episodes of 1 steps or more, or one of 2"):
        fitted(single, "feed-forward")
    with pytest.raises(InputError, match="updates: expected a whole number of at least 1, got 0"):
        fitted(buffer, "ensemble", hidden=(8,), updates=0)


@pytest.mark.parametrize("kind", ["feed-forward", "ensemble", "recurrent"])
def test_fourier_features_fit_dynamics_with_an_edge_better_and_come_back_from_disk(kind, tmp_path):
    rng, buffer = np.random.default_rng(0), RolloutBuffer(1, 1)
    for _ in range(100):
        # Stripes of width 0.25, each pushing the other way.
        states, actions = [rng.uniform(-1, 1, 1)], rng.uniform(-1, 1, (20, 1))
        for action in actions:
            push = 0.2 * np.sign(np.sin(4 * np.pi * states[-1]))
            states.append((states[-1] + push + 0.2 * action).clip(-1, 1))
        buffer.add_episode(np.stack(states), actions)
    sizes = {"hidden": 32, "window": 4} if kind == "recurrent" else {"hidden": (32, 32)}
    plain = fitted(buffer, kind, updates=400, **sizes)
    waved = fitted(buffer, kind, updates=400, frequencies=32, bandwidth=8.0, **sizes)
    assert waved.held_out_error < 0.8 * plain.held_out_error
    history, actions = torch.randn(3, 4, 2), torch.randn(3, 5, 1)
    again = Baseline.load(waved.save(tmp_path))
    arguments = {"horizon": 5, "samples": 5}
    expected = futures(waved, history, actions, generator=seeded(), **arguments)
    assert torch.equal(futures(again, history, actions, generator=seeded(), **arguments), expected)
    path = latest_checkpoint(plain.save(tmp_path / "plain"))
    settings = json.loads((path / "settings.json").read_text())
    del settings["model"]["frequencies"], settings["model"]["bandwidth"]  # as before there were any
    (path / "settings.json").write_text(json.dumps(settings))
    resign(path)
    old = futures(Baseline.load(path), history, actions, generator=seeded(), **arguments)
    assert torch.equal(old, futures(plain, history, actions, generator=seeded(), **arguments))
