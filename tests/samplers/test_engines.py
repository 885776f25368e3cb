"""Every engine gives the eager chain for the same generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from ebm_control.energies import Energy
from ebm_control.samplers import CEM, HMC, MALA, MPPI, Chain, Langevin
from ebm_control.samplers.engines import Engine
from tests.helpers import normal, seeded
from tests.samplers.helpers import Conditioned, spectral_transition_energy, walled

pytestmark = pytest.mark.slow

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
LANGEVIN = Langevin(steps=8, step_size=0.05, friction=0.5, adapt="rms", gradient_clip=1.0, clamp=(-2, 2))


def chain(sampler: Any, energy: Energy, engine: Engine, device: str = "cpu") -> Chain:
    """A chain with context and mask, of trajectories `(6, 4, 3)`."""
    fixed = torch.zeros(4, 3, dtype=torch.bool)
    fixed[0] = True
    return replace(sampler, engine=engine)(
        energy,
        normal(6, 4, 3).to(device),
        context=normal(6, 1, seed=1).to(device),
        fixed=fixed.to(device),
        generator=torch.Generator(device).manual_seed(3),
        trace=2,
    )


def assert_same(sampler: Any, energy: Energy, engine: Engine, device: str = "cpu") -> None:
    eager, other = (chain(sampler, energy, e, device) for e in ("eager", engine))
    assert eager.trace is not None
    assert other.trace is not None
    torch.testing.assert_close(other.x, eager.x, rtol=0, atol=1e-5)
    torch.testing.assert_close(other.trace, eager.trace, rtol=0, atol=1e-5)
    torch.testing.assert_close(other.energy, eager.energy, rtol=1e-5, atol=1e-5)
    assert other.info.keys() == eager.info.keys()
    for name, figures in eager.info.items():
        torch.testing.assert_close(other.info[name], figures, rtol=1e-5, atol=1e-5)
    assert torch.equal(other.x[:, 0], normal(6, 4, 3)[:, 0].to(device))


def disturb(energy: Energy) -> None:
    """A training step's worth of change, in place."""
    with torch.no_grad():
        for i, weight in enumerate(energy.parameters()):
            weight.add_(0.1 * normal(*weight.shape, seed=i).to(weight.device))


def assert_same_before_and_after_a_change_of_weights(sampler: Any, engine: Engine, device: str) -> None:
    energy = spectral_transition_energy().to(device)
    assert_same(sampler, energy, engine, device)
    before = chain(sampler, energy, engine, device).x
    disturb(energy)
    assert not torch.allclose(chain(sampler, energy, engine, device).x, before, atol=1e-3)
    assert_same(sampler, energy, engine, device)


WIDE = MPPI(4, 16, elites=4, adapt=0.5, smooth=False, colour=1.0, free=True, clamp=(-1.0, 1.0))


@pytest.mark.parametrize(
    "sampler", [LANGEVIN, MALA(steps=6, step_size=0.02), WIDE], ids=["langevin", "mala", "mppi"]
)
def test_compiled_chain_is_the_eager_chain_also_after_weights_change_in_place(sampler: Any) -> None:
    assert_same_before_and_after_a_change_of_weights(sampler, "compile", "cpu")


def test_many_energies_are_compiled_in_one_process() -> None:
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(3):
            chain = Langevin(steps=1, engine="compile")(Conditioned(), normal(6, 3), generator=seeded())
            assert chain.x.isfinite().all()


def test_compiled_chain_refuses_non_finite_moves_like_the_eager_one() -> None:
    x = -normal(64, 2).abs()
    eager, compiled = (
        Langevin(steps=20, step_size=0.2, engine=engine)(walled(torch.nan), x, generator=seeded())
        for engine in ("eager", "compile")
    )
    assert eager.info["rejected"].sum() > 20
    # Counts: no chain comes within a rounding of the wall.
    assert torch.equal(compiled.info["rejected"], eager.info["rejected"])
    torch.testing.assert_close(compiled.x, eager.x)


def test_auto_is_eager_to_the_bit() -> None:
    auto, eager = (chain(LANGEVIN, spectral_transition_energy(), engine) for engine in ("auto", "eager"))
    assert torch.equal(auto.x, eager.x)


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(sampler, id=type(sampler).__name__, marks=gpu)
        for sampler in (LANGEVIN, MALA(steps=6, step_size=0.02), HMC(steps=4), MPPI(steps=4), CEM(steps=4))
    ],
)
def test_captured_chain_is_the_eager_chain_also_after_weights_change_in_place(sampler: Any) -> None:
    assert_same_before_and_after_a_change_of_weights(sampler, "graph", "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("change", [lambda w: w.clone(), lambda w: w + 0.5], ids=["moved", "replaced"])
def test_captured_chain_honours_weights_put_in_the_place_of_others(change: Callable[..., Any]) -> None:
    energy = Conditioned(3).cuda()
    call = replace(LANGEVIN, engine="graph")
    x = normal(6, 3).cuda()

    def source() -> torch.Generator:
        return torch.Generator("cuda").manual_seed(0)

    call(energy, x, generator=source())
    for weight in energy.parameters():
        weight.data = change(weight.data)
    torch.testing.assert_close(
        call(energy, x, generator=source()).x, LANGEVIN(energy, x, generator=source()).x, rtol=0, atol=1e-5
    )
