"""What every sampler promises, whatever it does inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ebm_control.checks import InputError
from ebm_control.energies import Energy, GoalCost, TrajectoryLayout
from ebm_control.samplers import (
    CEM,
    HMC,
    MALA,
    MPPI,
    Annealed,
    GaussNewton,
    Geometric,
    Langevin,
)
from ebm_control.samplers.chain import Sampler
from ebm_control.samplers.engines import loop
from ebm_control.samplers.flow import FlowKernel
from ebm_control.samplers.kernel import Kernel, Target
from ebm_control.samplers.langevin import LangevinKernel
from ebm_control.samplers.metropolis import HMCKernel
from ebm_control.samplers.population import CEMKernel, MPPIKernel
from tests.helpers import normal, seeded
from tests.samplers.helpers import SAMPLERS, Conditioned, Function, quadratic, spectral_transition_energy

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
DRAWING = {name: sampler for name, sampler in SAMPLERS.items() if name != "second-order search"}
every_drawing_sampler = pytest.mark.parametrize("sampler", DRAWING.values(), ids=DRAWING)


@every_sampler
def test_fixed_coordinates_are_equal_to_the_bit_after_1000_steps_and_free_ones_move(sampler: Any) -> None:
    x = 3 * normal(4, 3, 2)  # fixed values far outside the clamped sampler's bounds too
    fixed = normal(4, 3, 2, seed=1) > 0
    chain = replace(sampler, steps=1000)(Conditioned(2), x, fixed=fixed, generator=seeded())
    assert torch.equal(chain.x[fixed], x[fixed])
    assert (chain.x[~fixed] != x[~fixed]).all()


@every_sampler
def test_mask_broadcasts_over_chains_and_coordinates(sampler: Sampler) -> None:
    x = normal(4, 3, 2)
    fixed = torch.tensor([True, False, False])[:, None]
    chain = sampler(Function(quadratic), x, fixed=fixed, generator=seeded())
    assert torch.equal(chain.x[:, 0], x[:, 0])
    assert (chain.x[:, 1:] != x[:, 1:]).all()


@every_drawing_sampler
def test_equal_seeds_give_equal_chains_and_other_seeds_others(sampler: Sampler) -> None:
    first, second, other = (
        sampler(Conditioned(), normal(6, 3), generator=seeded(seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.energy, second.energy)
    assert not torch.equal(first.x, other.x)


@every_drawing_sampler
def test_consecutive_calls_draw_fresh_noise_from_one_generator(sampler: Sampler) -> None:
    source, x = seeded(), normal(6, 3)
    assert not torch.equal(
        sampler(Conditioned(), x, generator=source).x, sampler(Conditioned(), x, generator=source).x
    )


@every_drawing_sampler
def test_global_random_state_is_untouched_with_and_without_a_generator(sampler: Sampler) -> None:
    before = torch.get_rng_state()
    sampler(Conditioned(), normal(6, 3), generator=seeded())
    first, second = (sampler(Conditioned(), normal(6, 3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first.x, second.x)


@every_sampler
def test_energy_and_input_are_left_as_they_were(sampler: Sampler) -> None:
    energy = spectral_transition_energy()
    energy.train()
    modules = list(energy.modules())
    modules[3].training = False  # modes that differ among modules come back each to its own
    parameters = list(energy.parameters())
    parameters[0].requires_grad_(False)
    weights = {name: value.clone() for name, value in energy.state_dict().items()}
    flags, modes = [p.requires_grad for p in parameters], [m.training for m in modules]
    x, context = normal(6, 4, 3), normal(6, 1, seed=1)
    given = x.clone()
    sampler(energy, x, context=context, generator=seeded())
    assert [p.requires_grad for p in parameters] == flags
    assert all(p.grad is None for p in parameters)
    assert [m.training for m in modules] == modes
    assert any("_u" in name for name in weights)
    assert all(torch.equal(value, weights[name]) for name, value in energy.state_dict().items())
    assert torch.equal(x, given)
    assert not x.requires_grad


def test_modes_come_back_after_an_error() -> None:
    energy = spectral_transition_energy().train()
    with pytest.raises(InputError, match="context"):
        Langevin(steps=2)(energy, normal(6, 4, 3))
    assert all(module.training for module in energy.modules())


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_output_is_detached_and_keeps_shape_and_dtype(sampler: Sampler, dtype: torch.dtype) -> None:
    x = normal(6, 4, 3, dtype=dtype).requires_grad_()
    energy = Conditioned(3, dtype)
    chain = sampler(energy, x, generator=seeded(), trace=2)
    assert chain.trace is not None
    assert chain.x.shape == x.shape
    assert chain.energy.shape == (6,)
    assert chain.trace.shape == (2, 6, 4, 3)
    assert {chain.x.dtype, chain.energy.dtype, chain.trace.dtype} == {dtype}
    assert not any(t.requires_grad for t in (chain.x, chain.energy, chain.trace, *chain.info.values()))
    assert all(figure.shape == (5,) for figure in chain.info.values())
    torch.testing.assert_close(chain.energy, energy(chain.x.detach()).detach())


@every_sampler
def test_trace_keeps_every_nth_state_and_changes_nothing(sampler: Sampler) -> None:
    x = normal(6, 3)
    without, full, third = (sampler(Conditioned(), x, generator=seeded(), trace=every) for every in (0, 1, 3))
    assert without.trace is None
    assert full.trace is not None
    assert third.trace is not None
    assert torch.equal(without.x, full.x)
    assert len(full.trace) == 5
    assert torch.equal(third.trace, full.trace[2:3])
    if not isinstance(sampler, CEM):  # which ends at the best candidate, not at its last mean
        assert torch.equal(full.trace[-1], full.x)


@every_sampler
def test_zero_steps_give_back_the_start_with_its_energy(sampler: Any) -> None:
    x = normal(6, 3)
    chain = replace(sampler, steps=0)(Conditioned(), x, generator=seeded(), trace=1)
    assert torch.equal(chain.x, x)
    assert chain.x.data_ptr() != x.data_ptr()
    assert chain.trace is None
    torch.testing.assert_close(chain.energy, Conditioned()(x).detach())
    assert chain.info == {}


@every_sampler
def test_samplers_run_under_inference_by_callers_without_gradients(sampler: Sampler) -> None:
    with torch.no_grad():
        quiet = sampler(Conditioned(), normal(6, 3), generator=seeded())
        assert not torch.is_grad_enabled()
    assert torch.equal(quiet.x, sampler(Conditioned(), normal(6, 3), generator=seeded()).x)


@every_sampler
def test_context_steers_each_chain_of_its_own(sampler: Any) -> None:
    context = torch.tensor([-2.0, 2.0], dtype=torch.float64).repeat(40)[:, None]
    energy = Conditioned(1)
    energy.network.requires_grad_(False)
    for weight in energy.network.parameters():
        weight.zero_()
    x = torch.zeros(80, 1, dtype=torch.float64)
    chain = replace(sampler, steps=60)(energy, x, context=context, generator=seeded())
    means = chain.x.reshape(40, 2).mean(dim=0)
    assert means[0] < -0.15
    assert means[1] > 0.15


KERNELS: dict[str, tuple[Kernel, int]] = {
    "overdamped": (LangevinKernel("none", False, 0.1, 0.1), 5),
    "underdamped-rms": (LangevinKernel("rms", True, None, None), 5),
    "hmc": (HMCKernel(2), 2),
    "mppi": (MPPIKernel(4, True), 2),
    "cem": (CEMKernel(4, False, 2), 2),
    "mppi, wide": (MPPIKernel(4, False, 3, 0.5, colour=1.0, free=True), 2),
    "cem, wide": (CEMKernel(4, False, 2, colour=1.0, free=True), 2),
    "flow": (FlowKernel("multistep", False), 8),
    "noisy-heun": (FlowKernel("heun", True), 8),
}


def trajectory_energy() -> Energy:
    goal = GoalCost(TrajectoryLayout(2, 1, periods=(2.0, 0.0)), [0])
    apart = GoalCost(TrajectoryLayout(3), [0, 2])
    return spectral_transition_energy() + 0.5 * goal + apart


@pytest.mark.parametrize(("kernel", "figures"), KERNELS.values(), ids=KERNELS)
def test_loop_reads_no_value_back_from_the_device(kernel: Kernel, figures: int) -> None:
    """On the meta device there are no values: any `.item()` or branch on a tensor is an error."""
    energy = trajectory_energy().eval().to("meta")

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, device="meta", dtype=torch.float64)

    x, noise = empty(6, 4, 3), [tuple(n.to("meta") for n in kernel.draw(normal(6, 4, 3), seeded()))] * 3
    free = torch.empty(4, 1, device="meta", dtype=torch.bool)
    target = Target(energy, empty(6, 1), free, empty(3), empty(3))
    with torch.no_grad(), RefuseHostData():
        state, kept, info = loop(kernel, target, x, empty(3, figures), empty(3), iter(noise), trace=1)
    assert kept is not None
    assert state["x"].shape == (6, 4, 3)
    assert kept.shape == (3, 6, 4, 3)
    assert all(figure.shape == (3,) for figure in info.values())


class RefuseHostData(TorchFunctionMode):
    """Lists of indices and of constants would be copied to the device at every step, which waits for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor), func
        if func is Tensor.__getitem__:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(part, list) for part in index), f"indexed by {index}"
        return func(*args, **(kwargs or {}))


