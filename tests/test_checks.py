"""Checks that hand back what they have checked."""

from __future__ import annotations

import pytest
import torch

from ebm_control.checks import InputError, require_given, require_is, require_tensor


def test_what_is_of_the_type_comes_back_as_it_is():
    value = torch.zeros(2)
    assert require_is(value, torch.Tensor, "x") is value
    assert require_tensor("x", value) is value
    assert require_given(0, "count", expected="a number") == 0


def test_another_type_is_named_with_what_was_expected():
    with pytest.raises(InputError, match=r"^x: expected a Tensor, got int$"):
        require_is(3, torch.Tensor, "x")
    with pytest.raises(InputError, match=r"^steps: expected an ndarray of steps, got NoneType$"):
        require_is(None, int, "steps", expected="an ndarray of steps")
    with pytest.raises(InputError, match=r"^context: expected shape \(3, 1\), got None$"):
        require_given(None, "context", expected="shape (3, 1)")
