import math

import pytest
import torch
from torch import nn

from ebm_control.checks import InputError
from ebm_control.energies import RegressionBase, TransitionEnergy, WindowEnergy
from ebm_control.prediction import predict
from ebm_control.samplers import Langevin, trajectory_sampler
from tests.helpers import Zero, seeded
from tests.prediction.helpers import DEVIATION, LAYOUT, SCALE, chain_variance, linear_energy, moments

COUNT = 8000


def history(rows, count=1):
    return torch.randn(count, rows, 3, generator=seeded(9))


def whole_energy():
    torch.manual_seed(0)
    return WindowEnergy(LAYOUT, displacement_scale=SCALE)


def assert_moments(states, mean, covariance):
    """Samples `(n, h, 2)` have this mean and covariance, by z-tests that hold for all entries at once."""
    n = len(states)
    z = (states.mean(dim=0) - mean) / (covariance.diagonal(dim1=1, dim2=2) / n).sqrt()
    assert z.abs().max() < 4
    centred = states - mean
    found = torch.einsum("nhi,nhj->hij", centred, centred) / n
    size = covariance.diagonal(dim1=1, dim2=2)
    error = ((size[:, :, None] * size[:, None, :] + covariance**2) / n).sqrt()  # Isserlis
    assert ((found - covariance) / error).abs().max() < 4.5


@pytest.mark.slow
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("given", [True, False])
def test_futures_of_a_linear_system_have_its_mean_and_covariance(window, given):
    past, actions = history(window), torch.randn(1, 6, 1, generator=seeded(3)) if given else None
    sampler = Langevin(25, 0.2, scale=(*(DEVIATION * SCALE).tolist(), 1.0))
    found = predict(
        linear_energy(window), past, actions, horizon=6, samples=COUNT, sampler=sampler, generator=seeded()
    )
    noise = torch.diag((DEVIATION * SCALE) ** 2) * chain_variance(sampler)
    mean, covariance = moments(past[0], actions[0] if given else None, noise, window)
    assert_moments(found.states[0], mean, covariance)


def test_own_sampler_has_the_right_spread_within_its_known_bias():
    sampler = trajectory_sampler(linear_energy())
    found = predict(
        linear_energy(), history(1), torch.zeros(1, 1, 1), horizon=1, samples=COUNT, generator=seeded()
    )
    variance = found.states[0, :, 0].var(dim=0) / (DEVIATION * SCALE) ** 2
    expected = chain_variance(sampler)
    assert 1.0 < expected < 1.06
    assert ((variance - expected).abs() / (expected * math.sqrt(2 / COUNT))).max() < 4


