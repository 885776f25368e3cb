"""Rewards and flags in every form that environments hand them over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data.scalars import scalar_flag, scalar_reward


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, 0.5),
        (-3, -3.0),
        (True, 1.0),
        (np.float32(0.25), 0.25),
        (np.float16(0.25), 0.25),
        (np.int64(7), 7.0),
        (np.bool_(False), 0.0),
        (np.array(1.5), 1.5),
        (np.array([1.5]), 1.5),
        (np.array([[1.5]], ">f4"), 1.5),
        ([2.0], 2.0),
        (torch.tensor([2.5], requires_grad=True), 2.5),
        (torch.tensor(3), 3.0),
    ],
)
def test_one_number_of_any_form_is_a_float(value: Any, expected: float) -> None:
    found = scalar_reward(value, "step 0")
    assert type(found) is float
    assert found == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        float("nan"),
        np.inf,
        np.array([np.nan]),
        np.array([1.0, 2.0]),
        np.array([]),
        [],
        [[1.0], [2.0, 3.0]],
        "1.0",
        {"reward": 1.0},
        1j,
        torch.zeros(2),
        object(),
    ],
)
def test_anything_else_is_one_line_that_says_where(value: Any) -> None:
    with pytest.raises(InputError, match=r"^reward of environment 2, step 31: expected one finite") as caught:
        scalar_reward(value, "environment 2, step 31")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [True, 1, np.bool_(True), np.array([True]), torch.ones(1), 1.0])
def test_flags_of_one_element_are_bools(value: Any) -> None:
    assert scalar_flag(value, "terminated of step 0") is True
    assert scalar_flag(1 - np.asarray(value, float), "terminated of step 0") is False


@pytest.mark.parametrize("value", [None, 2, 0.5, np.array([True, False]), "False", float("nan")])
def test_other_flags_are_one_line(value: Any) -> None:
    with pytest.raises(InputError, match=r"^truncated of step 3: expected True or False, got"):
        scalar_flag(value, "truncated of step 3")
