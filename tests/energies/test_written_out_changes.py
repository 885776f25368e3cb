"""Gradients that are written out follow every change of an energy, its networks and its caller."""

from __future__ import annotations

import copy
import gc
import io
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ebm_control.energies import (
    MLP,
    Energy,
    FourierMLP,
    GoalCost,
    ImageEnergy,
    NetworkEnergy,
    RegressionBase,
    SmallCNN,
    TransitionEnergy,
)
from ebm_control.energies.networks import outputs_and_gradient, with_pullback
from ebm_control.samplers import Langevin
from tests.energies.written_out import PLAIN, Doubled, check, drawn, made, transition


class Deeper(Doubled):
    """Inherits the change."""


class Tilted:
    """Changes an energy without being one."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x, context) + x.flatten(1).sum(dim=1)  # type: ignore[misc]


class Mixed(Tilted, GoalCost):
    """The change comes first."""


class Wide(RegressionBase):
    """Another residual than its parent's."""

    def residual(self, inputs: Tensor, displacement: Tensor) -> Tensor:
        return super().residual(inputs, displacement).tanh()


class Shifted(RegressionBase):
    """Another mean than its parent's."""

    def mean(self, inputs: Tensor) -> Tensor:
        return super().mean(inputs).exp()


class Squared(MLP):
    """Another network than its parent's."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


def test_subclasses_with_another_energy_have_its_gradient() -> None:
    x = drawn(4, 5, 5)
    for kind in (Doubled, Deeper):
        check(kind(PLAIN, MLP(8, (4,))).double(), x)
    check(Mixed(PLAIN, (0, 1)), x)
    for base in (Wide, Shifted):
        check(TransitionEnergy(PLAIN, MLP(8, (4,)), base=base(MLP(5, (4,), 3), 3)).double(), x)
    check(transition(make=lambda n: Squared(n, (4,))).double(), x)


@pytest.mark.parametrize("place", ["energy", "network", "layers", "layer", "everywhere", "forward"])
def test_hooks_change_the_gradient_as_they_change_the_energy(place: str) -> None:
    energy, x = made("transition-0-2-regression"), drawn(4, 5, 5)
    assert isinstance(energy, TransitionEnergy)
    network = energy.network
    assert isinstance(network, MLP)
    plain = energy.value_and_gradient(x)[1]

    def double(module: nn.Module, given: object, outputs: Tensor) -> Tensor:
        return 2 * outputs

    if place == "everywhere":
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, given, outputs: 2 * outputs if module is network else outputs
        )
    elif place == "forward":
        forward = network.forward
        network.forward = lambda x: 2 * forward(x)  # type: ignore[method-assign]
    else:
        parts = {"energy": energy, "network": network, "layers": network.layers, "layer": network.layers[2]}
        parts[place].register_forward_hook(double)
    try:
        check(energy, x)
        assert not torch.allclose(energy.value_and_gradient(x)[1], plain)
    finally:
        if place == "everywhere":
            handle.remove()


def test_other_layers_in_a_network_are_differentiated_automatically() -> None:
    energy = transition().double()
    energy.network.layers[1] = nn.Tanh()  # type: ignore[union-attr,operator,index]
    check(energy, drawn(4, 5, 5))
    energy.network.layers.append(nn.SiLU())  # type: ignore[union-attr,operator]
    check(energy, drawn(4, 5, 5))


def test_images_have_gradients_in_any_caller_mode() -> None:
    energy = ImageEnergy(SmallCNN((1, 8, 8), 3, 4), (1, 8, 8), classes=3).double().eval()
    x = drawn(4, 1, 8, 8)
    check(energy, x)
    with torch.inference_mode():
        _, gradient = energy.value_and_gradient(x)
    torch.testing.assert_close(gradient, Energy.value_and_gradient(energy, x)[1])


@pytest.mark.parametrize("make", [
    lambda: MLP(5, (8, 6), 3), lambda: MLP(5, (), 3), lambda: FourierMLP(5, (8,), 3, features=2, frequencies=3),
    lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)),
])  # fmt: skip
def test_networks_give_outputs_and_products_with_their_jacobian(make: Callable[[], nn.Module]) -> None:
    network, x = make().double(), drawn(4, 2, 5)
    jacobian = torch.func.vmap(torch.func.jacrev(network))(x.reshape(-1, 5))
    several = drawn(7, 4, 2, 3, seed=4)
    expected = torch.einsum("kbo,boi->kbi", several.reshape(7, -1, 3), jacobian).reshape(7, 4, 2, 5)
    outputs, pullback = with_pullback(network, x)
    torch.testing.assert_close(outputs, network(x).detach())
    torch.testing.assert_close(pullback(several), expected)
    torch.testing.assert_close(pullback(several[0]), expected[0])
    for cotangent, gradient in ((several[1], expected[1]), (None, jacobian.sum(dim=1).reshape(4, 2, 5))):
        outputs, found = outputs_and_gradient(network, x, cotangent)
        torch.testing.assert_close(outputs, network(x).detach())
        torch.testing.assert_close(found, gradient.detach())
        assert not found.requires_grad


def test_weights_may_change_in_any_way_between_calls() -> None:
    energy, other, x = made("linear"), made("transition-0-2-none"), drawn(4, 5, 5)
    network = other.network
    for change in (
        lambda: network.layers[0].weight.data.mul_(2),
        lambda: setattr(network.layers[2].weight, "data", drawn(7, 8, seed=5)),
        lambda: setattr(network.layers[0], "bias", nn.Parameter(drawn(8, seed=6))),
        lambda: setattr(other, "network", energy.network),
    ):
        before = other.value_and_gradient(x)[1]
        change()
        check(other, x)
        assert not torch.allclose(before, other.value_and_gradient(x)[1])


def test_energies_that_were_evaluated_can_be_copied_and_saved() -> None:
    energy, x = made("transition-0-2-regression"), drawn(4, 5, 5)
    names = set(energy.state_dict())
    energy.value_and_gradient(x)
    assert set(energy.state_dict()) == names
    file = io.BytesIO()
    torch.save(energy, file)
    file.seek(0)
    for twin in (copy.deepcopy(energy), torch.load(file, weights_only=False)):
        for one, other in zip(twin.value_and_gradient(x), energy.value_and_gradient(x), strict=True):
            assert torch.equal(one, other)


def test_threads_do_not_share_hidden_layers() -> None:
    energy = NetworkEnergy(MLP(4, (64, 64))).double()
    starts = [drawn(50, 4, seed=seed) for seed in range(4)]
    sampler = Langevin(steps=200, step_size=0.01)

    def chain(seed: int) -> Tensor:
        return sampler(energy, starts[seed], generator=torch.Generator().manual_seed(seed)).x

    expected = [chain(seed) for seed in range(4)]
    found: list[Tensor | None] = [None] * 4

    def run(seed: int) -> None:
        found[seed] = chain(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert torch.equal(one, other)


def test_no_graph_stays_behind() -> None:
    energy, x = made("other network"), drawn(4, 5, 5)
    energy.value_and_gradient(x)
    gc.collect()
    count = sum(isinstance(thing, Tensor) for thing in gc.get_objects())
    for _ in range(20):
        energy.value_and_gradient(x)
    gc.collect()
    assert sum(isinstance(thing, Tensor) for thing in gc.get_objects()) <= count


def test_autocasting_changes_the_gradient_as_it_changes_the_energy() -> None:
    energy, x = made("transition-0-2-none", torch.float32), drawn(4, 5, 5).float()
    plain = energy.value_and_gradient(x)[1]
    with torch.autocast("cpu", torch.bfloat16):
        expected = Energy.value_and_gradient(energy, x)
        found = energy.value_and_gradient(x)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(found[1], plain)
