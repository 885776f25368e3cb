"""Predictions from every type of numbers, and with torch set up otherwise."""

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.energies import TransitionEnergy, WindowEnergy
from ebm_control.prediction import predict
from ebm_control.samplers import Langevin
from tests.helpers import FORMS
from tests.prediction.helpers import LAYOUT, SCALE

PAST = torch.tensor([[[0.5, -0.25, 0.0]], [[1.0, 0.5, 0.0]]])
ACTIONS = torch.tensor([[[0.5], [-1.0]], [[0.0], [0.25]]])


def made(kind):
    torch.manual_seed(0)
    known = {"displacement_scale": SCALE, "context_dim": 1}
    return (TransitionEnergy if kind == "transition" else WindowEnergy)(LAYOUT, **known)


def future(energy, form=lambda x: x, **given):
    told = {
        "context": form(torch.ones(2, 1)),
        "bounds": (form(torch.tensor([-2.0, -1.0])), form(torch.tensor([2.0, 1.0]))),
        "generator": torch.Generator().manual_seed(0),
        "sampler": Langevin(3, 0.1),
    }
    actions = given.pop("actions", form(ACTIONS))
    return predict(energy, form(PAST), actions, horizon=2, samples=2, **(told | given))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["transition", "window"])
def test_histories_of_any_type_have_the_same_futures(form, kind):
    energy = made(kind)
    expected, found = future(energy), future(energy, FORMS[form])
    assert found.states.dtype == torch.float32
    assert torch.equal(found.states, expected.states)
    assert torch.equal(found.energy, expected.energy)


def test_whole_numbers_are_read_as_floats_and_predictions_come_in_the_energy_s_precision():
    energy = made("transition")
    past = torch.tensor([[[1, 0, 0]], [[0, 2, 0]]])
    found = future(energy, generator=torch.Generator().manual_seed(0))
    assert found.states.dtype == torch.float32

    def run(past):
        generator = torch.Generator().manual_seed(0)
        return predict(energy, past, horizon=2, context=[[1], [1]], generator=generator).states

    assert torch.equal(run(past), run(past.float()))
    assert future(energy.double()).states.dtype == torch.float64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"context": None}, r"context: expected shape \(2, 1\), got None"),
        ({"context": torch.ones(2, 2)}, "context: expected shape"),
        ({"context": torch.ones(3, 1)}, "context: expected shape"),
        ({"context": [["a"], ["b"]]}, "context: expected"),
        ({"bounds": ([0.0], [1.0])}, "bounds: expected shape"),
        ({"bounds": ([0.0, np.nan], [1.0, 1.0])}, "bounds: expected no NaN"),
        ({"context": [[None], [1.0]]}, "context: expected"),
        ({"actions": torch.zeros(2, 1, 1)}, r"actions: .* \(2, 2, 1\), got shape \(2, 1, 1\)"),
        ({"actions": torch.zeros(2, 2, 2)}, r"actions: .* \(2, 2, 1\), got shape \(2, 2, 2\)"),
    ],
)
def test_what_does_not_fit_is_one_line(given, message):
    with pytest.raises(InputError, match=rf"^{message}") as caught:
        future(made("transition"), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("past", "message"),
    [
        (torch.zeros(2, 3), r"history: expected shape \(any, any, 3\), got shape \(2, 3\)"),
        (torch.zeros(2, 1, 2), r"history: expected shape \(any, any, 3\), got shape \(2, 1, 2\)"),
        (torch.full((2, 1, 3), torch.nan), "history: expected finite values only, got 6"),
        (torch.zeros(2, 0, 3), "history: expected at least 1, got no rows"),
        (torch.zeros(2, 1, 3, dtype=torch.complex64), "history: expected real numbers"),
        ([[["a", "b", "c"]]], "history: expected"),
        (None, "history: expected"),
    ],
)
def test_histories_that_are_none_are_one_line(past, message):
    with pytest.raises(InputError, match=rf"^{message}"):
        predict(made("transition"), past, horizon=2)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("kind", ["transition", "window"])
def test_futures_are_the_same_in_every_mode_of_torch(mode, kind):
    expected = future(made(kind)).states
    with mode():
        found = future(made(kind), lambda x: x + 0).states
    assert torch.equal(found, expected)
    assert not found.is_inference()


def test_futures_do_not_depend_on_the_default_dtype():
    expected = future(made("window")).states
    torch.set_default_dtype(torch.float64)
    try:
        found = future(made("window")).states
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, expected)