BAD_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "flat x": ({"x": normal(6)}, r"x: expected a batch of floats .* got shape \(6,\)"),
    "integer x": ({"x": torch.ones(6, 3, dtype=torch.int64)}, r"x: .*int64"),
    "nan x": ({"x": torch.full((6, 3), torch.nan)}, r"x: expected finite values only, got 18 non-finite"),
    "float mask": ({"fixed": torch.ones(6, 3)}, r"fixed: expected a boolean mask, got torch.float32"),
    "mask shape": (
        {"fixed": torch.ones(6, 4, dtype=torch.bool)},
        r"fixed: expected .*\(6, 3\), got shape \(6, 4\)",
    ),
    "big mask": (
        {"fixed": torch.ones(2, 6, 3, dtype=torch.bool)},
        r"fixed: .*\(6, 3\), got shape \(2, 6, 3\)",
    ),
    "context rows": ({"context": normal(5, 1)}, r"context: expected 6 rows.* got shape \(5, 1\)"),
    "no x": ({"x": None}, r"^x: expected a tensor, got NoneType None"),
    "list as x": ({"x": [[0.0, 1.0]]}, r"^x: expected a tensor, got list"),
    "array as x": ({"x": np.zeros((100, 3))}, r"^x: expected a tensor, got ndarray"),
    "list as mask": ({"fixed": [True, False, False]}, r"^fixed: expected a tensor, got list"),
    "number as context": ({"context": 1.0}, r"^context: expected a tensor, got float 1\.0"),
    "seed as generator": ({"generator": 3}, r"^generator: expected a torch.Generator, or None, got int"),
    "trace": ({"trace": -1}, r"trace: expected a whole number of at least 0, got -1"),
}


