"""Samplers and plans stay on the device of their energy; see `tests.other_device` for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ebm_control import planner_for
from ebm_control.data import collect
from ebm_control.energies import (
    MLP,
    GoalCost,
    NetworkEnergy,
    RegressionBase,
    TrajectoryLayout,
    TransitionEnergy,
)
from ebm_control.models import ModelSettings, TrainSettings, fit_model
from ebm_control.samplers import GaussNewton, Langevin, ProbabilityFlow, engines, noise_levels
from ebm_control.samplers.engines import automatic
from tests.helpers import ROOT, normal, seeded
from tests.other_device import DEVICE, Elsewhere, OtherDevice, OtherGenerator, moved

FLOW = ProbabilityFlow(noise_levels(0.1, 2.0, 4), eta=0.5, scale=torch.ones(8), clamp=(-3.0, 3.0))
RESULTS = ROOT / "benchmarks" / "results"
LAYOUT = TrajectoryLayout(3, 2, periods=(2.0, 0.0, 0.0))


def there(tensor: torch.Tensor) -> Elsewhere:
    return Elsewhere(tensor.clone())


def noise() -> OtherGenerator:
    generator = OtherGenerator()
    generator.manual_seed(0)
    return generator


def transition_energy() -> TransitionEnergy:
    torch.manual_seed(0)
    base = RegressionBase(MLP(LAYOUT.feature_dim + 2, (16,), 3), 3)
    tilt = MLP(TransitionEnergy.inputs_of(LAYOUT), (16,))
    return TransitionEnergy(LAYOUT, tilt, base=base).eval()


def flat_energy(inputs: int) -> NetworkEnergy:
    torch.manual_seed(0)
    return NetworkEnergy(MLP(inputs, (16, 16)))


CASES: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "langevin, written out": (
        Langevin(4, 0.01, adapt="rms", clamp=(-2.0, 2.0)),
        lambda: flat_energy(8),
        (5, 8),
    ),
    "flow": (FLOW, lambda: flat_energy(9), (5, 8)),
    "second order": (GaussNewton(3, clamp=(-2.0, 2.0)), transition_energy, (4, 6, 5)),
    "second order, warm": (
        GaussNewton(3, temperature=0.1, scale=torch.ones(5)),
        transition_energy,
        (4, 6, 5),
    ),
    "second order, any energy": (GaussNewton(3), lambda: flat_energy(8), (5, 8)),
    "langevin over trajectories": (Langevin(4, 0.01), transition_energy, (4, 6, 5)),
}


def test_the_other_device_refuses_tensors_of_the_cpu() -> None:
    with OtherDevice():
        held = there(torch.ones(3))
        assert (held * 2).device == DEVICE
        assert held.cpu().tolist() == [1, 1, 1]
        with pytest.raises(RuntimeError, match="two devices"):
            held + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            held.numpy()


@pytest.mark.parametrize("case", CASES)
def test_chains_stay_on_the_device_and_are_those_of_the_cpu(case: str) -> None:
    sampler, make, shape = CASES[case]
    x = normal(*shape, dtype=torch.float32)
    expected = sampler(make(), x, generator=seeded())
    with OtherDevice():
        chain = sampler(moved(make()), there(x), generator=noise())
        assert chain.x.device == chain.energy.device == DEVICE
        assert {figures.device for figures in chain.info.values()} == {DEVICE}
        torch.testing.assert_close(chain.x.cpu(), expected.x, rtol=1e-3, atol=1e-3)


def test_a_plan_is_made_on_the_device_of_its_model() -> None:
    model = trained()
    with OtherDevice():
        moved(model.energy)
        cost = moved(20 * GoalCost(model.layout, (0, 1)))
        start, goal = there(torch.zeros(2, model.layout.obs_dim)), there(torch.zeros(2, 2))
        for sampler in (None, "langevin", "mppi"):
            planner = planner_for(model, cost, 5, sampler=sampler, preset="reward")
            plan = planner.plan(start, goal, generator=noise())
            plan = planner.plan(start, goal, warm=plan, generator=noise())
            assert plan.chains.device == plan.energies.device == DEVICE


def trained() -> Any:
    rollouts = collect("ebm/Particle-v0", steps=400, progress=False)
    settings = TrainSettings(ModelSettings(hidden=(16,)), updates=1, base_updates=10)
    return fit_model(rollouts, settings, progress=False)


def test_auto_is_what_the_record_says_except_for_kernels_that_read_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    langevin, second = Langevin(1, 0.1).kernel(), GaussNewton(1).kernel()
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert automatic(langevin, cuda) == engines.AUTO_ON_CUDA
    monkeypatch.setattr(engines, "AUTO_ON_CUDA", "graph")
    assert automatic(langevin, cuda) == "graph"
    assert automatic(second, cuda) == automatic(langevin, cpu) == "eager"


@pytest.mark.skipif((RESULTS / "gpu.json").exists(), reason="measured")
def test_without_a_record_auto_is_eager_on_a_gpu() -> None:
    assert engines.AUTO_ON_CUDA == "eager"
