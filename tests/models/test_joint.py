"""Joint energies: the density of whole windows, walls and all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.data.batch import Batch
from ebm_control.energies import FourierMLP, OnStates, TrajectoryLayout, TransitionEnergy
from ebm_control.models import ModelSettings, TrainSettings, TrajectoryModel, fit_model
from ebm_control.training import RandomNegatives, scattered, uniform
from ebm_control.training.negatives import drawn_from, load_states, states_of

pytestmark = pytest.mark.slow

SETTINGS = TrainSettings(
    ModelSettings(
        hidden=(64, 64),
        base="gaussian",
        base_std=1.2,
        states_only=True,
        joint=True,
        frequencies=32,
    ),
    updates=250,
    batch_size=128,
    loss="softplus",
    energy_l2=0.003,
    learning_rate=2e-3,
    langevin_steps=5,
    random_negatives=64,
)


@pytest.fixture(scope="module")
def ring() -> RolloutBuffer:
    """Random walks in [-1, 1]² that never enter the square |x|, |y| < 0.5."""
    rng = np.random.default_rng(0)
    buffer = RolloutBuffer(2, 2)
    for _ in range(100):
        angle, radius = rng.uniform(0, 2 * np.pi), 0.8
        states = [radius * np.array([np.cos(angle), np.sin(angle)])]
        actions = rng.uniform(-0.1, 0.1, (30, 2))
        for action in actions:
            there = np.clip(states[-1] + action, -1, 1)
            states.append(states[-1] if np.abs(there).max() < 0.5 else there)
        buffer.add_episode(np.array(states), actions)
    return buffer


def rest(model: TrajectoryModel, points: list[list[float]]) -> torch.Tensor:
    states = model.normalizer.normalize_observations(torch.tensor(points)).float()
    return model.energy(torch.stack([states, states], dim=1))


def test_a_joint_energy_is_high_where_no_data_were(ring: RolloutBuffer) -> None:
    model = fit_model(ring, SETTINGS, progress=False)
    inside = rest(model, [[0.0, 0.0], [0.2, 0.1], [-0.2, -0.2]])
    outside = rest(model, [[0.8, 0.0], [0.0, 0.8], [-0.6, -0.6]])
    assert float(inside.min()) > float(outside.max()) + 1


def test_a_joint_run_resumes_bit_for_bit_and_loads_with_its_random_features(
    ring: RolloutBuffer, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, updates=20, checkpoint_every=10)
    whole = fit_model(ring, settings, folder=tmp_path / "whole", progress=False)
    fit_model(ring, settings, folder=tmp_path / "part", progress=False)
    for newest in sorted((tmp_path / "part" / "checkpoints").glob("step_*"))[1:]:
        for file in sorted(newest.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        newest.rmdir()
    resumed = fit_model(ring, settings, folder=tmp_path / "part", resume=True, progress=False)
    loaded = TrajectoryModel.load(tmp_path / "whole" / "checkpoints")
    x = torch.randn(16, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resumed.energy(x), whole.energy(x))
    assert torch.equal(loaded.energy(x), whole.energy(x))


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"base": "regression"}, "joint"), ({"kind": "window"}, "joint")],
)
def test_a_joint_energy_of_another_kind_is_refused(changes: dict[str, str], name: str) -> None:
    with pytest.raises(InputError, match=name):
        replace(SETTINGS.model, **changes)


def test_random_negatives_need_a_joint_energy() -> None:
    with pytest.raises(InputError, match="random_negatives"):
        TrainSettings(random_negatives=8)


def test_scattered_windows_fill_the_box_and_walk_by_the_given_deviation() -> None:
    layout, low, high = TrajectoryLayout(2, 1), torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0])
    fresh = scattered(layout, low, high, torch.tensor([0.1, 0.01]))
    x = fresh((20_000, 2, 3), torch.Generator().manual_seed(0), None)
    states = layout.states(x)
    assert bool(((states >= low) & (states <= high)).all())
    torch.testing.assert_close(states[:, 0].mean(dim=0), (low + high) / 2, atol=0.03, rtol=0)
    middle = (states[:, 0, 0].abs() < 1) & ((states[:, 0, 1] - 0.5).abs() < 0.3)
    step = (states[:, 1] - states[:, 0])[middle]
    torch.testing.assert_close(step.std(dim=0), torch.tensor([0.1, 0.01]), rtol=0.05, atol=0)


def test_sources_together_give_all_windows_and_resume() -> None:
    def source(seed: int) -> RandomNegatives:
        return RandomNegatives(uniform(-1, 1), 4, seed=seed)

    batch = Batch(torch.zeros(3, 2, 2), torch.full((3, 1), 2.0), torch.arange(3))
    both = [source(0), lambda step, batch: None, source(1)]
    drawn_from(both, 0, batch)
    state = states_of(both)
    expected = drawn_from(both, 1, batch)
    again = [source(5), lambda step, batch: None, source(6)]
    load_states(again, state)
    given = drawn_from(again, 1, batch)
    assert expected is not None
    assert given is not None
    assert given.x.shape == (8, 2, 2)
    assert torch.equal(given.x, expected.x)
    assert given.context is not None
    assert given.context.shape == (8, 1)
    assert drawn_from([lambda step, batch: None], 0, batch) is None
    assert drawn_from([], 0, batch) is None


def test_fourier_features_are_of_the_first_inputs_alone_and_stay_with_the_weights() -> None:
    network = FourierMLP(5, (16,), features=2, frequencies=8, bandwidth=3.0)
    assert network.directions.shape == (2, 8)
    assert "directions" in network.state_dict()
    assert network(torch.zeros(4, 3, 5)).shape == (4, 3, 1)
    with pytest.raises(InputError, match="features"):
        FourierMLP(2, features=3)


def test_an_energy_on_states_rates_the_states_of_a_trajectory_with_actions() -> None:
    energy, layout = TransitionEnergy(TrajectoryLayout(2)), TrajectoryLayout(2, 3)
    x = torch.randn(6, 4, 5)
    assert torch.equal(OnStates(energy, layout)(x), energy(x[..., :2]))
