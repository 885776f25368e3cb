import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer, collect
from ebm_control.energies import TransitionEnergy
from ebm_control.models import ModelSettings, TrainSettings, TrajectoryModel, fit_base, fit_model
from ebm_control.models.trajectory_fit import batches_for, trainer_for
from tests.helpers import same
from tests.training.helpers import linear_buffer, tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pendulum() -> tuple[RolloutBuffer, RolloutBuffer]:
    """Training data and 200 held-out transitions."""
    return tuple(
        collect("Pendulum-v1", steps, num_envs=10, seed=seed, progress=False)
        for steps, seed in ((3000, 0), (200, 100))
    )


def test_base_recovers_linear_dynamics_and_reports_their_noise(tmp_path):
    noise = torch.tensor([0.02, 0.05])
    buffer, held_out = linear_buffer(30, 100), linear_buffer(10, 100, seed=1)
    normalizer = buffer.normalizer()
    settings = ModelSettings(base_hidden=(32,), hidden=(8,))
    model = TrajectoryModel.create(settings, normalizer, torch.tensor([0.1, 0.07]))
    energy = model.energy
    assert isinstance(energy, TransitionEnergy)
    tilt = {name: value.clone() for name, value in energy.network.state_dict().items()}
    batches = [batches_for(data, model, 256, seed) for seed, data in enumerate((buffer, held_out))]
    std = fit_base(energy, *batches, steps=800, learning_rate=3e-3)
    raw = std * energy.displacement_scale * normalizer.obs_std
    torch.testing.assert_close(raw.float(), noise, rtol=0.12, atol=0)
    torch.testing.assert_close(energy.next_std(), std * energy.displacement_scale)
    state, action = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.6]])
    row = torch.cat([normalizer.normalize_observations(state), normalizer.normalize_actions(action)], 1)
    expected = normalizer.denormalize_observations(energy.expected_next(row[:, None]))
    truth = 0.9 * state + action * torch.tensor([0.2, -0.1])
    assert (expected - truth).abs().max() < 0.03
    assert energy.base is not None
    assert not any(p.requires_grad for p in energy.base.parameters())
    assert all(p.requires_grad for p in energy.network.parameters())
    assert same(tilt, energy.network.state_dict())


def test_deviation_of_the_base_has_a_floor_and_other_bases_are_refused():
    buffer = linear_buffer(4, 40, noise=(0.0, 0.0))
    model = TrajectoryModel.create(tiny().model, buffer.normalizer(), torch.ones(2))
    batches = batches_for(buffer, model, 64, 0)
    assert (fit_base(model.energy, batches, batches, steps=5, minimum=0.7) == 0.7).all()
    plain = TrajectoryModel.create(tiny(base="gaussian").model, buffer.normalizer(), torch.ones(2))
    with pytest.raises(InputError, match=r"energy\.base: expected a RegressionBase, got GaussianBase"):
        fit_base(plain.energy, batches, batches)


def share_told_apart(model: TrajectoryModel, buffer: RolloutBuffer) -> float:
    """Share of transitions whose energy is below that of the same with another next state.

    The other one is the state plus a displacement of the data's own size, from another transition.
    """
    s, a, following = (torch.from_numpy(x).float() for x in buffer.transitions())
    jumps = (following - s)[torch.randperm(len(s), generator=torch.Generator().manual_seed(0))]
    energies = [
        model.energy(model.normalizer.normalize(torch.stack([s, after], 1), a[:, None]).float())
        for after in (following, s + jumps)
    ]
    return float((energies[0] < energies[1]).float().mean())


@pytest.mark.parametrize(
    ("base", "updates", "share"), [("regression", 100, 0.95), ("gaussian", 300, 0.75), ("none", 300, 0.8)]
)
def test_true_transitions_of_a_pendulum_have_lower_energy_than_false_ones(pendulum, base, updates, share):
    settings = TrainSettings(
        ModelSettings(base=base, hidden=(64, 64), base_hidden=(64,)),
        updates=updates,
        base_updates=500,
        batch_size=128,
        learning_rate=1e-3,
        langevin_steps=8,
        ema=0.95,
    )
    model = fit_model(pendulum[0], settings, progress=False)
    outcome = model.training
    assert outcome.rollbacks == 0
    assert share_told_apart(model, pendulum[1]) > share


