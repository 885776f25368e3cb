import numpy as np
import torch
from gymnasium.spaces import Box

from ebm_control.data import RolloutBuffer
from ebm_control.online import bounded_normalizer


def spread(widths, centre=(0.1, 5, 1), periods=()):
    """Three coordinates, uniform within so much of their centre."""
    rng, buffer = np.random.default_rng(0), RolloutBuffer(3, 1, periods=periods)
    low, high = np.subtract(centre, widths), np.add(centre, widths)
    buffer.add_episode(rng.uniform(low, high, (401, 3)), rng.normal(size=(400, 1)))
    return buffer


def test_coordinates_whose_data_spread_over_their_bounds_range_over_them_and_the_others_over_the_data():
    space = Box(np.array([-1, 0, -np.inf]), np.array([1, 10, np.inf]), dtype=float)
    data = spread((0.5, 0.1, 0.1))
    units, fitted = bounded_normalizer(data, space), data.normalizer()
    assert units.obs_mean[0] == 0.0
    assert torch.isclose(units.obs_std[0], torch.tensor(2.0 / 12**0.5, dtype=torch.float64))
    for i in (1, 2):  # close to where episodes begin; without bounds
        assert units.obs_mean[i] == fitted.obs_mean[i]
        assert units.obs_std[i] == fitted.obs_std[i]
    assert torch.equal(units.act_mean, fitted.act_mean)
    assert torch.equal(units.act_std, fitted.act_std)
    uniform = torch.from_numpy(np.random.default_rng(0).uniform([-1, 0, 0], [1, 10, 1], (20_000, 3)))
    inside = units.normalize_observations(uniform)[:, 0]
    assert abs(float(inside.std()) - 1) < 0.02


def test_a_bound_on_one_side_only_or_a_huge_one_is_none():
    data = spread((0.5, 0.5, 0.5))
    space = Box(np.array([-1, -1e9, -np.inf]), np.array([np.inf, 1e9, 1]), dtype=float)
    assert torch.equal(bounded_normalizer(data, space).obs_std, data.normalizer().obs_std)


def test_periodic_coordinates_keep_their_period():
    data = spread((1.0, 4.0, 0.9), periods=(0.0, 0.0, 2.0))
    units = bounded_normalizer(data, Box(-10.0, 10.0, (3,), dtype=float))
    assert (units.obs_mean[2], units.obs_std[2]) == (0.0, 1.0)
    assert units.obs_mean[1] == 0.0, "its data spread over the bounds"
    assert units.periods == (0.0, 0.0, 2.0)
