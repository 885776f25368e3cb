"""Do chains follow the law they should? Judged by z-tests scaled by effective sample size, which are judged too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebm_control.samplers import HMC, MALA, GaussNewton, Langevin
from ebm_control.samplers.chain import Sampler
from tests.helpers import normal, seeded
from tests.samplers.helpers import (
    THRESHOLD,
    Gaussian,
    correlated_precision,
    discretised_covariance,
    discretised_well_moments,
    double_well,
    exact_well_moments,
    gaussian_moments,
    moments,
    walled,
    well_moments,
    z_scores,
)

pytestmark = pytest.mark.slow

STEP = 0.2  # of eigenvalue 4 the discretisation makes a variance 1/0.6 of the exact one: plain to see
SCALE = torch.tensor([0.5, 1.3, 0.8], dtype=torch.float64)
HEIGHT, WELL_STEP = 1.5, 0.04


def gaussian_z(sampler: Sampler, covariance: Tensor) -> float:
    energy = Gaussian(correlated_precision())
    start = normal(256, 3, seed=1)
    return float(
        z_scores(sampler, energy, start, moments, gaussian_moments(covariance), warm_up=80).abs().max()
    )


def well_z(sampler: Sampler, expected: Tensor) -> float:
    start = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(200)[:, None]
    return float(
        z_scores(sampler, double_well(HEIGHT), start, well_moments, expected, warm_up=100).abs().max()
    )


def discretised(temperature: float = 1.0, scale: Tensor | None = None) -> Tensor:
    return discretised_covariance(
        correlated_precision(), STEP, temperature, torch.ones(3).double() if scale is None else scale
    )


def exact(temperature: float = 1.0) -> Tensor:
    return temperature * torch.linalg.inv(correlated_precision())


@pytest.mark.parametrize("friction", [None, 0.3, 2.0, 20.0])
@pytest.mark.parametrize(("temperature", "scale"), [(1.0, None), (2.5, None), (0.7, SCALE)])
def test_langevin_follows_the_discretised_gaussian_at_any_friction_temperature_and_scale(
    friction: float | None, temperature: float, scale: Tensor | None
) -> None:
    sampler = Langevin(steps=330, step_size=STEP, temperature=temperature, scale=scale, friction=friction)
    assert gaussian_z(sampler, discretised(temperature, scale)) < THRESHOLD


@pytest.mark.parametrize(
    "sampler",
    [
        MALA(steps=330, step_size=0.3),
        MALA(steps=330, step_size=0.3, temperature=2.5, scale=SCALE),
        HMC(steps=230, step_size=0.35, leapfrog=3),
        HMC(steps=230, step_size=0.4, leapfrog=3, temperature=2.5, scale=SCALE),
        GaussNewton(steps=230, temperature=1.0),
        GaussNewton(steps=230, temperature=2.5, step_size=0.8, damping=0.5, scale=SCALE),
    ],
    ids=["mala", "mala-scaled-hot", "hmc", "hmc-scaled-hot", "second-order", "second-order-scaled-hot"],
)
def test_metropolis_samplers_follow_the_exact_gaussian(sampler: MALA | HMC | GaussNewton) -> None:
    assert gaussian_z(sampler, exact(sampler.temperature)) < THRESHOLD


def test_langevin_follows_the_discretised_law_of_a_double_well() -> None:
    sampler = Langevin(steps=500, step_size=WELL_STEP)
    assert well_z(sampler, discretised_well_moments(HEIGHT, WELL_STEP)) < THRESHOLD


@pytest.mark.parametrize(
    "sampler",
    [
        MALA(steps=500, step_size=0.08),
        HMC(steps=300, step_size=0.3, leapfrog=3),
        GaussNewton(steps=400, temperature=1.0, damping=1.0),
    ],
    ids=["mala", "hmc", "second-order"],
)
def test_metropolis_samplers_follow_the_exact_law_of_a_double_well(sampler: Sampler) -> None:
    assert well_z(sampler, exact_well_moments(HEIGHT)) < THRESHOLD


def test_metropolis_sampler_follows_the_exact_law_beside_a_wall_of_nan() -> None:
    """Standard normal over x < ½: mean -φ(½)/Φ(½), second moment 1 - ½ φ(½)/Φ(½)."""
    ratio = math.exp(-0.125) / math.sqrt(2 * math.pi) / (0.5 * (1 + math.erf(0.5 / math.sqrt(2))))
    expected = torch.tensor([-ratio, 1 - 0.5 * ratio])
    start = -normal(256, 1, seed=1).abs()
    z = z_scores(MALA(steps=330, step_size=0.3), walled(math.nan), start, moments, expected, warm_up=80)
    assert z.abs().max() < THRESHOLD


@pytest.mark.parametrize("friction", [None, 0.5])
@pytest.mark.parametrize(
    "noise",
    [1.1 * math.sqrt(2 * STEP), 0.9 * math.sqrt(2 * STEP), 0.0, math.sqrt(STEP)],
    ids=["10-percent-up", "10-percent-down", "dropped", "missing-factor-2"],
)
def test_z_test_catches_wrong_noise(noise: float, friction: float | None) -> None:
    wrong = Langevin(steps=330, step_size=STEP, noise=noise, friction=friction)
    assert gaussian_z(wrong, discretised()) > 2 * THRESHOLD


def test_z_test_catches_an_omitted_acceptance_test() -> None:
    """Langevin is MALA that accepts every proposal."""
    assert gaussian_z(Langevin(steps=330, step_size=0.3), exact()) > 2 * THRESHOLD
    assert well_z(Langevin(steps=500, step_size=0.08), exact_well_moments(HEIGHT)) > 2 * THRESHOLD


def test_z_test_tells_the_discretised_from_the_exact_law_of_a_double_well() -> None:
    assert (
        well_z(MALA(steps=500, step_size=WELL_STEP), discretised_well_moments(HEIGHT, WELL_STEP)) > THRESHOLD
    )


def test_z_test_catches_chains_that_stay_in_their_well() -> None:
    """Chains that start 3 to 1 in one well, with steps too small to cross, have the wrong mass there."""
    start = torch.tensor([-1.0, -1.0, -1.0, 1.0], dtype=torch.float64).repeat(100)[:, None]
    lazy = Langevin(steps=300, step_size=1e-4)
    z = z_scores(lazy, double_well(8.0), start, well_moments, exact_well_moments(8.0), warm_up=100)
    assert z[3].abs() > THRESHOLD


def test_metropolis_acceptance_falls_with_the_step_size() -> None:
    energy, start = Gaussian(correlated_precision()), normal(256, 3, seed=1)
    rates = [
        float(MALA(steps=50, step_size=s)(energy, start, generator=seeded()).info["acceptance"].mean())
        for s in (0.01, 0.3, 1.0)
    ]
    assert rates[0] > 0.97
    assert rates[0] > rates[1] > rates[2]
