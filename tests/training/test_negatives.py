"""Noise as negatives, and several sources at once: what they hand on and what they refuse."""

from __future__ import annotations

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data.batch import Batch
from ebm_control.training import RandomNegatives, uniform
from ebm_control.training.negatives import drawn_from, states_of
from tests.training.helpers import Planted

BATCH = Batch(torch.zeros(3, 2, 2, dtype=torch.float64))
WITH_CONTEXT = Batch(torch.zeros(3, 2, 2), torch.full((3, 1), 2.0))


def test_noise_has_its_own_count_and_the_batchs_shape_and_type() -> None:
    x, context, _ = RandomNegatives(uniform(-1, 1), 7)(0, BATCH)
    assert x.shape == (7, 2, 2)
    assert x.dtype == torch.float64
    assert context is None
    assert ((x >= -1) & (x <= 1)).all()


def test_noise_gets_the_context_of_the_batch() -> None:
    context = RandomNegatives(uniform(), 7)(0, WITH_CONTEXT).context
    assert context is not None
    assert torch.equal(context, torch.full((7, 1), 2.0))


def test_noise_is_new_at_every_update_and_equal_for_equal_seeds() -> None:
    first, second, other = (RandomNegatives(uniform(), 4, seed=seed) for seed in (0, 0, 1))
    x = first(0, BATCH).x
    assert torch.equal(x, second(0, BATCH).x)
    assert not torch.equal(x, other(0, BATCH).x)
    assert not torch.equal(x, first(1, BATCH).x)


def test_sources_stand_in_their_order_and_save_only_the_states_they_have() -> None:
    both = [lambda step, batch: batch, Planted(torch.full((2,), 5.0))]
    given = drawn_from(both, 0, BATCH)
    assert given is not None
    assert torch.equal(given.x[:3], BATCH.x)
    assert (given.x[3:] > 3).all()
    assert list(states_of(both)) == ["1"]


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="count: expected a whole number of at least 1, got 0"):
        RandomNegatives(uniform(), 0)
    mixed = [RandomNegatives(uniform(), 2), lambda step, batch: Batch(batch.x)]
    with pytest.raises(InputError, match="extra_negatives: expected a context from all"):
        drawn_from(mixed, 0, WITH_CONTEXT)
