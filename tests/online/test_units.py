import numpy as np
import torch
from gymnasium.spaces import Box

from ebm_control.data import RolloutBuffer
from ebm_control.online import bounded_normalizer


def near_the_start(periods=()):
    """Three coordinates about (0.1, 5, 1)."""
    rng, buffer = np.random.default_rng(0), RolloutBuffer(3, 1, periods=periods)
    buffer.add_episode(rng.normal([0.1, 5, 1], 0.01, (51, 3)), rng.normal(size=(50, 1)))
    return buffer


def test_coordinates_with_bounds_range_over_them_and_the_others_over_the_data():
    data, space = near_the_start(), Box(np.array([-1, 0, -np.inf]), np.array([1, 10, np.inf]), dtype=float)
    units, fitted = bounded_normalizer(data, space), data.normalizer()
    assert units.obs_mean.tolist()[:2] == [0.0, 5.0]
    assert torch.allclose(units.obs_std[:2], torch.tensor([2.0, 10.0]).to(units.obs_std) / 12**0.5)
    assert units.obs_mean[2] == fitted.obs_mean[2]
    assert units.obs_std[2] == fitted.obs_std[2]
    assert torch.equal(units.act_mean, fitted.act_mean)
    assert torch.equal(units.act_std, fitted.act_std)
    uniform = torch.from_numpy(np.random.default_rng(0).uniform([-1, 0], [1, 10], (20_000, 2)))
    inside = units.normalize_observations(torch.cat([uniform, torch.ones(20_000, 1)], 1))[:, :2]
    assert torch.allclose(inside.std(dim=0), torch.ones(2).to(inside), atol=0.02)


def test_a_bound_on_one_side_only_or_a_huge_one_is_none():
    data, fitted = near_the_start(), near_the_start().normalizer()
    space = Box(np.array([-1, -1e9, -np.inf]), np.array([np.inf, 1e9, 1]), dtype=float)
    assert torch.equal(bounded_normalizer(data, space).obs_std, fitted.obs_std)


def test_periodic_coordinates_keep_their_period():
    data = near_the_start((0.0, 0.0, 2.0))
    units = bounded_normalizer(data, Box(-10.0, 10.0, (3,), dtype=float))
    assert (units.obs_mean[2], units.obs_std[2]) == (0.0, 1.0)
    assert units.obs_mean[1] == 0.0
    assert units.periods == (0.0, 0.0, 2.0)
