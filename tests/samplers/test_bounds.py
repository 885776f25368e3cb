"""Bounds and scales: where chains may be, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.images import Attack
from ebm_control.samplers import CEM, MALA, MPPI, Annealed, GaussNewton, Langevin, ProbabilityFlow
from tests.helpers import normal, seeded
from tests.samplers.helpers import Conditioned, Function

BOUNDED: dict[str, Any] = {
    "overdamped": Langevin(steps=5, step_size=0.05),
    "underdamped": Langevin(steps=5, step_size=0.05, friction=0.5),
    "rms": Langevin(steps=5, step_size=0.05, adapt="rms"),
    "mppi": MPPI(steps=5, candidates=8),
    "cem": CEM(steps=5, candidates=8, elites=3),
    "second-order": GaussNewton(steps=50, temperature=1.0),
    "second-order search": GaussNewton(steps=5),
    "annealed": Annealed((1.0, 0.5, 0.1), steps=1),
    "flow": ProbabilityFlow((1.0, 0.5, 0.1)),
    "attack": Attack(1.0, steps=5, step_size=0.1),
    "attack-l2": Attack(1.0, steps=5, step_size=0.1, norm="l2", adaptive=True),
}


@pytest.mark.parametrize("sampler", BOUNDED.values(), ids=BOUNDED)
def test_a_coordinate_whose_bounds_are_equal_stays_there_and_the_others_move(sampler: Any) -> None:
    low, high = torch.tensor([-2.0, 0.3, -2.0]), torch.tensor([2.0, 0.3, 2.0])
    x = 0.1 * normal(6, 3, dtype=torch.float32)
    noisy = Function(lambda x: (x - 1).square().sum(dim=1))
    chain = replace(sampler, clamp=(low, high))(noisy, x, generator=seeded())
    assert torch.equal(chain.x[:, 1], torch.full((6,), 0.3))
    assert (chain.x[:, [0, 2]] != x[:, [0, 2]]).all()
    assert chain.x.isfinite().all()
    if not isinstance(sampler, Annealed | Attack | GaussNewton | ProbabilityFlow):
        further = replace(sampler, clamp=(low, high)).differentiable_step(
            noisy, x, generator=seeded(), steps=2
        )
        assert torch.equal(further[:, 1], torch.full((6,), 0.3))


SEARCHED = [s for s in BOUNDED.values() if not isinstance(s, Annealed | Attack | ProbabilityFlow)]


@pytest.mark.parametrize("sampler", SEARCHED)
def test_chains_that_start_beyond_a_bound_end_within(sampler: Any) -> None:
    """Even where the energy falls outwards."""
    downhill = Function(lambda x: 0.05 * (x + 9).square().sum(dim=1))
    x = normal(6, 3) - 3
    chain = replace(sampler, clamp=(-1.0, 1.0))(downhill, x, generator=seeded())
    assert (chain.x.abs() <= 1).all()
    torch.testing.assert_close(chain.energy, downhill(chain.x))


def test_bounds_and_scales_may_differ_from_chain_to_chain() -> None:
    x = 0.1 * normal(6, 4, 3)
    bound = 0.2 + normal(6, 4, 3, seed=1).abs()
    away = Function(lambda x: (x - 9).square().sum(dim=(1, 2)))
    for sampler in (Langevin(20, 0.5, noise=0.0), GaussNewton(20), GaussNewton(20, temperature=1e-4)):
        chain = replace(sampler, clamp=(-bound, bound), scale=bound)(away, x, generator=seeded())
        assert (chain.x.abs() <= bound).all()
        if isinstance(sampler, Langevin) or sampler.temperature == 0:
            torch.testing.assert_close(chain.x, bound)


@pytest.mark.parametrize("clamp", [(1.0, 0.0), (torch.nan, 1.0), (0.0, torch.nan), (torch.inf, torch.inf)])
def test_bounds_that_leave_nothing_between_them_are_refused(clamp: tuple[float, float]) -> None:
    for sampler in (Langevin(steps=1), MPPI(steps=1), CEM(steps=1), GaussNewton(1)):
        with pytest.raises(InputError, match=r"^clamp: expected \(low, high\) with low <= high"):
            replace(sampler, clamp=clamp)(Conditioned(), normal(6, 3))


@pytest.mark.parametrize("scale", [(1.0, torch.nan, 1.0), (1.0, torch.inf, 1.0), (0.0, 1.0, 1.0)])
def test_scales_that_are_not_positive_and_finite_are_refused(scale: tuple[float, ...]) -> None:
    for sampler in (Langevin(steps=1), MALA(steps=1), MPPI(steps=1), CEM(steps=1), GaussNewton(1)):
        with pytest.raises(InputError, match=r"^scale: expected positive numbers"):
            replace(sampler, scale=scale)(Conditioned(), normal(6, 3))


@pytest.mark.parametrize("name", ["scale", "clamp"])
@pytest.mark.parametrize("given", ["ab", {}, [None] * 3, [["a"], ["b"]], torch.ones(3) + 1j])
def test_scales_and_bounds_that_are_no_figures_are_refused(name: str, given: Any) -> None:
    value = (0.0, given) if name == "clamp" else given
    for sampler in (
        Langevin(steps=1),
        Annealed((1.0, 0.5)),
        ProbabilityFlow((1.0, 0.5)),
        MPPI(steps=1),
        CEM(steps=1),
    ):
        with pytest.raises(InputError, match=rf"^{name}: expected") as caught:
            replace(sampler, **{name: value})(Conditioned(), normal(6, 3))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("clamp", [1.0, "ab", (0.0,), (0.0, 0.5, 1.0), {"low": 0.0, "high": 1.0}])
def test_bounds_that_are_no_pair_are_refused(clamp: Any) -> None:
    with pytest.raises(InputError, match=r"^clamp: expected"):
        Langevin(steps=1, clamp=clamp)(Conditioned(), normal(6, 3))


def test_scales_and_bounds_of_arrays_lists_and_tensors_are_the_same() -> None:
    figures = np.array([0.5, 1.0, 2.0])
    chains = [
        Langevin(steps=3, scale=make(figures), clamp=(make(-figures), make(figures)))(
            Conditioned(), normal(6, 3), generator=seeded()
        ).x
        for make in (tuple, np.asarray, torch.from_numpy)
    ]
    assert torch.equal(chains[0], chains[1])
    assert torch.equal(chains[0], chains[2])
