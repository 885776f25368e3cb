import json
import math

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import Normalizer

RNG = np.random.default_rng(0)


def data(n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    angle = RNG.uniform(-math.pi, math.pi, n)
    observations = np.stack([angle, RNG.normal(3, 5, n), np.full(n, 0.1)], axis=1)
    return observations, RNG.uniform(-1, 3, (n, 2))


def test_plain_coordinates_get_mean_0_and_deviation_1():
    observations, actions = data()
    n = Normalizer.fit(observations, actions)
    obs, act = torch.from_numpy(observations), torch.from_numpy(actions)
    for x in (n.normalize_observations(obs)[:, :2], n.normalize_actions(act)):
        torch.testing.assert_close(x.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
        torch.testing.assert_close(x.std(0, correction=0), torch.ones(2, dtype=torch.float64))


def test_constant_coordinate_keeps_its_scale():
    n = Normalizer.fit(*data())
    assert n.obs_std[2] == 1


def test_periodic_coordinate_lives_in_minus_one_to_one_with_period_two():
    observations, actions = data()
    n = Normalizer.fit(observations, actions, periods=(2 * math.pi, 0, 0))
    assert n.layout.periods == (2.0, 0.0, 0.0)
    obs = torch.from_numpy(observations)
    turned = obs + torch.tensor([4 * math.pi, 0, 0], dtype=torch.float64)
    x, y = n.normalize_observations(obs), n.normalize_observations(turned)
    assert x[:, 0].abs().max() <= 1
    torch.testing.assert_close(x[:, 0], obs[:, 0] / math.pi)
    torch.testing.assert_close(x, y)


def test_state_std_is_the_deviation_of_the_normalised_data():
    angles = np.random.default_rng(1).normal(math.pi, 0.3, 20_000)  # half of them wrap to about -π
    observations = np.stack([(angles + math.pi) % (2 * math.pi) - math.pi, angles], axis=1)
    n = Normalizer.fit(observations, np.zeros((20_000, 1)), periods=(2 * math.pi, 0))
    assert n.state_std[0].item() == pytest.approx(0.3 / math.pi, rel=0.02)
    assert n.state_std[1] == 1


def test_denormalising_undoes_normalising():
    observations, actions = data()
    n = Normalizer.fit(observations, actions, periods=(2 * math.pi, 0, 0))
    obs, act = torch.from_numpy(observations), torch.from_numpy(actions)
    back = n.denormalize(n.normalize(obs, act))
    torch.testing.assert_close(back[0], obs)
    torch.testing.assert_close(back[1], act)


def test_normalised_trajectory_follows_the_layout_and_ends_without_an_action():
    n = Normalizer.fit(*data())
    trajectory = n.normalize(torch.randn(4, 6, 3), torch.randn(4, 5, 2))
    n.layout.check("trajectory", trajectory)
    assert trajectory.dtype == torch.float32
    assert (n.layout.actions(trajectory)[:, -1] == 0).all()


def test_json_round_trip_is_exact():
    for n in (Normalizer.fit(*data(), periods=(6.3, 0, 0)), Normalizer.fit(*data()).to(torch.float32)):
        back = Normalizer.from_dict(json.loads(json.dumps(n.to_dict())))
        for name in ("obs_mean", "obs_std", "act_mean", "act_std", "state_std"):
            assert torch.equal(getattr(n, name), getattr(back, name))
            assert getattr(n, name).dtype == getattr(back, name).dtype
        assert back.periods == n.periods


def test_identity_leaves_plain_coordinates_alone():
    n = Normalizer.identity(2, 1, periods=(4.0, 0.0))
    obs = torch.tensor([[1.0, 7.0], [3.0, -7.0]])
    torch.testing.assert_close(n.normalize_observations(obs), torch.tensor([[0.5, 7.0], [-0.5, -7.0]]))


def test_bad_input_is_named():
    observations, actions = data()
    observations[3, 1] = np.nan
    with pytest.raises(InputError, match=r"observations.*\(3, 1\)"):
        Normalizer.fit(observations, actions)
    with pytest.raises(InputError, match="periods"):
        Normalizer.fit(*data(), periods=(1.0,))
    with pytest.raises(InputError, match="at least one row"):
        Normalizer.fit(np.empty((0, 3)), np.empty((0, 2)))
    with pytest.raises(InputError, match="act_std"):
        Normalizer.from_dict({**Normalizer.fit(*data()).to_dict(), "act_std": [0.0, 1.0]})
    with pytest.raises(InputError, match="obs_mean"):
        Normalizer.from_dict({"periods": []})
