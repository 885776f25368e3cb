import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_control.checks import InputError
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.training import SampleBuffer, displaced, gaussian, scattered, uniform
from tests.helpers import seeded


def full_buffer(capacity: int, **given) -> SampleBuffer:
    """Every slot holds its own number; fresh chains start in [-2, -1]."""
    buffer = SampleBuffer(capacity, (1,), uniform(-2, -1), **given)
    buffer.store(torch.arange(capacity), torch.arange(capacity, dtype=torch.float32)[:, None])
    return buffer


def test_five_percent_of_draws_start_afresh_and_the_rest_continue_their_slot():
    buffer, generator = full_buffer(1000), seeded()
    fresh, total = 0, 0
    for _ in range(200):
        x, slots = buffer.draw(200, generator)
        new = x[:, 0] < 0
        assert torch.equal(x[~new, 0], slots[~new].float())
        fresh, total = fresh + int(new.sum()), total + 200
    std = math.sqrt(total * 0.05 * 0.95)
    assert abs(fresh - 0.05 * total) < 4 * std


def test_fresh_chains_are_new_at_every_draw():
    buffer, generator = full_buffer(50, fresh_fraction=1.0), seeded()
    first, second = (buffer.draw(50, generator)[0] for _ in range(2))
    assert (first < 0).all()
    assert torch.cat([first, second]).unique().numel() == 100


def test_empty_slots_always_start_afresh_even_at_fraction_0():
    buffer, generator = SampleBuffer(20, (1,), uniform(-2, -1), fresh_fraction=0.0), seeded()
    buffer.store(torch.arange(0, 20, 2), torch.ones(10, 1))
    assert len(buffer) == 10
    x, slots = buffer.draw(20, generator)
    assert torch.equal(x[:, 0] == 1, slots % 2 == 0)


def test_chains_go_back_to_exactly_the_slots_they_came_from():
    buffer, generator = full_buffer(40), seeded()
    _, slots = buffer.draw(15, generator)
    before = buffer.samples.clone()
    buffer.store(slots, torch.full((15, 1), 99.0))
    drawn = torch.zeros(40, dtype=torch.bool).index_fill(0, slots, True)
    assert (buffer.samples[drawn] == 99).all()
    assert torch.equal(buffer.samples[~drawn], before[~drawn])


def test_explicit_slots_are_the_ones_drawn():
    buffer = full_buffer(30, fresh_fraction=0.0)
    asked = torch.tensor([7, 3, 29])
    x, slots = buffer.draw(3, seeded(), slots=asked)
    assert torch.equal(slots, asked)
    assert torch.equal(x[:, 0], asked.float())