@every_sampler
@pytest.mark.parametrize(("arguments", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls_name_the_argument_the_given_and_the_expected(
    sampler: Sampler, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sampler(Conditioned(), **({"x": normal(6, 3)} | arguments))
    assert "\n" not in str(caught.value)


def test_generator_of_another_device_is_named() -> None:
    with pytest.raises(InputError, match=r"generator: expected on meta, got on cpu"):
        Langevin(steps=1)(Conditioned(), torch.empty(6, 3, device="meta"), generator=seeded())


@pytest.mark.parametrize(
    "sampler",
    [Langevin(steps=2), MALA(steps=2), GaussNewton(2), GaussNewton(2, temperature=1.0)],
    ids=["langevin", "mala", "search", "second-order"],
)
def test_energy_of_the_wrong_shape_is_named(sampler: Sampler) -> None:
    column = Function(lambda x: x.square().sum(dim=1, keepdim=True))
    with pytest.raises(InputError, match=r"energy\(x\): expected shape \(6\), got shape \(6, 1\)"):
        sampler(column, normal(6, 3))


BAD_SETTINGS: dict[str, tuple[type, dict[str, Any], str]] = {
    "langevin steps": (Langevin, {"steps": -1}, "steps: expected a whole number of at least 0, got -1"),
    "step size": (Langevin, {"step_size": 0.0}, "step_size: expected a number above 0, got 0.0"),
    "noise": (Langevin, {"noise": -0.1}, "noise: expected a number of at least 0, got -0.1"),
    "temperature": (
        Langevin,
        {"temperature": -1.0},
        "temperature: expected a number of at least 0, got -1.0",
    ),
    "friction": (Langevin, {"friction": 0.0}, "friction: expected a number above 0, got 0.0"),
    "gradient clip": (Langevin, {"gradient_clip": -1.0}, "gradient_clip: expected a number above 0"),
    "delta clip": (Langevin, {"delta_clip": 0.0}, "delta_clip: expected a number above 0"),
    "adapt": (Langevin, {"adapt": "adam"}, "adapt: expected 'none' or 'rms', got adam"),
    "mala step size": (MALA, {"step_size": -1.0}, "step_size: expected a number above 0, got -1.0"),
    "mala temperature": (MALA, {"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
    "mala steps": (MALA, {"steps": -1}, "steps: expected a whole number of at least 0"),
    "leapfrog": (HMC, {"leapfrog": 0}, "leapfrog: expected a whole number of at least 1, got 0"),
    "hmc step size": (HMC, {"step_size": 0.0}, "step_size: expected a number above 0"),
    "candidates": (MPPI, {"candidates": 1}, "candidates: expected a whole number of at least 2, got 1"),
    "mppi noise": (MPPI, {"noise": 0.0}, "noise: expected a number above 0, got 0.0"),
    "mppi temperature": (MPPI, {"temperature": 0.0}, "temperature: expected a number above 0"),
    "mppi elites": (
        MPPI,
        {"candidates": 8, "elites": 9},
        "elites: expected a whole number from 2 to 8, got 9",
    ),
    "mppi adapt": (MPPI, {"adapt": 1.5}, "adapt: expected a number from 0 to 1, got 1.5"),
    "colour": (MPPI, {"colour": -1.0}, "colour: expected a number of at least 0"),
    "mppi steps": (MPPI, {"steps": -1}, "steps: expected a whole number of at least 0"),
    "elites": (CEM, {"candidates": 8, "elites": 9}, "elites: expected a whole number from 2 to 8, got 9"),
    "minimum": (CEM, {"minimum": 0.0}, "minimum: expected a number above 0 and at most 1"),
    "smoothing": (CEM, {"smoothing": 1.0}, "smoothing: expected a number from 0 to below 1, got 1"),
    "cem noise": (CEM, {"noise": -1.0}, "noise: expected a number above 0"),
    "second-order steps": (GaussNewton, {"steps": -1}, "steps: expected a whole number of at least 0"),
    "second-order temperature": (GaussNewton, {"temperature": -1.0}, "temperature: expected a number of"),
    "second-order step size": (
        GaussNewton,
        {"step_size": 1.5},
        "step_size: expected a number above 0 and at most 1, got 1.5",
    ),
    "damping": (GaussNewton, {"damping": 0.0}, "damping: expected a number above 0, got 0.0"),
    "second-order engine": (
        GaussNewton,
        {"engine": "compile"},
        "engine: expected 'auto' or 'eager' for second-order steps, got compile",
    ),
    "geometric": (Geometric, {"start": 0.0, "end": 1.0}, "start: expected a number above 0"),
}


@pytest.mark.parametrize(("kind", "arguments", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_settings_are_refused_when_made(kind: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**arguments)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Langevin(scale=torch.ones(4)), r"scale: expected .*\(6, 3\), got shape \(4,\)"),
        (Langevin(scale=(1.0, -1.0, 1.0)), r"scale: expected positive numbers, got \(1.0, -1.0, 1.0\)"),
        (Langevin(clamp=(1.0, 0.0)), r"clamp: expected \(low, high\) with low <= high, got \(1.0, 0.0\)"),
        (MPPI(clamp=(0.0, (1.0, 1.0))), r"clamp: expected .*\(6, 3\), got shape \(2,\)"),
        (Langevin(engine="turbo"), r"engine: expected 'auto', 'eager', 'compile' or 'graph', got turbo"),  # type: ignore[arg-type]
        (Langevin(engine="graph"), r"engine: expected a CUDA device for 'graph', got 'graph' on cpu"),
    ],
    ids=["scale shape", "scale sign", "clamp order", "clamp shape", "engine", "graph on cpu"],
)
def test_settings_that_do_not_fit_the_input_are_named(sampler: Sampler, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampler(Conditioned(), normal(6, 3))


def test_a_context_of_annealed_chains_has_an_axis_of_figures() -> None:
    with pytest.raises(InputError, match=r"^context: expected shape \(6, any\), got shape \(6,\)"):
        Annealed((1.0, 0.5))(Conditioned(), normal(6, 3), context=normal(6))
