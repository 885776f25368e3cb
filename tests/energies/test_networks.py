from __future__ import annotations

import pytest
import torch
from torch import nn

from ebm_control.checks import InputError
from ebm_control.energies import MLP, FourierMLP, TemporalConvolution

SILU_SLOPE = 1.1  # its largest, 1.0998, at x = 2.4


def wide(spectral: bool) -> MLP:
    """Weights three times too large, and a forward in training mode to update the singular vectors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mlp = MLP(6, (32, 32), 1, spectral=spectral)
        with torch.no_grad():
            for name, weight in mlp.named_parameters():
                if "bias" not in name:
                    weight.mul_(3.0 * weight.shape[1] ** 0.5)
        for _ in range(50):
            mlp(torch.randn(2, 6))
    return mlp.eval()


def steepest(mlp: MLP) -> float:
    generator = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(4000, 6, generator=generator)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(mlp(x).sum(), x)
    return float(gradient.norm(dim=1).max())


def test_spectral_norm_bounds_how_fast_an_energy_can_change() -> None:
    assert steepest(wide(spectral=True)) <= SILU_SLOPE**2
    assert steepest(wide(spectral=False)) > 10


def test_spectral_norm_leaves_no_layer_a_singular_value_above_one() -> None:
    mlp = wide(spectral=True)
    layers = [layer for layer in mlp.layers if isinstance(layer, nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1.0, abs=1e-3)


def test_mlp_maps_the_last_axis() -> None:
    assert MLP(3, (8,), 5)(torch.zeros(2, 4, 3)).shape == (2, 4, 5)
    assert MLP(3, (), 2)(torch.zeros(4, 3)).shape == (4, 2)
    assert not any(isinstance(layer, nn.SiLU) for layer in MLP(3, (8,), 5).layers[-1:])


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_temporal_convolution_gives_one_figure_a_window(spectral: bool, length: int) -> None:
    net = TemporalConvolution(3, width=8, blocks=3, spectral=spectral)
    assert net(torch.zeros(5, length, 3)).shape == (5, 1)


@pytest.mark.parametrize(("blocks", "reach"), [(1, 1), (2, 3), (3, 7)])
def test_receptive_field_of_temporal_convolution_doubles_with_each_block(blocks: int, reach: int) -> None:
    """Rows farther apart than the sum of the dilations do not interact: their mixed derivative is 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TemporalConvolution(1, width=4, blocks=blocks).double()
    x = torch.linspace(-1, 1, 24, dtype=torch.float64)
    hessian = torch.func.hessian(lambda row: net(row.reshape(1, 24, 1)).squeeze())(x)
    row = hessian[12].abs() > 1e-14
    assert row.nonzero().flatten().tolist() == list(
        range(max(12 - 2 * reach, 0), min(12 + 2 * reach, 23) + 1)
    )


def test_bad_networks_are_named() -> None:
    with pytest.raises(InputError, match="inputs: expected a whole number of at least 1, got 0"):
        MLP(0)
    with pytest.raises(InputError, match="kernel: expected an odd number, got 4"):
        TemporalConvolution(3, kernel=4)


def error_at_edges(make: type[MLP] | type[FourierMLP], **given: int | float) -> float:
    """Mean squared error on a square wave of 4 periods after 150 updates."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make(1, (32, 32), **given)  # type: ignore[arg-type]
    x = torch.linspace(-1, 1, 256)[:, None]
    wave = torch.sign(torch.sin(4 * torch.pi * x))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (network(x) - wave).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_fourier_features_learn_sharp_edges_sooner() -> None:
    assert error_at_edges(FourierMLP, features=1, bandwidth=15.0) < 0.5 * error_at_edges(MLP)


def test_fourier_directions_have_the_bandwidth_for_deviation_and_are_not_trained() -> None:
    network = FourierMLP(6, (8,), features=4, frequencies=2000, bandwidth=3.0)
    assert float(network.directions.std()) == pytest.approx(3.0, rel=0.05)
    assert "directions" not in dict(network.named_parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": 0}, "features: expected a whole number from 1 to 3, got 0"),
        ({"features": 1, "frequencies": 0}, "frequencies: expected a whole number of at least 1, got 0"),
        ({"features": 1, "bandwidth": 0.0}, "bandwidth: expected a number above 0"),
    ],
)
def test_bad_fourier_features_are_named(given: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FourierMLP(3, **given)
