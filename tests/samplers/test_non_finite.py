"""Energies that are not finite somewhere: chains never go there, and what they refuse is counted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm_control.samplers import CEM, HMC, MALA, MPPI, GaussNewton, Langevin
from tests.helpers import normal, seeded
from tests.samplers.helpers import Function, quadratic, walled

CHAINS = {
    "overdamped": Langevin(steps=200, step_size=0.1),
    "underdamped": Langevin(steps=200, step_size=0.1, friction=0.5),
    "rms": Langevin(steps=200, step_size=0.05, adapt="rms"),
    "mala": MALA(steps=200, step_size=0.1),
    "hmc": HMC(steps=200, step_size=0.3, leapfrog=3),
    "second-order": GaussNewton(steps=200, temperature=1.0, step_size=0.2),
}
SEARCHES = {
    "mppi": MPPI(steps=30, candidates=128),
    "cem": CEM(steps=30, candidates=128, elites=32),
    "mppi, wide": MPPI(30, 128, elites=32, adapt=0.5, free=True, clamp=(-4.0, 4.0)),
    "cem, wide": CEM(30, 128, elites=32, free=True, clamp=(-4.0, 4.0)),
}
every_chain = pytest.mark.parametrize("sampler", CHAINS.values(), ids=CHAINS)
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def steep(x: Tensor) -> Tensor:
    """Finite beyond x_0 = ½, but with a NaN for its gradient there: infinity less infinity."""
    depth = 0.5 - x[:, 0]
    return quadratic(x) - (depth.abs() + depth).sqrt()


WALLS = {
    "nan": walled(math.nan),
    "inf": walled(math.inf),
    "-inf": walled(-math.inf),
    "gradient": Function(steep),
}


@every_chain
@pytest.mark.parametrize("wall", WALLS.values(), ids=WALLS)
def test_chains_never_enter_and_refused_moves_are_counted(sampler: Any, wall: Function) -> None:
    chain = sampler(wall, -normal(32, 2).abs(), generator=seeded(), trace=1)
    assert (chain.trace[..., 0] <= 0.5).all()
    assert torch.isfinite(chain.energy).all()
    assert 0 < chain.info["rejected"].sum() < 0.5 * 200 * 32
    assert torch.isfinite(chain.info["gradient_norm"]).all()
    assert (chain.trace[-1] != chain.trace[-50]).any(dim=-1).all()  # none is stuck


@every_chain
def test_nothing_is_refused_where_all_is_finite(sampler: Any) -> None:
    chain = sampler(Function(quadratic), normal(32, 2), generator=seeded())
    assert chain.info["rejected"].sum() == 0


@every_chain
@pytest.mark.parametrize("wall", WALLS.values(), ids=WALLS)
def test_chains_that_start_inside_can_leave(sampler: Any, wall: Function) -> None:
    start = torch.full((16, 2), 0.7, dtype=torch.float64)
    chain = sampler(wall, start, generator=seeded(1))
    assert (chain.x[:, 0] <= 0.5).all()
    assert torch.isfinite(chain.energy).all()


def test_a_refused_chain_leaves_the_others_alone() -> None:
    """Chain by chain: what happens in one does not touch its neighbours."""
    x = normal(8, 2)
    x[:, 0] = -3 - x[:, 0].abs()
    sampler = Langevin(steps=5, step_size=0.01)
    calm = sampler(walled(math.nan), x, generator=seeded())
    x[3, 0] = 0.7  # inside
    disturbed = sampler(walled(math.nan), x, generator=seeded())
    others = torch.arange(8) != 3
    assert torch.equal(disturbed.x[others], calm.x[others])


def test_underdamped_chain_turns_round_at_a_wall() -> None:
    """With little friction, momentum kept at a refused move would press a chain against the wall for long."""
    flat = Function(lambda x: torch.where(x[:, 0].abs() < 1, 0 * x[:, 0], x.new_tensor(math.nan)))
    x = torch.zeros(64, 1, dtype=torch.float64)
    chain = Langevin(steps=600, step_size=0.005, friction=0.01)(flat, x, generator=seeded(), trace=1)
    assert chain.info["rejected"][100:].double().mean() < 0.1 * 64
    assert chain.trace is not None
    assert abs(chain.trace[100:].square().mean().item() - 1 / 3) < 0.03  # uniform between the walls


@every_search
def test_searches_rank_every_non_finite_energy_as_infinity(search: Any) -> None:
    """The same search, to the bit, whichever way an energy is not finite."""
    ends = [
        search(walled(inside), 0.3 - normal(8, 2).abs(), generator=seeded())
        for inside in (math.inf, math.nan, -math.inf)
    ]
    assert ends[0].info["rejected"].sum() > 0
    for end in ends[1:]:
        assert torch.equal(end.x, ends[0].x)
        assert torch.equal(end.energy, ends[0].energy)
        assert torch.equal(end.info["rejected"], ends[0].info["rejected"])


@every_search
def test_searches_find_the_best_beside_a_region_of_nan(search: Any) -> None:
    """The optimum lies in the region: the best that remains is at its edge, x_0 = ½."""
    beyond = Function(
        lambda x: torch.where(
            x[:, 0] < 0.5, (x - torch.tensor([1.0, 0.3])).square().sum(dim=1), x.new_tensor(math.nan)
        )
    )
    chain = search(beyond, torch.zeros(8, 2, dtype=torch.float64), generator=seeded())
    assert torch.isfinite(chain.energy).all()
    assert (chain.x - torch.tensor([0.5, 0.3])).abs().max() < 0.1


@every_search
def test_searches_that_start_inside_leave(search: Any) -> None:
    chain = search(walled(math.nan), torch.full((8, 2), 0.7, dtype=torch.float64), generator=seeded())
    assert torch.isfinite(chain.energy).all()
    assert chain.x.norm(dim=1).max() < 0.3


@every_search
def test_searches_stay_where_no_candidate_is_finite(search: Any) -> None:
    nowhere = Function(lambda x: torch.full_like(x[:, 0], math.nan))
    x = normal(8, 2)
    chain = replace(search, steps=3)(nowhere, x, generator=seeded())
    assert torch.equal(chain.x, x)
    assert not torch.isfinite(chain.energy).any()
    assert chain.info["rejected"].tolist() == [8 * 128] * 3


def test_cem_fits_only_elites_of_finite_energy() -> None:
    """A sliver of finite energy beside the start, found by fewer candidates than there are elites."""
    sliver = Function(
        lambda x: torch.where((x[:, 0] - 0.5).abs() < 0.05, x[:, 1].square(), x.new_tensor(math.nan))
    )
    x = torch.zeros(16, 2, dtype=torch.float64)
    search = CEM(steps=6, candidates=64, elites=20, noise=0.3, smoothing=0)  # the fit alone
    chain = search(sliver, x, generator=seeded(), trace=1)
    assert chain.trace is not None
    assert ((chain.trace[2:, :, 0] - 0.5).abs() < 0.05).all()
