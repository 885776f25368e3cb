"""Figures of any layout and precision, and torch set up otherwise."""

import numpy as np
import pytest
import torch

from ebm_control.checks import (
    InputError,
    is_sequence,
    require_finite,
    require_floats,
    require_mask,
    require_number,
    require_shape,
    require_tensor,
)
from ebm_control.energies import (
    GaussianBase,
    GoalCost,
    RegressionBase,
    TrajectoryLayout,
    TransitionEnergy,
    WindowEnergy,
    mixture,
)
from ebm_control.energies.networks import MLP, FourierMLP, TemporalConvolution, Transformer
from ebm_control.models import RewardNetwork
from ebm_control.online.exploration.novelty import NoveltyCost
from ebm_control.samplers import CEM, MPPI, Langevin
from ebm_control.tensors import as_array, as_tensor

BASE = np.array([[0.1, -0.2, 0.3], [0.5, 0.4, -0.6], [0.7, 0.8, -0.9]], np.float32)
LAYOUT = TrajectoryLayout(2, 1)


def read_only():
    array = BASE.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "reversed": (lambda: BASE[::-1], BASE[::-1].copy()),
    "columns reversed": (lambda: BASE[:, ::-1], BASE[:, ::-1].copy()),
    "transposed": (lambda: BASE.T, BASE.T.copy()),
    "every second": (lambda: np.repeat(BASE, 2, axis=1)[:, ::2], BASE),
    "broadcast": (lambda: np.broadcast_to(BASE[0], (3, 3)), np.stack([BASE[0]] * 3)),
    "read-only": (read_only, BASE),
    "big-endian float32": (lambda: BASE.astype(">f4"), BASE),
    "big-endian float64": (lambda: BASE.astype(">f8"), BASE),
    "big-endian integers": (lambda: np.arange(6).reshape(2, 3).astype(">i4"), np.arange(6.0).reshape(2, 3)),
    "float16": (lambda: BASE.astype(np.float16), BASE.astype(np.float16).astype(float)),
    "long double": (lambda: BASE.astype(np.longdouble), BASE),
    "uint8": (lambda: np.array([[1, 255]], np.uint8), np.array([[1.0, 255.0]])),
    "booleans": (lambda: BASE > 0, (BASE > 0).astype(float)),
    "lists": (lambda: BASE.tolist(), BASE),
    "list of arrays": (lambda: list(BASE), BASE),
    "objects": (lambda: BASE.astype(object), BASE),
    "tensor": (lambda: torch.from_numpy(BASE), BASE),
    "tensor transposed": (lambda: torch.from_numpy(BASE).T, BASE.T),
    "tensor with a gradient": (lambda: torch.tensor(BASE, requires_grad=True), BASE),
    "bfloat16": (lambda: torch.tensor([[0.5, -2.0]], dtype=torch.bfloat16), np.array([[0.5, -2.0]])),
    "integer tensor": (lambda: torch.tensor([[1, -1]]), np.array([[1.0, -1.0]])),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_figures_is_read_alike(form):
    make, expected = FORMS[form]
    array = as_array("x", make())
    assert array.dtype == np.dtype(np.float64)
    assert array.dtype.isnative
    assert np.array_equal(array, expected)
    tensor = as_tensor("x", make(), torch.float32)
    assert tensor.dtype == torch.float32
    assert not tensor.requires_grad
    assert np.array_equal(tensor.numpy(), np.asarray(expected, np.float32))


@pytest.mark.parametrize(
    "value",
    [
        np.array([1j]),
        np.array(["1.0"]),
        np.array(["2020-01-01"], "datetime64[D]"),
        [None, 1.0],
        [[1.0], [1.0, 2.0]],
        None,
        {"a": 1.0},
        torch.tensor([1j]),
    ],
)
def test_what_is_not_real_numbers_is_one_line(value):
    for read in (as_array, lambda name, v: as_tensor(name, v, torch.float32)):
        with pytest.raises(InputError, match=r"^x: expected") as caught:
            read("x", value)
        assert "\n" not in str(caught.value)


