"""Energies as functions of their free coordinates alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ebm_control.energies import MLP, Energy, FourierMLP, NetworkEnergy, TrajectoryLayout, TransitionEnergy
from ebm_control.samplers import Langevin
from tests.energies.written_out import PLAIN, ROUND, Doubled, drawn, transition

LAST = torch.zeros(3, 5, dtype=torch.bool)
LAST[-1, :3] = True


def moved(x: Tensor, free: Tensor = LAST) -> Tensor:
    return torch.where(free, x + drawn(*x.shape, seed=4).to(x), x)


def made(base: str, layout: TrajectoryLayout, network: Callable[[int], nn.Module]) -> TransitionEnergy:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return transition(layout, 3, base, make=network).eval()


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": lambda n: MLP(n, (8, 7)),
    "spectral": lambda n: MLP(n, (8,), spectral=True),
    "fourier": lambda n: FourierMLP(n, (8, 6), features=3, frequencies=4),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [PLAIN, ROUND])
@pytest.mark.parametrize("base", ["none", "gaussian", "regression"])
@pytest.mark.parametrize("network", NETWORKS)
def test_value_and_gradient_are_those_of_the_whole_energy(
    network: str, base: str, layout: TrajectoryLayout, dtype: torch.dtype
) -> None:
    energy, x = made(base, layout, NETWORKS[network]).to(dtype), drawn(6, 3, 5).to(dtype)
    with torch.no_grad():
        evaluate = energy.restricted(x, LAST)
        assert evaluate is not None
        for place in (x, moved(x)):
            value, gradient = evaluate(place)
            expected = Energy.value_and_gradient(energy, place)
            tolerance = 1e-11 if dtype == torch.float64 else 3e-4
            torch.testing.assert_close(value, expected[0], rtol=tolerance, atol=tolerance)
            wanted = torch.where(LAST, expected[1], 0.0)
            torch.testing.assert_close(gradient, wanted, rtol=tolerance, atol=tolerance)


def test_contexts_count() -> None:
    energy, x, context = transition(PLAIN, 3, "regression", 2).double(), drawn(6, 3, 5), drawn(6, 2, seed=3)
    with torch.no_grad():
        evaluate = energy.restricted(x, LAST.expand(6, 3, 5), context)
        assert evaluate is not None
        expected = Energy.value_and_gradient(energy, moved(x), context)[0]
        torch.testing.assert_close(evaluate(moved(x))[0], expected)


def test_other_masks_networks_and_energies_take_the_whole_energy() -> None:
    energy, x = made("regression", PLAIN, NETWORKS["mlp"]).double(), drawn(6, 3, 5)
    wider = LAST.clone()
    wider[1, 0] = True
    with torch.no_grad():
        assert energy.restricted(x, None) is None
        assert energy.restricted(x, wider) is None
        assert energy.restricted(drawn(6, 4, 5), torch.zeros(4, 5, dtype=torch.bool)) is None  # two windows
        assert energy.restricted(x.float(), LAST) is None
        assert energy.restricted(drawn(0, 3, 5), LAST) is None
        with torch.autocast("cpu", torch.bfloat16):
            assert energy.restricted(x, LAST) is None
        inputs = TransitionEnergy.inputs_of(PLAIN, 3)
        assert Doubled(PLAIN, MLP(inputs, (4,)), window=3).double().restricted(x, LAST) is None
        plain = nn.Sequential(nn.Linear(inputs, 1))
        assert TransitionEnergy(PLAIN, plain, window=3).double().restricted(x, LAST) is None
        noisy = transition(PLAIN, 3, "regression", noise=True).double()
        assert noisy.restricted(x, LAST, drawn(6, 1)) is None
        energy.network.register_forward_hook(lambda module, given, outputs: 2 * outputs)
        assert energy.restricted(x, LAST) is None


def test_chains_are_those_of_the_whole_energy_also_after_weights_and_hooks_change() -> None:
    energy, x = made("regression", ROUND, NETWORKS["mlp"]).double(), drawn(6, 3, 5)
    whole = Doubled(
        ROUND, energy.network, window=3, base=energy.base, displacement_scale=energy.displacement_scale
    )
    sampler = Langevin(steps=10, step_size=0.01, scale=energy.coordinate_scale())

    def chain(energy: Energy) -> Tensor:
        return sampler(energy, x, fixed=~LAST, generator=torch.Generator().manual_seed(0)).x

    def check() -> Tensor:
        found = chain(energy)
        torch.testing.assert_close(found, chain(0.5 * whole.double()))
        assert torch.equal(found[:, :-1], x[:, :-1])
        return found

    first = check()
    energy.load_state_dict(made("regression", ROUND, lambda n: MLP(n, (8, 7))).double().state_dict())
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(1.5)
    second = check()
    energy.base.network.register_forward_hook(lambda module, given, outputs: outputs + 1)
    third = check()
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)


def test_flat_networks_are_restricted_to_themselves_unless_something_was_changed() -> None:
    x = drawn(6, 5)
    energy = NetworkEnergy(MLP(5, (8, 7))).double()
    with torch.no_grad():
        evaluate = energy.restricted(x, None)
        assert evaluate is not None
        for one, other in zip(evaluate(x + 1), Energy.value_and_gradient(energy, x + 1), strict=True):
            torch.testing.assert_close(one, other)
        first, second = evaluate(x), evaluate(x + 1)
        assert not torch.equal(first[1], second[1])  # no shared memory
        assert NetworkEnergy(MLP(5, ())).double().restricted(x, None) is not None
        assert energy.restricted(x[:, :3], None, x[:, 3:]) is None
        assert NetworkEnergy(MLP(5, (8,), 2)).double().restricted(x, None) is None
        assert NetworkEnergy(nn.Sequential(nn.Linear(5, 1))).double().restricted(x, None) is None
        energy.register_forward_hook(lambda module, given, outputs: 2 * outputs)
        assert energy.restricted(x, None) is None
