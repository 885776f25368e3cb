"""The eager engine on the CPU saves small operations; its chains are those of the other engines."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from ebm_control.energies import MLP, Energy, NetworkEnergy, TrajectoryLayout, TransitionEnergy
from ebm_control.samplers import HMC, MALA, Annealed, KernelSampler, Langevin
from ebm_control.samplers.chain import _target
from ebm_control.samplers.engines import loop
from ebm_control.samplers.kernel import normal_noise
from ebm_control.samplers.schedules import Linear
from tests.samplers.helpers import Function

SAMPLERS: dict[str, KernelSampler] = {
    "plain": Langevin(steps=20, step_size=Linear(0.2, 0.05)),
    "scaled": Langevin(steps=20, scale=(0.5, 1.0, 2.0, 1.0)),
    "clipped": Langevin(
        steps=20, gradient_clip=0.1, delta_clip=0.01, clamp=(-1.0, 1.0), scale=(0.5, 1, 2, 1)
    ),
    "rms": Langevin(steps=20, adapt="rms"),
    "underdamped": Langevin(steps=20, friction=1.0, scale=(0.5, 1.0, 2.0, 1.0)),
    "mala": MALA(steps=20),
    "hmc": HMC(steps=5, leapfrog=3, scale=(0.5, 1.0, 2.0, 1.0)),
}


def network(seed: int = 0) -> NetworkEnergy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NetworkEnergy(MLP(4, (16, 16, 16))).double()


def start(rows: int = 8) -> Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def without_branches(
    sampler: KernelSampler, energy: Energy, x: Tensor, fixed: Tensor | None = None
) -> dict[str, Tensor]:
    """The chain as a captured graph runs it: rows and scale are tensors, and nothing branches on a value."""
    kernel, generator = sampler.kernel(), torch.Generator().manual_seed(1)
    scale = (
        torch.ones((), dtype=x.dtype) if sampler.scale is None else torch.tensor(sampler.scale, dtype=x.dtype)
    )
    noise = iter([kernel.draw(x, generator) for _ in range(len(sampler.step_parameters()))])
    target = _target(energy, x, None, fixed, sampler.clamp)
    with torch.no_grad():
        state, _, info = loop(
            kernel, target, x, sampler.step_parameters().to(x.dtype).unbind(0), scale, noise, 0
        )
    return {"x": state["x"], "energy": state["energy"], **info}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_chains_are_those_of_steps_that_branch_on_nothing(name: str, masked: bool) -> None:
    sampler, energy, x = SAMPLERS[name], network(), start()
    fixed = torch.tensor([True, False, False, False]) if masked else None
    expected = without_branches(sampler, energy, x, fixed)
    chain = sampler(energy, x, fixed=fixed, generator=torch.Generator().manual_seed(1))
    found = {"x": chain.x, "energy": chain.energy, **chain.info}
    assert found.keys() == expected.keys()
    for part, value in found.items():
        torch.testing.assert_close(value, expected[part], rtol=1e-9, atol=1e-9)
    if masked:
        assert torch.equal(chain.x[:, 0], x[:, 0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_moves_to_values_that_are_not_finite_are_refused_chain_by_chain(name: str) -> None:
    wall = Function(lambda x: torch.where(x[:, 0] > 0.5, torch.inf, 1.0) * x.square().sum(dim=1))
    cliff = Function(lambda x: x.square().sum(dim=1) + (0.7 - x[:, 1]).sqrt())
    sampler, x = SAMPLERS[name], start(32).clamp(-0.3, 0.3)
    for energy in (wall, cliff):
        expected = without_branches(sampler, energy, x)
        chain = sampler(energy, x, generator=torch.Generator().manual_seed(1))
        assert chain.x.isfinite().all()
        torch.testing.assert_close(chain.x, expected["x"], rtol=1e-9, atol=1e-9)
        assert torch.equal(chain.info["rejected"], expected["rejected"])
    assert int(expected["rejected"].sum()) > 0 or name == "clipped"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 3), (4, 4), (16, 16), (7, 16), (5, 7), (3, 5, 7), (2, 8), (1000, 96)])
def test_noise_drawn_in_blocks_is_the_noise_of_each_step(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.zeros(shape, dtype=dtype)
    blocks, single = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    for (noise,) in normal_noise(x, blocks, 37):
        assert torch.equal(noise, torch.randn(shape, generator=single, dtype=dtype))
    assert torch.equal(blocks.get_state(), single.get_state())


def test_a_chain_leaves_the_generator_where_single_draws_leave_it() -> None:
    used, single = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    Langevin(steps=11)(network(), start(), generator=used)
    for _ in range(11):
        torch.randn(8, 4, generator=single, dtype=torch.float64)
    assert torch.equal(used.get_state(), single.get_state())


def test_weights_changed_between_chains_count() -> None:
    energy, x = network(), start()
    sampler = Langevin(steps=5)
    before = sampler(energy, x, generator=torch.Generator().manual_seed(1)).x
    energy.load_state_dict(network(seed=1).state_dict())
    after = sampler(energy, x, generator=torch.Generator().manual_seed(1)).x
    assert not torch.equal(before, after)
    assert torch.equal(after, sampler(network(seed=1), x, generator=torch.Generator().manual_seed(1)).x)


def test_hooks_set_between_chains_count() -> None:
    energy, x = network(), start()
    sampler = Langevin(steps=5, noise=0.0)
    sampler(energy, x)
    energy.network.layers[0].register_forward_hook(lambda module, given, outputs: 2 * outputs)
    expected = without_branches(sampler, energy, x)["x"]
    torch.testing.assert_close(sampler(energy, x).x, expected, rtol=1e-9, atol=1e-9)


def test_results_of_a_chain_are_not_overwritten_by_the_next() -> None:
    energy, x = network(), start()
    sampler = Langevin(steps=5)
    chain = sampler(energy, x, generator=torch.Generator().manual_seed(1), trace=1)
    copied = copy.deepcopy((chain.x, chain.energy, chain.trace, chain.info))
    given = x.clone()
    sampler(energy, x + 1, generator=torch.Generator().manual_seed(2), trace=1)
    assert torch.equal(x, given)
    assert torch.equal(chain.x, copied[0])
    assert torch.equal(chain.energy, copied[1])
    assert chain.trace is not None
    assert copied[2] is not None
    assert torch.equal(chain.trace, copied[2])
    assert len(chain.trace.unique(dim=0)) == 5
    assert all(torch.equal(value, copied[3][name]) for name, value in chain.info.items())


def test_annealed_chains_take_their_noise_level_as_a_number_or_a_tensor() -> None:
    layout = TrajectoryLayout(2)
    energy = TransitionEnergy(layout, MLP(5, (8,)), noise=(0.1, 2.0)).double()
    x = torch.randn(4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = Annealed((2.0, 0.5, 0.1), steps=2)
    eager = sampler(energy, x, generator=torch.Generator().manual_seed(1)).x
    compiled = Annealed((2.0, 0.5, 0.1), steps=2, engine="compile")
    torch.testing.assert_close(compiled(energy, x, generator=torch.Generator().manual_seed(1)).x, eager)


def test_chains_within_a_chain_see_the_weights_of_their_time() -> None:
    inner, x = network(), start()
    sampler = Langevin(steps=2, noise=0.0)
    seen: list[Tensor] = []

    def outer(x: Tensor) -> Tensor:
        with torch.no_grad():
            for parameter in inner.parameters():
                parameter.mul_(1.1)
        seen.append(sampler(inner, start()).x)
        assert torch.equal(seen[-1], sampler(copy.deepcopy(inner), start()).x)
        return x.square().sum(dim=1)

    sampler(Function(outer), x)
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