MADE = {
    "mlp": lambda: MLP(3, (4,), spectral=True),
    "fourier": lambda: FourierMLP(3, (4,), features=2, frequencies=2),
    "convolution": lambda: TemporalConvolution(3, 4),
    "transformer": lambda: Transformer(3, 5, 8),
    "gaussian base": lambda: GaussianBase(2),
    "regression base": lambda: RegressionBase(MLP(3, (4,), 2), 2),
    "transition": lambda: TransitionEnergy(LAYOUT),
    "window": lambda: WindowEnergy(LAYOUT),
    "goal": lambda: GoalCost(LAYOUT, (0,)),
    "novelty": lambda: NoveltyCost(LAYOUT, (0,), 0.1),
    "reward": lambda: RewardNetwork(LAYOUT, (4,)),
    "mixture": lambda: mixture([GoalCost(LAYOUT, (0,)), GoalCost(LAYOUT, (1,))]),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("mode", ["double by default", "inference mode"])
def test_modules_are_float32_and_equal_however_torch_is_set_up(name, mode):
    torch.manual_seed(0)
    plain = MADE[name]().state_dict()
    torch.manual_seed(0)
    if mode == "inference mode":
        with torch.inference_mode():
            made = MADE[name]()
    else:
        torch.set_default_dtype(torch.float64)
        try:
            made = MADE[name]()
        finally:
            torch.set_default_dtype(torch.float32)
    assert not any(t.is_inference() for t in [*made.parameters(), *made.buffers()])
    found = made.state_dict()
    assert plain
    for key, value in plain.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_energies_of_another_dtype_are_those_of_their_own(dtype):
    torch.manual_seed(0)
    x = (4 * torch.rand(3, 4, 3)).round()  # every dtype holds these
    for energy in (TransitionEnergy(LAYOUT), WindowEnergy(LAYOUT)):
        assert torch.equal(energy(x.to(dtype)), energy(x))
    double = TransitionEnergy(LAYOUT).double()
    assert double(x).dtype == torch.float64


def test_gradients_pass_the_cast_of_an_energy():
    energy = TransitionEnergy(LAYOUT)
    x = torch.randn(2, 3, 3)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        y = x.to(dtype).requires_grad_()
        gradients.append(torch.autograd.grad(energy(y).sum(), y)[0].float())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("sampler", [Langevin(3, 0.01), MPPI(3, 8), CEM(3, 8, elites=3)])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_chains_are_the_same_in_every_mode(sampler, mode):
    energy = TransitionEnergy(LAYOUT)
    x, fixed = torch.zeros(2, 4, 3), torch.zeros(4, 3, dtype=torch.bool)

    def run(x, fixed):
        return sampler(energy, x, fixed=fixed, generator=torch.Generator().manual_seed(0)).x

    plain = run(x, fixed)
    with mode():
        inside = run(x + 0, fixed.clone())
        made = x + 0
    assert torch.equal(inside, plain)
    assert not inside.is_inference()
    assert torch.equal(run(made, fixed), plain)  # what was made inside is taken outside too


def test_parameters_that_no_gradient_may_pass_are_refused_in_one_line():
    energy = TransitionEnergy(LAYOUT)
    with torch.inference_mode():
        energy.network.layers[0].weight = torch.nn.Parameter(torch.zeros(256, 5), requires_grad=False)
    with pytest.raises(InputError, match=r"^energy: expected an energy made or loaded outside of it"):
        Langevin(2, 0.1)(energy, torch.zeros(2, 4, 3))


@pytest.mark.parametrize(
    "value", [None, "values", b"ab", [None], ["a"], [[1.0], [1.0, 2.0]], [10**400], {}, [1j]]
)
def test_what_holds_no_numbers_is_refused_in_one_line(value):
    with pytest.raises(InputError, match=r"^figures: expected an array of") as caught:
        as_tensor("figures", value, torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "values", 0.5, [1.0], np.zeros((40, 40))])
def test_what_is_no_tensor_is_refused_by_every_check_of_tensors(value):
    for check in (require_tensor, require_floats, require_mask, require_finite):
        with pytest.raises(InputError, match=r"^x: expected a tensor, got ") as caught:
            check("x", value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300
    with pytest.raises(InputError, match=r"^x: expected a tensor, got "):
        require_shape("x", value, (None,))


def test_whole_numbers_beyond_64_bits_are_refused():
    for value in (2**63, -(2**63), 2**70):
        with pytest.raises(InputError, match=r"^count: expected a whole number.* and 64 bits, got"):
            require_number("count", value, whole=True)
    require_number("count", 2**63 - 1, whole=True)
    require_number("figure", 2**70)


def test_what_is_a_sequence():
    assert all(is_sequence(value) for value in ([], (1,), range(2), np.zeros(2), torch.zeros(2)))
    assert not any(
        is_sequence(value) for value in ("ab", b"ab", 3, None, {1}, {}, np.array(1), torch.tensor(1))
    )
