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


OFFSETS = (0.0, 1e4, 1e6, -5e6, 1e8, 1e10)


@pytest.mark.parametrize("offset", OFFSETS)
def test_the_same_world_elsewhere_has_the_same_normalised_data(offset):
    rng = np.random.default_rng(3)
    near, actions = rng.uniform(-1, 1, (300, 2)), rng.uniform(-1, 1, (300, 1))
    here, there = Normalizer.fit(near, actions), Normalizer.fit(near + offset, actions + offset)
    tolerance = 1e-5 + 10 * abs(offset) * np.finfo(float).eps
    for normalise, data, of in (("normalize_observations", near, here), ("normalize_actions", actions, here)):
        expected = getattr(of, normalise)(torch.from_numpy(data))
        found = getattr(there, normalise)(torch.from_numpy(data + offset))
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    # From float32, as networks give it, back to raw units: nothing of the offset's digits is lost.
    normalised = here.normalize_observations(torch.from_numpy(near)).float()
    raw = there.denormalize_observations(normalised)
    assert raw.dtype == torch.float64
    torch.testing.assert_close(raw - offset, torch.from_numpy(near), atol=1e-6 + tolerance, rtol=0)
    back = there.normalize_observations(raw).float()
    torch.testing.assert_close(back, normalised, atol=1e-6 + tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_normalised_figures_keep_their_dtype_and_are_computed_in_float64(dtype):
    raw = torch.tensor([[1.0], [3.0]], dtype=dtype)
    n = Normalizer.fit(np.array([[0.5], [1.25], [3.5]]), np.zeros((3, 1)))
    found = n.normalize_observations(raw)
    assert found.dtype == (dtype if dtype.is_floating_point else torch.float64)
    expected = (raw.double() - n.obs_mean) / n.obs_std
    assert torch.equal(found, expected.to(found.dtype))


@pytest.mark.parametrize(
    ("value", "jitter"),
    [(1000.0, 1e-4), (1e6, 0.1), (-1e6, 0.1), (3e7, 4.0), (0.1, 0.0), (0.0, 0.0), (250.0, 3e-5), (0.3, 3e-8)],
)
def test_a_constant_with_float32_rounding_stays_far_below_one(value, jitter):
    rng = np.random.default_rng(4)
    rows = (value + rng.uniform(-jitter, jitter, (500, 1))).astype(np.float32)
    for data in (rows, rows.astype(np.float64), torch.from_numpy(rows)):
        n = Normalizer.fit(data, np.zeros((500, 1)))
        assert n.obs_std.item() == pytest.approx(max(1.0, abs(value)), rel=1e-5)
        assert n.normalize_observations(torch.from_numpy(rows)).abs().max() < 1e-5


@pytest.mark.parametrize("value", [1e-3, 0.7, 1000.0, -4e6])
def test_a_constant_with_float64_rounding_counts_as_one(value):
    rows = value * (1 + 1e-15 * np.random.default_rng(5).integers(-3, 4, (500, 1)))
    n = Normalizer.fit(rows, np.zeros((500, 1)))
    assert n.obs_std.item() == pytest.approx(max(1.0, abs(value)))


def test_rounding_about_zero_counts_as_constant():
    rows = np.random.default_rng(6).normal(0, 1e-17, (500, 1))
    assert Normalizer.fit(rows, np.zeros((500, 1))).obs_std.item() == 1


@pytest.mark.parametrize(
    ("offset", "size", "dtype"),
    [
        (1e8, 1.0, np.float64),
        (1.7e9, 1.0, np.float64),  # seconds since 1970
        (1e11, 1.0, np.float64),
        (1000.0, 1e-4, np.float64),
        (1000.0, 1.0, np.float32),
        (1e6, 20.0, np.float32),
        (0.0, 1e-9, np.float64),  # metres of an atomic force microscope
        (0.0, 1e-9, np.float32),
    ],
)
def test_motion_that_the_precision_of_the_data_can_hold_is_no_constant(offset, size, dtype):
    moves = size * np.random.default_rng(7).uniform(-1, 1, (500, 1))
    data = (offset + moves).astype(dtype)
    n = Normalizer.fit(data, np.zeros((500, 1)))
    assert n.obs_std.item() == pytest.approx(moves.std(), rel=0.05)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x[::-1],
        lambda x: x[:, ::-1],
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
        lambda x: torch.tensor(x.astype(np.float32), requires_grad=True),
        lambda x: np.asfortranarray(x),
    ],
)
def test_data_of_any_layout_are_fitted_alike(form):
    observations, actions = (np.round(part, 2).astype(np.float32).astype(float) for part in data())
    given = form(observations)
    plain = given.detach().double().numpy() if isinstance(given, torch.Tensor) else np.array(given, float)
    found, expected = Normalizer.fit(given, actions), Normalizer.fit(plain, actions)
    assert torch.equal(found.obs_mean, expected.obs_mean)
    assert torch.equal(found.obs_std, expected.obs_std)


@pytest.mark.parametrize("given", [[0.5, 0.5], np.zeros(2)], ids=["list", "array"])
def test_values_that_are_no_tensor_are_refused(given):
    units = Normalizer.identity(2, 2)
    for convert in (units.normalize_observations, units.normalize_actions):
        with pytest.raises(InputError, match="raw values: expected a tensor"):
            convert(given)
