from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.samplers import effective_sample_size, split_rhat
from tests.helpers import normal


def autoregressive(rho: float, n: int = 4000, chains: int = 16, seed: int = 0) -> Tensor:
    """`x_t = ρ x_{t-1} + sqrt(1 - ρ²) ξ`, of variance 1, from its own law: `(n, chains)`."""
    noise = normal(n, chains, seed=seed)
    states = [noise[0]]
    for kick in noise[1:]:
        states.append(rho * states[-1] + (1 - rho**2) ** 0.5 * kick)
    return torch.stack(states)


@pytest.mark.parametrize("rho", [0.9, 0.5, 0.0, -0.5])
def test_effective_sample_size_of_an_autoregressive_chain(rho: float) -> None:
    expected = 4000 * 16 * (1 - rho) / (1 + rho)
    assert float(effective_sample_size(autoregressive(rho))) == pytest.approx(expected, rel=0.1)


def test_antithetic_chains_are_worth_more_than_their_states() -> None:
    assert effective_sample_size(autoregressive(-0.5)) > 2 * 4000 * 16


def test_effective_sample_size_scales_the_error_of_a_mean() -> None:
    """Over many runs, the mean of a run varies as a mean of that many independent samples would."""
    runs = torch.stack([autoregressive(0.8, n=400, chains=4, seed=seed) for seed in range(100)], dim=-1)
    errors = runs.mean(dim=(0, 1)).std()
    assert float(errors * effective_sample_size(runs).mean().sqrt()) == pytest.approx(1.0, abs=0.2)


def test_each_coordinate_has_a_size_and_an_rhat_of_its_own() -> None:
    trace = torch.stack([autoregressive(0.9), autoregressive(0.0)], dim=-1).unsqueeze(-1)
    size = effective_sample_size(trace)
    assert size.shape == split_rhat(trace).shape == (2, 1)
    assert size[1, 0] > 10 * size[0, 0]


def test_diagnostics_do_not_depend_on_shift_scale_or_dtype() -> None:
    trace = autoregressive(0.5, n=500)
    for figure in (effective_sample_size, split_rhat):
        torch.testing.assert_close(figure(1000 + 7 * trace), figure(trace), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(figure(trace.float()), figure(trace), rtol=1e-3, atol=1e-3)


def test_rhat_is_one_where_chains_agree() -> None:
    assert float(split_rhat(normal(1000, 8))) == pytest.approx(1.0, abs=0.01)


def test_rhat_and_sample_size_tell_separated_chains() -> None:
    apart = normal(1000, 8) + torch.tensor([0.0, 1.5]).repeat(4)
    assert split_rhat(apart) > 1.1
    assert effective_sample_size(apart) < 100


def test_split_rhat_tells_a_drift_that_all_chains_share() -> None:
    drifting = normal(1000, 8) + torch.linspace(0, 3, 1000)[:, None]
    assert split_rhat(drifting) > 1.1


@pytest.mark.parametrize("diagnostic", [effective_sample_size, split_rhat])
def test_short_traces_are_named(diagnostic: object) -> None:
    with pytest.raises(InputError, match=r"trace: expected .* n >= 4, got shape \(3, 8\)"):
        diagnostic(torch.zeros(3, 8))  # type: ignore[operator]