@given(capacity=st.integers(1, 60), n=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_no_slot_is_drawn_twice_unless_there_are_too_few(capacity, n, seed):
    _, slots = full_buffer(capacity).draw(n, seeded(seed))
    assert slots.min() >= 0
    assert slots.max() < capacity
    assert slots.unique().numel() == min(n, capacity)


@pytest.mark.parametrize(("capacity", "n"), [(10, 3), (7, 7), (8, 5)])
def test_every_slot_is_drawn_equally_often(capacity, n):
    buffer, generator = full_buffer(capacity), seeded()
    draws = 4000
    slots = torch.cat([buffer.draw(n, generator)[1] for _ in range(draws)])
    counts = slots.bincount(minlength=capacity).double()
    share = n / capacity
    std = math.sqrt(draws * share * (1 - share)) if n < capacity else 0.5
    assert ((counts - draws * share).abs() < 4.5 * std).all()


def test_bytes_keep_images_within_half_a_level_at_a_quarter_of_the_memory():
    images = torch.rand(64, 1, 8, 8, generator=seeded())
    images[0], images[1] = 0, 1
    bytes_, floats = (
        SampleBuffer(64, (1, 8, 8), uniform(), fresh_fraction=0.0, dtype=dtype)
        for dtype in (torch.uint8, torch.float32)
    )
    bytes_.store(torch.arange(64), images)
    back, _ = bytes_.draw(64, seeded(), slots=torch.arange(64))
    assert back.dtype == torch.float32
    assert (back - images).abs().max() <= 1 / 510 + 1e-6
    assert torch.equal(back[:2], images[:2])
    assert bytes_.samples.nbytes * 4 == floats.samples.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_chain_that_is_not_finite_gives_its_slot_up(bad, dtype):
    buffer = SampleBuffer(4, (3,), uniform(0.4, 0.6), fresh_fraction=0.0, dtype=dtype)
    buffer.store(torch.arange(4), torch.ones(4, 3))
    chains = torch.zeros(2, 3)
    chains[1, 2] = bad
    buffer.store(torch.tensor([0, 1]), chains)
    assert buffer.filled.tolist() == [True, False, True, True]
    x, _ = buffer.draw(4, seeded(), slots=torch.arange(4))
    assert x.isfinite().all()
    assert torch.equal(x[[0, 2, 3]], torch.tensor([0.0, 1, 1])[:, None].expand(3, 3))
    assert ((x[1] >= 0.4) & (x[1] <= 0.6)).all()


def test_saved_buffer_goes_on_as_the_old_one_would():
    old = full_buffer(30)
    new = SampleBuffer(30, (1,), uniform(-2, -1))
    new.load_state_dict(old.state_dict())
    for a, b in zip(old.draw(12, seeded(3)), new.draw(12, seeded(3)), strict=True):
        assert torch.equal(a, b)


def test_displaced_chains_share_their_start_with_the_data_and_spread_as_told():
    layout, data = TrajectoryLayout(2, 1), torch.randn(4000, 3, 3, generator=seeded())
    start = displaced(layout, torch.tensor([0.5, 2.0]))(tuple(data.shape), seeded(1), data)
    moved = start - data
    assert (moved[:, 0] == 0).all()
    assert (moved[..., 2] == 0).all()
    torch.testing.assert_close(moved[:, 1:, :2].std(dim=(0, 1)), torch.tensor([0.5, 2.0]), rtol=0.05, atol=0)


def test_wrong_shapes_and_types_are_named():
    buffer = full_buffer(10)
    with pytest.raises(InputError, match=r"samples: expected shape \(3, 1\), got shape \(3, 2\)"):
        buffer.store(torch.arange(3), torch.zeros(3, 2))
    with pytest.raises(InputError, match=r"slots: expected shape \(3\), got shape \(2,\)"):
        buffer.draw(3, seeded(), slots=torch.arange(2))
    with pytest.raises(InputError, match=r"samples: expected shape \(10, 1\), got shape \(9, 1\)"):
        buffer.load_state_dict(full_buffer(9).state_dict())
    with pytest.raises(InputError, match=r"samples: expected torch.float32, got torch.uint8"):
        buffer.load_state_dict(SampleBuffer(10, (1,), uniform(), dtype=torch.uint8).state_dict())
    with pytest.raises(InputError, match="capacity: expected a whole number of at least 1, got 0"):
        SampleBuffer(0, (1,), gaussian())
    with pytest.raises(InputError, match="fresh_fraction: expected a number from 0 to 1, got 5"):
        SampleBuffer(1, (1,), gaussian(), fresh_fraction=5)
    with pytest.raises(InputError, match=r"dtype: expected a float type or uint8, got torch\.int64"):
        SampleBuffer(1, (1,), gaussian(), dtype=torch.int64)
    with pytest.raises(InputError, match=r"data: expected windows of shape \(2, 3, 3\), got None"):
        displaced(TrajectoryLayout(2, 1), torch.ones(2))((2, 3, 3), seeded(), None)


def test_scattered_chains_stay_in_their_box_however_far_they_walk():
    low, high = torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 3.0])
    fresh = scattered(TrajectoryLayout(2, 1), low, high, torch.full((2,), 5.0))
    x = fresh((2000, 6, 3), seeded(), None)
    assert ((x[..., :2] >= low) & (x[..., :2] <= high)).all()
    assert x[..., 2].std().item() == pytest.approx(1, abs=0.04)
    assert torch.equal(x, fresh((2000, 6, 3), seeded(), None))


def test_bad_boxes_are_named():
    layout, zero, one = TrajectoryLayout(2), torch.zeros(2), torch.ones(2)
    for name, box in (
        ("low", (zero[:1], one, one)),
        ("high", (zero, torch.ones(3), one)),
        ("std", (zero, one, one[:1])),
        ("low: expected at most high", (one, zero, one)),
    ):
        with pytest.raises(InputError, match=name):
            scattered(layout, *box)
