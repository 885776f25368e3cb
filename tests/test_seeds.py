"""Streams of one seed share nothing, with one another or with those of another seed."""

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.seeds import seeds, stream, torch_generator


def test_seeds_of_neighbours_and_of_other_purposes_are_all_different():
    found = [value for seed in range(50) for purpose in ("a", "b") for value in seeds(seed, purpose, 50)]
    assert len(set(found)) > len(found) - 3, "a collision of 31 bits is rare"
    assert all(0 <= value < 2**31 for value in found)


def test_first_seeds_do_not_depend_on_how_many_there_are():
    assert seeds(3, "a", 8)[:3] == seeds(3, "a", 3)


def test_a_stream_comes_back_and_is_none_of_another_purpose_or_of_numpy_itself():
    def draw(rng):
        return rng.random(200)

    assert np.array_equal(draw(stream(4, "a")), draw(stream(4, "a")))
    for other in (stream(4, "b"), stream(5, "a"), np.random.default_rng(4)):
        assert abs(np.corrcoef(draw(stream(4, "a")), draw(other))[0, 1]) < 0.3


@pytest.mark.parametrize("seed", [-1, 1.5, float("nan"), True, "0", None])
def test_a_seed_that_is_no_whole_number_of_0_or_more_is_refused(seed):
    with pytest.raises(InputError, match=r"^seed: expected a whole number of at least 0"):
        stream(seed, "a")


@pytest.mark.parametrize("seed", [7, np.int64(7), np.uint8(7), np.array([7])[0]])
def test_a_generator_of_torch_takes_seeds_of_numpy(seed):
    assert torch.equal(
        torch.rand(4, generator=torch_generator(seed)), torch.rand(4, generator=torch_generator(7))
    )


@pytest.mark.parametrize("seed", [-1, 1.5, 2**63, float("nan"), True, "0", None])
def test_a_generator_of_torch_needs_a_seed_that_it_can_take(seed):
    with pytest.raises(InputError, match=r"^seed: expected a whole number"):
        torch_generator(seed)