@pytest.mark.slow
@pytest.mark.parametrize("energy", [linear_energy(), whole_energy()], ids=["transition", "whole"])
def test_actions_that_are_not_given_are_standard_normal(energy):
    sampler = None if isinstance(energy, TransitionEnergy) else Langevin(1, 0.01)
    found = predict(energy, history(1, 2), horizon=3, samples=COUNT // 2, sampler=sampler, generator=seeded())
    actions = found.actions.flatten(0, 1)[..., 0]
    assert (actions.mean(dim=0).abs() * math.sqrt(COUNT)).max() < 4
    assert ((actions.var(dim=0) - 1).abs() / math.sqrt(2 / COUNT)).max() < 4
    assert (torch.corrcoef(actions.T) - torch.eye(3)).abs().max() < 4.5 / math.sqrt(COUNT)
    assert torch.isfinite(found.states).all()


class TwoModes(nn.Module):
    """Tilt that makes the next state's first residual a mixture: `share` about +apart, the rest about -apart."""

    def __init__(self, apart, share):
        super().__init__()
        self.apart, self.share = apart, share

    def forward(self, inputs):
        residual = torch.sinh(inputs[..., -2:-1])
        right = math.log(self.share) + self.apart * residual
        left = math.log(1 - self.share) - self.apart * residual
        return self.apart**2 / 2 - torch.logaddexp(right, left)


def residuals(apart, share, sampler=None, samples=4000):
    energy = linear_energy(tilt=TwoModes(apart, share))
    found = predict(
        energy,
        torch.zeros(1, 1, 3),
        torch.zeros(1, 1, 1),
        horizon=1,
        samples=samples,
        sampler=sampler,
        generator=seeded(),
    )
    return found.states[0, :, 0] / (DEVIATION * SCALE)


def test_both_modes_of_a_future_appear_in_equal_shares():
    first, second = residuals(5.0, 0.5).unbind(dim=1)
    right = first > 0
    assert abs(right.float().mean() - 0.5) < 4 * 0.5 / math.sqrt(4000)
    for side, mode in ((right, 5.0), (~right, -5.0)):
        # Of the way from where the base expects the state, thirty steps leave a fiftieth.
        assert first[side].mean() == pytest.approx(0.98 * mode, abs=0.1)
        assert first[side].var() == pytest.approx(1.03, abs=0.12)
    assert second.mean().abs() < 4 / math.sqrt(4000)


@pytest.mark.slow
def test_unequal_modes_have_their_shares_where_chains_mix():
    sampler = Langevin(300, 0.1, scale=(*(DEVIATION * SCALE).tolist(), 1.0))
    first = residuals(2.0, 0.8, sampler)[:, 0]
    expected_mean, second_moment = 2 * (0.8 - 0.2), 1 + 2.0**2
    error = math.sqrt((second_moment - expected_mean**2) / 4000)
    assert abs(first.mean() - expected_mean) < 4 * error + 0.05  # and a little bias of the step size
    assert abs((first > 0).float().mean() - 0.78) < 0.05


@pytest.mark.parametrize(
    "energy", [linear_energy(), linear_energy(3), whole_energy()], ids=["2", "3", "whole"]
)
def test_history_and_actions_come_back_to_the_bit(energy):
    past, actions = history(4, 5), torch.randn(5, 6, 1, generator=seeded(1))
    kept = past.clone(), actions.clone()

    class Watched(Langevin):
        def __call__(self, energy, x, **given):
            seen.append((x.clone(), given["fixed"].clone()))
            chain = super().__call__(energy, x, **given)
            assert torch.equal(chain.x[:, given["fixed"]], x[:, given["fixed"]])
            return chain

    seen = []
    found = predict(energy, past, actions, horizon=6, samples=3, sampler=Watched(4, 0.01), generator=seeded())
    assert found.states.shape == (5, 3, 6, 2)
    assert found.actions.shape == (5, 3, 6, 1)
    assert found.energy.shape == (5, 3)
    assert found.mean.shape == (5, 6, 2)
    assert torch.equal(found.actions, actions[:, None].expand(-1, 3, -1, -1))
    assert torch.equal(past, kept[0])
    assert torch.equal(actions, kept[1])
    x, fixed = seen[0]
    rows = x.shape[1] - (6 if isinstance(energy, WindowEnergy) else 1)
    assert torch.equal(x[::3, :rows, :2], past[:, -rows:, :2])
    assert fixed[:rows, :2].all()
    assert not fixed[rows:, :2].any()
    trajectory = torch.cat([past[:, None].expand(-1, 3, -1, -1)[..., :2], found.states], dim=2)
    whole = torch.cat([past[..., :-1, 2:], actions, torch.zeros(5, 1, 1)], dim=1)[:, None].expand(
        -1, 3, -1, -1
    )
    with torch.no_grad():
        energies = energy(torch.cat([trajectory, whole], dim=-1).flatten(0, 1))
    assert torch.allclose(energies.unflatten(0, (5, 3)), found.energy, rtol=1e-4)


@pytest.mark.parametrize("energy", [linear_energy(), whole_energy()], ids=["transition", "whole"])
def test_equal_generators_give_equal_futures(energy):
    runs = [predict(energy, history(1, 2), horizon=3, samples=2, generator=seeded(s)) for s in (1, 1, 2)]
    for name in ("states", "actions", "energy"):
        first, same, other = (getattr(run, name) for run in runs)
        assert torch.equal(first, same)
        assert not torch.equal(first, other)


def test_the_future_of_one_history_does_not_depend_on_another():
    cool = trajectory_sampler(linear_energy(), temperature=0)
    past, actions = history(1, 3), torch.randn(3, 4, 1, generator=seeded())
    together = predict(linear_energy(), past, actions, horizon=4, sampler=cool).states
    for i in range(3):
        alone = predict(linear_energy(), past[i : i + 1], actions[i : i + 1], horizon=4, sampler=cool).states
        assert torch.allclose(alone[0], together[i], atol=1e-6)


def test_without_noise_the_most_likely_future_is_the_mean_of_the_dynamics():
    past, actions = history(1), torch.randn(1, 6, 1, generator=seeded())
    found = predict(
        linear_energy(), past, actions, horizon=6, sampler=trajectory_sampler(linear_energy(), temperature=0)
    )
    mean, _ = moments(past[0], actions[0], torch.zeros(2, 2))
    assert torch.allclose(found.states[0, 0], mean, atol=1e-4)
    assert found.energy.abs().max() < 1e-4


@pytest.mark.parametrize(
    ("past", "actions", "message"),
    [
        (torch.zeros(2, 1, 3), None, "history: expected at least 2, got 1 rows"),
        (
            torch.zeros(2, 2, 3),
            torch.full((2, 4, 1), torch.inf),
            "actions: expected finite values only, got 8",
        ),
    ],
)
def test_short_histories_and_infinite_actions_are_refused(past, actions, message):
    with pytest.raises(InputError, match=message):
        predict(linear_energy(3), past, actions, horizon=4)
    with pytest.raises(InputError, match="samples: expected a whole number of at least 1, got 0"):
        predict(linear_energy(), torch.zeros(2, 1, 3), horizon=4, samples=0)


class Far(nn.Module):
    """A window's mean: each later state one SCALE farther than the one before."""

    def forward(self, inputs):
        return torch.arange(1.0, 5.0).repeat_interleave(2).expand(*inputs.shape[:-1], -1)


class NoTilt(nn.Module):
    def forward(self, x):
        return 0 * x.sum(dim=1)[:, :1]


def marching(noise=None):
    base = RegressionBase(Far(), 8)
    base.set_std(torch.full((8,), 0.01))
    return WindowEnergy(LAYOUT, NoTilt(), base=base, displacement_scale=SCALE, noise=noise)


@pytest.mark.parametrize("noise", [None, (0.05, 3.0)])
@pytest.mark.parametrize("horizon", [3, 4, 10])
def test_windows_of_a_base_follow_one_another_up_to_any_horizon(noise, horizon):
    past, actions = history(3, 2), torch.randn(2, horizon, 1, generator=seeded())
    found = predict(marching(noise), past, actions, horizon=horizon, samples=3, generator=seeded())
    expected = past[:, -1:, :2] + torch.arange(1.0, horizon + 1)[:, None] * SCALE
    assert found.states.shape == (2, 3, horizon, 2)
    assert torch.allclose(found.states, expected[:, None].expand_as(found.states), atol=0.3)
    assert torch.equal(found.actions, actions[:, None].expand(-1, 3, -1, -1))
    assert found.states.std(dim=1).min() > 0


def test_noised_transitions_have_the_mean_and_deviation_of_their_base():
    energy = linear_energy()
    energy = TransitionEnergy(LAYOUT, Zero(), base=energy.base, displacement_scale=SCALE, noise=(0.05, 3.0))
    past, actions = history(1), torch.zeros(1, 1, 1)
    found = predict(energy, past, actions, horizon=1, samples=COUNT, generator=seeded())
    expected = predict(linear_energy(), past, actions, horizon=1, samples=COUNT, generator=seeded(1))
    first, second = found.states[0, :, 0], expected.states[0, :, 0]
    assert ((first.mean(0) - second.mean(0)) / second.std(0)).abs().max() < 6 / math.sqrt(COUNT)
    assert torch.allclose(first.std(0), (DEVIATION * SCALE), rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("energy", [linear_energy(), marching()], ids=["step by step", "by window"])
def test_states_are_put_back_into_their_bounds_before_the_next(energy):
    low, high = torch.tensor([-0.2, -5.0]), torch.tensor([0.2, 5.0])
    past, actions = torch.zeros(1, 1, 3), torch.ones(1, 9, 1)
    free = predict(energy, past, actions, horizon=9, samples=4, generator=seeded())
    held = predict(energy, past, actions, horizon=9, samples=4, generator=seeded(), bounds=(low, high))
    assert (free.states[..., 0].abs() > 0.2).any()
    assert (held.states >= low).all()
    assert (held.states <= high).all()
    assert not torch.equal(free.states[:, :, 8, 1], held.states[:, :, 8, 1])
    with pytest.raises(InputError, match=r"^bounds: expected shape \(2\)"):
        predict(energy, past, actions, horizon=9, bounds=(torch.zeros(3), torch.ones(3)))
