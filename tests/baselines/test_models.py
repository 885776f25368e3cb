import pytest
import torch
from torch import nn

from ebm_control.baselines import Ensemble, FeedForward, TrajectorySampling
from ebm_control.checks import InputError
from ebm_control.energies import TrajectoryLayout
from tests.helpers import assert_equal_up_to_rounding, seeded

LAYOUT = TrajectoryLayout(2, 1, periods=(2.0, 0.0))
SCALE = torch.tensor([0.5, 2.0])


@pytest.fixture
def ensemble():
    torch.manual_seed(0)
    return Ensemble(LAYOUT, SCALE, (16, 16), members=3)


def trajectories(count=4, rows=6):
    return torch.randn(count, rows, 3, generator=seeded())


def alone(ensemble, member):
    """One member as a plain network of `nn.Linear`s."""
    layers = []
    for weight, bias in zip(ensemble.weights, ensemble.biases, strict=True):
        layer = nn.Linear(*weight.shape[1:])
        layer.weight.data, layer.bias.data = weight[member].T, bias[member, 0]
        layers += [layer, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def test_members_in_one_batch_are_the_networks_they_are_alone(ensemble):
    inputs = torch.randn(3, 7, 4, generator=seeded())
    mean, log_variance = ensemble(inputs)
    for member in range(3):
        expected, raw = alone(ensemble, member)(inputs[member]).chunk(2, dim=-1)
        assert torch.allclose(mean[member], expected, atol=1e-6)
        bounded = 0.5 - nn.functional.softplus(0.5 - raw)  # the bound below, at -10, is far away
        assert torch.allclose(log_variance[member], bounded, atol=1e-3)


def test_log_variance_stays_between_its_bounds_wherever_a_member_looks(ensemble):
    _, log_variance = ensemble(1e3 * torch.randn(3, 100, 4, generator=seeded()))
    assert log_variance.max() <= 0.5 + 1e-4
    assert log_variance.min() >= -10 - 1e-4
    assert log_variance.max() - log_variance.min() > 5


def test_a_rollout_replaces_all_states_but_the_first_and_keeps_actions(ensemble):
    x = trajectories()
    for dynamics, particles in (
        (FeedForward(LAYOUT, SCALE, (16,)), 1),
        (ensemble, 3),
        (TrajectorySampling(ensemble, 6, 5, seeded()), 6),
    ):
        paths = dynamics.rollout(x)
        other = x.clone()
        other[:, 1:, :2] += 1
        assert paths.shape == (4, particles, 6, 3)
        assert torch.equal(paths[..., 2], x[:, None, :, 2].expand(-1, particles, -1))
        assert torch.equal(paths[:, :, 0], x[:, None, 0].expand(-1, particles, -1))
        assert torch.equal(dynamics.rollout(other), paths)


def test_a_feed_forward_step_is_the_state_and_a_scaled_displacement():
    model, x = FeedForward(LAYOUT, SCALE, (16,)), trajectories(rows=2)
    moved = x[:, 0, :2] + SCALE * model.network(model.inputs(x[:, 0]))
    assert_equal_up_to_rounding(model.rollout(x)[:, 0, 1, :2], moved)
    x[:, 1, :2] = moved
    x[:, 1, 0] += 2.0  # once round the ring
    assert model.residual(x).abs().max() < 1e-5


def test_particles_keep_their_member_for_the_whole_plan(ensemble):
    """With variances of nothing every particle walks its member's path, and members walk apart."""
    ensemble.log_variance_low.data.fill_(-60.0)
    ensemble.log_variance_high.data.fill_(-50.0)
    x = trajectories()
    paths = TrajectorySampling(ensemble, 6, 5, seeded()).rollout(x).unflatten(1, (3, 2))
    assert torch.allclose(paths, ensemble.rollout(x)[:, :, None].expand_as(paths), atol=1e-5)
    assert paths[:, :, 0, -1, :2].std(dim=1).min() > 1e-3
    for member in range(3):
        network, state = alone(ensemble, member), x[:, 0]
        for t in range(1, 6):
            moved = state[:, :2] + SCALE * network(ensemble.inputs(state))[:, :2]
            state = torch.cat([moved, x[:, t, 2:]], dim=1)
        assert torch.allclose(paths[:, member, 0, -1], state, atol=1e-4)


def test_one_step_of_many_particles_has_the_members_mean_and_variance(ensemble):
    x = trajectories(2, 2)
    paths = TrajectorySampling(ensemble, 3 * 20_000, 1, seeded()).rollout(x)[:, :, 1, :2]
    mean, log_variance = ensemble(ensemble.inputs(x[:, 0]).expand(3, -1, -1))
    drawn = (paths - x[:, None, 0, :2]).unflatten(1, (3, -1)) / SCALE  # (2, members, K, 2)
    sigma = (0.5 * log_variance).exp().transpose(0, 1)
    assert ((drawn.mean(dim=2) - mean.transpose(0, 1)).abs() < 5 * sigma / 20_000**0.5).all()
    assert torch.allclose(drawn.std(dim=2), sigma, rtol=0.03)


def test_noise_is_drawn_once_and_shared_by_all_trajectories(ensemble):
    dynamics, x = TrajectorySampling(ensemble, 3, 5, seeded()), trajectories()
    state = torch.get_rng_state()
    paths = dynamics.rollout(x)
    assert torch.equal(dynamics.rollout(x), paths)
    assert torch.equal(torch.get_rng_state(), state)
    same = dynamics.rollout(x[:1].expand(4, -1, -1))
    assert torch.allclose(same, same[:1].expand_as(same), atol=1e-6)
    assert torch.allclose(same[0], paths[0], atol=1e-6)
    assert not torch.allclose(TrajectorySampling(ensemble, 3, 5, seeded(1)).rollout(x), paths, atol=1e-3)


@pytest.mark.parametrize("model", [FeedForward, Ensemble])
def test_a_model_of_states_alone_rolls_out_from_the_first_state(model):
    layout = TrajectoryLayout(2, periods=(2.0, 0.0))
    dynamics, x = model(layout, SCALE, (16,)), trajectories()[..., :2]
    paths = dynamics.rollout(x)
    assert paths.shape[2:] == (6, 2)
    assert_equal_up_to_rounding(dynamics.rollout(x[:, :1].expand(-1, 6, -1)), paths)  # of other strides
    assert (paths[:, :, 1:] - paths[:, :, :-1]).abs().amax(dim=-1).min() > 1e-4
    x = paths[:, 0, :2]
    expected = 0 if model is FeedForward else paths[:, 0, 1] - paths[:, :, 1].mean(dim=1)
    assert torch.allclose(dynamics.residual(x), expected / SCALE, atol=1e-5)


def test_noise_of_a_trajectorys_own_is_followed_as_if_it_were_alone(ensemble):
    x, noise = trajectories(), torch.randn(5, 3, 2, 4, 2, generator=seeded())
    together = ensemble.follow(x, noise)
    for i in range(4):
        alone = ensemble.follow(x[i : i + 1], noise[:, :, :, i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-5)


def test_gradients_reach_the_actions(ensemble):
    x = trajectories().requires_grad_()
    TrajectorySampling(ensemble, 3, 5, seeded()).rollout(x)[:, :, -1, :2].sum().backward()
    assert (x.grad[:, :-1, 2].abs() > 0).all()
    assert (x.grad[:, 1:, :2] == 0).all()
    assert (x.grad[:, -1, 2] == 0).all()


def test_settings_of_no_sense_are_refused(ensemble):
    with pytest.raises(InputError, match="particles: expected a multiple of the 3 members, got 4"):
        TrajectorySampling(ensemble, 4, 5)
    with pytest.raises(InputError, match="x: expected at most horizon = 4, got 5 steps"):
        TrajectorySampling(ensemble, 3, 4, seeded()).rollout(trajectories())
    with pytest.raises(InputError, match="members: expected a whole number of at least 1, got 0"):
        Ensemble(LAYOUT, SCALE, members=0)
    with pytest.raises(InputError, match="hidden: expected a sequence of at least 1"):
        FeedForward(LAYOUT, SCALE, ())
