"""Second-order steps of few chains on the CPU compute with NumPy arrays: chains are those of torch up to rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm_control.energies import BoundCost, Energy, GoalCost, RewardCost, TransitionEnergy
from ebm_control.energies.curvature import Quadratic
from ebm_control.samplers import GaussNewton
from ebm_control.samplers.array_target import ArrayTarget
from ebm_control.samplers.chain import Chain
from ebm_control.samplers.kernel import Target
from ebm_control.threads import threads_for
from tests.energies.written_out import PLAIN, ROUND, aimed, drawn, reward, transition


class ByTorch(Energy):
    """The same energy without a form in arrays."""

    def __init__(self, energy: Energy) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.energy(x, context)

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        return self.energy.quadratic(x, context)


def dynamics(seed: int = 3, **options: Any) -> TransitionEnergy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transition(**({"layout": ROUND, "base": "regression"} | options))


def start_held(length: int = 6) -> Tensor:
    fixed = torch.zeros(length, 5, dtype=torch.bool)
    fixed[0, :3] = True
    fixed[:, 1] = True  # a coordinate that nothing moves
    return fixed


LOW, HIGH = torch.tensor([-torch.inf] * 3 + [-0.4, -0.2]), torch.tensor([torch.inf] * 3 + [0.4, 0.2])
ENERGIES = {
    "goals of problems": lambda: 30 * dynamics() + 20 * aimed(smooth=0.02),
    "small tilt": lambda: (
        30 * dynamics().with_std(torch.full((3,), 0.3), 0.1) + 5 * aimed(norm="l2", smooth=0.1)
    ),
    "no tilt": lambda: 30 * dynamics().with_std(torch.full((3,), 0.3), 0.0) + aimed(norm="squared"),
    "bounds": lambda: (
        10 * dynamics() + 2 * aimed(smooth=0.3) + 30 * BoundCost([-0.5, -0.5], [0.5, 0.5], (0, 2))
    ),
    "reward": lambda: 100 * dynamics(layout=PLAIN) + RewardCost(PLAIN, reward),
    "one goal": lambda: 30 * dynamics(layout=PLAIN) + 20 * GoalCost(PLAIN, (0, 1), smooth=0.02),
    "costs alone": lambda: 20 * aimed(smooth=0.02) + BoundCost([-0.5], [0.5], (1,)),
}
SETTINGS: dict[str, tuple[GaussNewton, Tensor | None]] = {
    "held": (GaussNewton(1, damping=0.3), start_held()),
    "free": (GaussNewton(2, damping=0.1), None),
    "bounded": (GaussNewton(1, damping=0.01, clamp=(LOW, HIGH)), start_held()),
    "bounded by numbers": (GaussNewton(3, clamp=(-0.7, 0.5)), start_held()),
    "free and bounded": (GaussNewton(1, clamp=(LOW, HIGH)), None),
    "scaled": (GaussNewton(3, damping=0.3, scale=(0.5, 2.0, 1.0, 3.0, 1.0), clamp=(LOW, HIGH)), start_held()),
    "no steps": (GaussNewton(0), start_held()),
}


def chains(energy: Energy, settings: str, x: Tensor, **given: Any) -> tuple[Chain, Chain]:
    sampler, fixed = SETTINGS[settings]
    return tuple(sampler(each, x, fixed=fixed, trace=1, **given) for each in (energy, ByTorch(energy)))


def assert_equal(found: Chain, expected: Chain) -> None:
    """Energies are equal up to rounding, and so are all chains but one.

    A step that changes the energy by no more than its rounding may be taken by one library and not by the other.
    """
    assert found.x.dtype == found.energy.dtype == torch.float32
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-3, atol=1e-3)
    assert (found.trace is None) == (expected.trace is None)
    ends = [found.x, expected.x] if found.trace is None else [found.trace, expected.trace]
    one, other = (end.reshape(-1, *found.x.shape) for end in ends)
    off = (one - other).abs().amax(dim=(0, 2, 3)) / other.abs().max()
    assert (off > 2e-4).sum() <= 1, off
    assert found.info.keys() == expected.info.keys()
    for name, value in expected.info.items():
        assert found.info[name].dtype == value.dtype
        assert found.info[name].shape == value.shape
    if expected.info:
        first = {name: float(value[0]) for name, value in expected.info.items()}
        assert {name: float(value[0]) for name, value in found.info.items()} == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", ENERGIES)
def test_chains_are_those_of_torch(name: str, settings: str) -> None:
    x = 0.5 * drawn(6, 6, 5, seed=2).float()
    x[1] = x[1, :1]  # a chain that holds still
    energy = ENERGIES[name]()
    with torch.no_grad():
        assert energy.on_arrays(x) is not None
    found, expected = chains(energy, settings, x)
    assert_equal(found, expected)
    fixed = SETTINGS[settings][1]
    if fixed is not None:
        assert torch.equal(found.x[:, fixed], x[:, fixed])


def test_contexts_reach_the_energy() -> None:
    energy, x = 10 * dynamics(context=2), 0.5 * drawn(6, 6, 5).float()
    found, expected = chains(energy, "bounded", x, context=drawn(6, 2, seed=7).float())
    assert_equal(found, expected)
    other, _ = chains(energy, "bounded", x, context=drawn(6, 2, seed=8).float())
    assert not torch.allclose(other.x, found.x)


def test_energies_that_are_not_finite_are_never_taken() -> None:
    def broken(states: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        return torch.where(following[..., 0] > 0.1, torch.nan, following[..., 0])

    energy = 10 * dynamics(layout=PLAIN) + 100 * RewardCost(PLAIN, broken)
    x = 0.2 * drawn(6, 6, 5).float()
    x[:3, 1:, 0] = 0.0
    found, expected = chains(energy, "held", x)
    torch.testing.assert_close(found.x, expected.x, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.info["rejected"], expected.info["rejected"])
    assert torch.isfinite(found.x).all()


def test_the_start_is_not_written_to_and_results_are_separate() -> None:
    energy, x = ENERGIES["one goal"](), 0.5 * drawn(2, 6, 5).float()
    before = x.clone()
    first = GaussNewton(2)(energy, x, trace=1)
    kept = first.x.clone()
    GaussNewton(2)(energy, x + 0.1)
    assert torch.equal(x, before)
    assert torch.equal(first.x, kept)


def test_arrays_are_for_few_chains_in_float32_that_nothing_hooks() -> None:
    energy, x = ENERGIES["one goal"](), drawn(2, 6, 5).float()
    with torch.no_grad():
        assert ArrayTarget.of(Target(energy, None), x) is not None
        assert ArrayTarget.of(Target(energy, None), x.double()) is None
        assert ArrayTarget.of(Target(energy, None), x.repeat(4000, 1, 1)) is None
        assert ArrayTarget.of(Target(ByTorch(energy), None), x) is None
        with torch.autocast("cpu"):
            assert ArrayTarget.of(Target(energy, None), x) is None


def test_hooks_act_in_second_order_steps() -> None:
    energy, x = ENERGIES["one goal"](), 0.5 * drawn(2, 6, 5).float()
    plain = GaussNewton(1)(energy, x).energy
    handle = energy.register_forward_hook(lambda module, given, outputs: outputs + 100.0)
    torch.testing.assert_close(GaussNewton(0)(energy, x).energy, GaussNewton(0)(ByTorch(energy), x).energy)
    handle.remove()
    torch.testing.assert_close(GaussNewton(1)(energy, x).energy, plain)


@pytest.mark.parametrize("mode", ["no_grad", "inference", "grad"])
def test_chains_do_not_depend_on_the_mode_of_the_caller(mode: str) -> None:
    energy, x = ENERGIES["one goal"](), 0.5 * drawn(2, 6, 5).float()
    expected = GaussNewton(2)(energy, x).x
    modes = {"no_grad": torch.no_grad(), "inference": torch.inference_mode(), "grad": torch.enable_grad()}
    with modes[mode]:
        found = GaussNewton(2)(energy, x).x
    assert torch.equal(found, expected)
    assert all(p.requires_grad for p in energy.parameters())


def test_temperatures_above_zero_keep_their_kernel() -> None:
    energy, x = ENERGIES["one goal"](), 0.2 * drawn(4, 6, 5).float()
    sampler = GaussNewton(3, temperature=1.0)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    one, other = (
        sampler(e, x, generator=g) for e, g in zip((energy, ByTorch(energy)), generators, strict=True)
    )
    torch.testing.assert_close(one.x, other.x)
    assert replace(sampler, temperature=0.0).kernel().arrays


def test_work_is_counted_only_where_there_are_several_threads() -> None:
    asked = []

    def work() -> float:
        asked.append(torch.get_num_threads())
        return 1.0

    before = torch.get_num_threads()
    try:
        for threads, expected in ((1, []), (2, [2])):
            torch.set_num_threads(threads)
            asked.clear()
            with threads_for(work):
                assert torch.get_num_threads() == 1
            assert asked == expected
    finally:
        torch.set_num_threads(before)
