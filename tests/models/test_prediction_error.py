import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import Normalizer, RolloutBuffer
from ebm_control.energies import GaussianBase, RegressionBase, TransitionEnergy
from ebm_control.models import ModelSettings, TrajectoryModel, prediction_error
from ebm_control.samplers import Langevin, trajectory_sampler
from tests.helpers import Zero

STEP, TURN = 0.1, 0.5  # how far the first coordinate moves in a step, and the second turns (period 2π)


def buffer(episodes=4, length=12):
    """The same motion in every episode: a straight line and a steady turn, from different places."""
    data = RolloutBuffer(2, 1, periods=(0.0, 2 * np.pi))
    t = np.arange(length + 1)
    for i in range(episodes):
        angle = (i + TURN * t + np.pi) % (2 * np.pi) - np.pi
        data.add_episode(np.stack([i + STEP * t, angle], axis=1), np.zeros((length, 1)))
    return data


class Constant(torch.nn.Module):
    """Predicts the same displacement always."""

    def __init__(self, *step):
        super().__init__()
        self.register_buffer("step", torch.tensor(step))

    def forward(self, inputs):
        return self.step.expand(*inputs.shape[:-1], 2)


def model(base, gaps=(1,), **given):
    normalizer = Normalizer(
        obs_mean=torch.zeros(2),
        obs_std=torch.tensor([2.0, torch.pi]),
        act_mean=torch.zeros(1),
        act_std=torch.ones(1),
        state_std=torch.tensor([1.0, 0.5]),
        periods=(0.0, 2 * np.pi),
    )
    energy = TransitionEnergy(normalizer.layout, Zero(), base=base, context_dim=int(len(gaps) > 1))
    return TrajectoryModel(energy, normalizer, ModelSettings(gaps=gaps, **given))


def test_errors_are_in_units_of_a_state_s_deviation():
    """A model that expects no change is off by STEP and TURN a step, whose units are known."""
    resting = model(GaussianBase(2, 0.01))
    error = prediction_error(resting, buffer(), 5, windows=30, sampler=Langevin(0))
    steps = torch.arange(1, 6)
    line, turn = steps * STEP / 2.0, steps * TURN / torch.pi / 0.5
    expected = ((line**2 + turn**2) / 2).sqrt()
    assert torch.allclose(error.rmse, expected, rtol=1e-5)
    assert torch.allclose(error.rmse_still, expected, rtol=1e-5)
    assert torch.allclose(error.rmse_best, expected, rtol=1e-5)
    assert error.truth.shape == (30, 5, 2)


def exact():
    return RegressionBase(Constant(STEP / 2.0, TURN / torch.pi), 2)


def test_the_true_dynamics_have_no_error():
    true = model(exact())
    error = prediction_error(
        true, buffer(), 8, windows=20, sampler=trajectory_sampler(true.energy, temperature=0)
    )
    assert error.rmse.max() < 1e-5
    assert error.rmse_still[0] > 0.1


def test_errors_of_the_mean_and_the_best_of_noisy_futures_fall_as_they_should():
    base = exact()
    base.set_std(torch.tensor([0.05, 0.025]))  # 0.05 of a state's deviation, both
    many = prediction_error(model(base), buffer(), 1, windows=400, samples=16)
    one = prediction_error(model(base), buffer(), 1, windows=400, samples=1)
    assert one.rmse[0] == pytest.approx(0.05, rel=0.12)
    assert many.rmse[0] == pytest.approx(0.05 / 4, rel=0.12)
    # Half the squared error in two coordinates is exponential, its least of 16 a sixteenth of that.
    assert many.rmse_best[0] == pytest.approx(0.05 / 4, rel=0.15)
    assert torch.allclose(one.rmse, one.rmse_best)


def test_coarse_gaps_are_predicted_by_their_own_context():
    class ByContext(torch.nn.Module):
        def forward(self, inputs):
            gap = 2 ** inputs[..., -1:]
            return gap * torch.tensor([STEP / 2.0, TURN / torch.pi])

    coarse = model(RegressionBase(ByContext(), 2), gaps=(4, 2))
    error = prediction_error(
        coarse, buffer(), 2, windows=20, sampler=trajectory_sampler(coarse.energy, temperature=0)
    )
    assert error.rmse.max() < 1e-5


def test_equal_seeds_give_equal_errors():
    runs = [prediction_error(model(exact()), buffer(), 2, windows=8, seed=seed).rmse for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="horizon: expected a whole number of at least 1"):
        prediction_error(model(exact()), buffer(), 0)
    with pytest.raises(InputError, match="length: expected windows that fit the data, got 14 states"):
        prediction_error(model(exact()), buffer(), 13)
    other = RolloutBuffer(3, 1)
    other.add_episode(np.zeros((5, 3)), np.zeros((4, 1)))
    with pytest.raises(InputError, match=r"buffer: expected the model's, \(2, 1\), got \(3, 1\)"):
        prediction_error(model(exact()), other, 2)


def test_a_model_of_whole_windows_predicts_within_its_window():
    normalizer = model(exact()).normalizer
    whole = TrajectoryModel.create(
        ModelSettings(kind="window", base="none", window=6, hidden=(16,)), normalizer, torch.ones(2)
    )
    error = prediction_error(whole, buffer(), 5, windows=10)
    assert error.prediction.states.shape == (10, 1, 5, 2)
    with pytest.raises(InputError, match="horizon: expected at most 5, the model's window"):
        prediction_error(whole, buffer(), 6, windows=10)
    based = TrajectoryModel.create(
        ModelSettings(kind="window", window=6, hidden=(16,)), normalizer, torch.ones(2)
    )
    assert prediction_error(based, buffer(), 9, windows=10).prediction.states.shape == (10, 1, 9, 2)


def test_seeds_of_numpy_are_those_of_python():
    found = [
        prediction_error(model(exact()), buffer(), 3, windows=4, seed=seed).rmse for seed in (3, np.int64(3))
    ]
    assert torch.equal(*found)