@pytest.mark.parametrize(
    "kind",
    [
        {"states_only": True},
        {"states_only": True, "base": "none"},
        {"gaps": (1, 4)},
        {"gaps": (4,), "base": "gaussian"},
        {"window": 3},
        {"kind": "window", "window": 8},
        {"kind": "window", "window": 5, "gaps": (1, 4), "states_only": True},
        {"spectral": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("loss", ["cd", "infonce"])
def test_every_kind_of_model_trains_and_is_loaded_again(tmp_path, kind, loss):
    settings = tiny(loss=loss, updates=20, **kind)
    model = fit_model(linear_buffer(), settings, folder=tmp_path, progress=False)
    outcome = model.training
    assert (outcome.updates, outcome.rollbacks) == (20, 0)
    assert all(np.isfinite(value) for value in outcome.metrics.values())
    batch = next(batches_for(linear_buffer(seed=1), model, 16, 0))
    loaded = TrajectoryModel.load(tmp_path / "checkpoints")
    assert loaded.settings == settings.model
    assert torch.equal(model.energy(batch.x, batch.context), loaded.energy(batch.x, batch.context))
    assert same(model.normalizer.to_dict(), loaded.normalizer.to_dict())
    assert not any(p.requires_grad for p in loaded.energy.parameters())
    assert not loaded.energy.training


def test_context_tells_the_gap():
    model = fit_model(linear_buffer(), tiny(gaps=(1, 4)), progress=False)
    batch = next(batches_for(linear_buffer(), model, 16, 0))
    assert not torch.equal(model.energy(batch.x, batch.context), model.energy(batch.x, 2 - batch.context))


def test_equal_seeds_give_equal_models_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (fit_model(linear_buffer(), tiny(seed=seed), progress=False) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert same(a.energy.state_dict(), b.energy.state_dict())
    assert not same(a.energy.state_dict(), c.energy.state_dict())


def test_bad_settings_and_folders_are_named(tmp_path):
    single = RolloutBuffer(2, 1)
    single.add_episode(np.zeros((2, 2)), np.zeros((1, 1)))
    with pytest.raises(InputError, match=r"loss: expected one of .*'infonce'.*got hinge"):
        TrainSettings(loss="hinge")
    with pytest.raises(InputError, match="kind: expected transition or window, got graph"):
        ModelSettings(kind="graph")
    with pytest.raises(InputError, match=r"base: expected .*got wide"):
        ModelSettings(base="wide")
    with pytest.raises(InputError, match=r"gaps: expected a whole number of at least 1, got 0"):
        ModelSettings(gaps=(0,))
    with pytest.raises(InputError, match="buffer: expected two episodes of 1 steps or more, or one of 2"):
        fit_model(single, tiny(), progress=False)
    fit_model(linear_buffer(), tiny(updates=3), folder=tmp_path, progress=False)
    with pytest.raises(
        InputError, match=r"folder: expected none with checkpoints, or resume=True, got .*0003"
    ):
        fit_model(linear_buffer(), tiny(updates=3), folder=tmp_path, progress=False)
    with pytest.raises(InputError, match=r"settings: expected those .*'hidden'"):
        fit_model(linear_buffer(), tiny(hidden=(8,)), folder=tmp_path, progress=False, resume=True)


def test_resuming_under_other_settings_is_refused_and_names_them(tmp_path):
    buffer = collect("Pendulum-v1", 600, num_envs=2, progress=False)
    model = ModelSettings(hidden=(8,), base_hidden=(8,))
    fit_model(buffer, TrainSettings(model, updates=2, base_updates=2), folder=tmp_path, progress=False)
    other = TrainSettings(model, updates=4, base_updates=2)
    with pytest.raises(InputError, match=r"settings: expected .*'updates': 2.*got \{'updates': 4\}"):
        fit_model(buffer, other, folder=tmp_path, resume=True, progress=False)


def test_chains_of_a_joint_energy_are_free_but_stay_about_the_data():
    buffer = linear_buffer()
    settings = tiny(base="none", joint=True, random_negatives=8, loss="softplus")
    model = TrajectoryModel.create(settings.model, buffer.normalizer(), torch.ones(2))
    batches = batches_for(buffer, model, 32, 0)
    low, high = (bound[:2] for bound in batches.range())
    seen = model.normalizer.normalize_observations(torch.from_numpy(buffer.observations)).float()
    torch.testing.assert_close(torch.stack([low, high]), torch.stack([seen.amin(0), seen.amax(0)]))
    trainer = trainer_for(model, batches, settings)
    trainer.fit(batches, 20)
    chains = trainer.sample_buffer.samples[trainer.sample_buffer.filled][..., :2]
    margin = 0.0501 * (high - low)
    assert ((chains >= low - margin) & (chains <= high + margin)).all()
    starts = chains[:, 0]
    assert (torch.cdist(starts, seen).amin(dim=1) > 1e-4).float().mean() > 0.9


def test_a_fourier_model_with_actions_is_loaded_with_the_features_of_base_and_tilt(tmp_path):
    model = fit_model(linear_buffer(), tiny(frequencies=8, updates=5), folder=tmp_path, progress=False)
    loaded = TrajectoryModel.load(tmp_path / "checkpoints")
    x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    assert loaded.settings == model.settings
    assert sum(name.endswith("directions") for name in loaded.energy.state_dict()) == 2
    assert torch.equal(loaded.energy(x), model.energy(x))
