from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from ebm_control.checks import InputError
from ebm_control.energies import SpeedCost, TrajectoryLayout
from ebm_control.online.exploration.novelty import NoveltyCost
from ebm_control.samplers import Langevin
from tests.energies.helpers import gradient
from tests.helpers import normal

pytestmark = pytest.mark.slow

PLANE = TrajectoryLayout(2, 1)
RING = TrajectoryLayout(2, 1, periods=(2.0, 0.0))
WIDTH = 0.1


def disc(radius: float, count: int = 2000, seed: int = 0) -> Tensor:
    """Points uniform in a disc about the origin."""
    generator = torch.Generator().manual_seed(seed)
    r, angle = torch.rand(2, count, generator=generator, dtype=torch.float64)
    return (
        radius
        * r.sqrt()[:, None]
        * torch.stack([(2 * math.pi * angle).cos(), (2 * math.pi * angle).sin()], 1)
    )


def explored(radius: float = 0.3, **settings: Any) -> NoveltyCost:
    cost = NoveltyCost(PLANE, [0, 1], WIDTH, **settings).double()
    cost.visit(disc(radius))
    return cost


def path(points: Tensor) -> Tensor:
    """Trajectories `(B, T, 3)` through points `(B, T, 2)`, actions 0."""
    return torch.cat([points, torch.zeros_like(points[..., :1])], dim=-1)


def at(points: Tensor) -> Tensor:
    """Trajectories `(N, 2, 3)` from far away to each of the points `(N, 2)`."""
    return path(torch.stack([torch.full_like(points, 50.0), points], dim=1))


def by_hand(cost: NoveltyCost, x: Tensor, periods: tuple[float, float]) -> float:
    """The formula of the docstring in plain loops, for one trajectory `(T, 3)`."""

    def kernel(a: Tensor, b: Tensor) -> float:
        squared = 0.0
        for delta, period in zip((a - b).tolist(), periods, strict=True):
            chord = period / math.pi * math.sin(math.pi * delta / period) if period else delta
            squared += (chord / WIDTH) ** 2
        return math.exp(-squared / 2)

    total = 0.0
    for t in range(1, len(x)):
        count = sum(kernel(x[t, :2], place) for place in cost.remembered())
        count += cost.repetition * sum(kernel(x[t, :2], x[u, :2]) for u in range(t))
        total += math.log1p(count / cost.floor)
    return total


@pytest.mark.parametrize("layout", [PLANE, RING], ids=["plane", "ring"])
@pytest.mark.parametrize("repetition", [1.0, 0.3, 0.0])
def test_cost_is_what_its_formula_says(layout: TrajectoryLayout, repetition: float) -> None:
    cost = NoveltyCost(layout, [0, 1], WIDTH, capacity=50, floor=0.2, repetition=repetition).double()
    cost.visit(disc(0.3, count=30))
    x = 0.3 * normal(3, 4, 3)
    x[0, 2] = x[0, 1] + 0.02
    expected = torch.tensor([by_hand(cost, row, layout.periods or (0.0, 0.0)) for row in x])
    torch.testing.assert_close(cost(x), expected.double())


@pytest.mark.parametrize("layout", [PLANE, RING], ids=["plane", "ring"])
def test_gradient_is_right_and_costs_of_a_batch_are_independent(layout: TrajectoryLayout) -> None:
    cost = NoveltyCost(layout, [0, 1], torch.tensor([0.1, 0.3])).double()
    cost.visit(disc(0.5))
    x = 0.3 * normal(3, 5, 3)
    assert torch.autograd.gradcheck(cost, x.clone().requires_grad_())
    torch.testing.assert_close(cost(x), torch.cat([cost(x[i : i + 1]) for i in range(3)]))
    assert list(cost.parameters()) == []


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    x = at(disc(0.3, count=3)).requires_grad_()
    (first,) = torch.autograd.grad(explored()(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_nothing_is_lower_than_new_ground_and_there_the_cost_is_flat() -> None:
    cost, far = explored(), at(disc(0.3) + 2.0)
    assert cost(far).abs().max() < 1e-12
    assert gradient(cost, far).abs().max() < 1e-12
    assert cost(at(disc(0.3, seed=1))).min() > 3.0  # at least 20 floors


def test_frontier_falls_outwards_whatever_the_direction() -> None:
    cost, radius = explored(), 0.3
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    outward = torch.stack([angle.cos(), angle.sin()], dim=1)
    for beyond in (0.0, 0.5, 1.0, 2.0):
        slope = gradient(cost, at((radius + beyond * WIDTH) * outward))[:, 1, :2]
        assert ((slope * outward).sum(dim=1) * WIDTH < -0.1).all(), beyond


def test_langevin_under_the_cost_alone_leaves_the_visited_disc() -> None:
    cost = explored(0.2)
    x = path(disc(0.1, count=32 * 6).unflatten(0, (32, 6)))
    fixed = torch.zeros(6, 3, dtype=torch.bool)
    fixed[0] = True
    sampler = Langevin(steps=150, step_size=0.1, temperature=0.1, scale=torch.tensor([WIDTH, WIDTH, 1.0]))
    chain = sampler(cost, x, fixed=fixed, generator=torch.Generator().manual_seed(0))
    assert not cost.novel(x[:, 1:, :2].flatten(0, 1)).any()
    assert cost.novel(chain.x[:, 1:, :2].flatten(0, 1)).double().mean() > 0.95
    assert (chain.energy < 0.5 * cost(x)).all()


def test_sweeping_new_ground_is_cheaper_than_resting_on_it() -> None:
    cost = explored()
    steps = torch.arange(10, dtype=torch.float64)[:, None] * torch.tensor([WIDTH, 0.0], dtype=torch.float64)
    new = torch.tensor([1.0, 1.0], dtype=torch.float64)
    sweep, rest = new + steps, (new + steps[:1]).expand(10, 2)
    there_and_back = new + torch.cat([steps[:5], steps[:5].flip(0)])
    swept, returned, rested = cost(path(torch.stack([sweep, there_and_back, rest]))).tolist()
    assert swept < 0.95 * returned < 0.95 * rested
    without = explored(repetition=0.0)
    assert without(path(torch.stack([sweep, rest]))).abs().max() < 1e-12


def test_chains_with_a_speed_limit_spread_their_rows_over_new_ground() -> None:
    layout = TrajectoryLayout(2)
    cost = NoveltyCost(layout, [0, 1], WIDTH).double()
    total = cost + 1000.0 * SpeedCost(layout, torch.tensor([WIDTH, WIDTH])).double()
    x = 0.01 * normal(16, 12, 2)
    fixed = torch.zeros(12, 2, dtype=torch.bool)
    fixed[0] = True
    sampler = Langevin(steps=300, step_size=0.05, temperature=0.02, scale=torch.tensor([WIDTH, WIDTH]))
    chain = sampler(total, x, fixed=fixed, generator=torch.Generator().manual_seed(0))
    covered = []
    for states in (*x, *chain.x):
        cost.forget()
        covered.append(cost.visit(states))
    assert covered[:16] == [1] * 16
    assert min(covered[16:]) >= 6


def test_remembered_places_are_half_a_width_apart_and_leave_no_visit_out() -> None:
    cost = explored()
    places = cost.remembered()
    apart = torch.pdist(places) / WIDTH
    assert apart.min() >= 0.5
    assert ((torch.cdist(disc(0.3), places) / WIDTH).amin(dim=1) < 0.5).all()
    assert cost.count == len(places) == int(cost.added)


def test_a_second_visit_adds_nothing() -> None:
    cost = explored()
    count, places = cost.count, cost.places.clone()
    assert cost.visit(disc(0.3)) == 0
    assert cost.count == count
    assert torch.equal(cost.places, places)
    assert cost.visit(torch.empty(0, 2)) == 0


def test_points_are_novel_until_visited() -> None:
    cost = NoveltyCost(PLANE, [1], WIDTH)
    points = torch.tensor([[0.0], [0.04], [0.2]])
    assert cost.novel(points).all()
    assert cost.visit(points) == 2
    assert not cost.novel(points).any()
    assert cost.novel(torch.tensor([[0.049], [0.051], [0.9]])).tolist() == [False, True, True]
    cost.forget()
    assert cost.count == 0
    assert cost.novel(points).all()


def test_oldest_places_are_forgotten_beyond_capacity() -> None:
    cost = NoveltyCost(PLANE, [0], WIDTH, capacity=5)
    line = torch.arange(12.0)[:, None]
    assert [cost.visit(line[:3]), cost.visit(line[3:])] == [3, 9]
    assert cost.count == 5
    assert sorted(cost.remembered().flatten().tolist()) == [7, 8, 9, 10, 11]
    assert cost.novel(line).tolist() == [True] * 7 + [False] * 5


def test_periodic_places_are_compared_the_shorter_way_round() -> None:
    cost = NoveltyCost(RING, [0, 1], WIDTH).double()
    cost.visit(torch.tensor([[0.99, 0.0]]))
    assert cost.novel(torch.tensor([[-0.99, 0.0], [2.99, 0.0], [0.0, 0.0]])).tolist() == [False, False, True]
    x = at(torch.tensor([[-0.99, 0.0]], dtype=torch.float64))
    turned = x.clone()
    turned[..., 0] += 4.0
    torch.testing.assert_close(cost(turned), cost(x))
    assert cost(x).item() == pytest.approx(math.log1p(10 * math.exp(-0.5 * 0.2**2)), rel=1e-4)


def test_places_far_from_the_origin_lose_no_digits() -> None:
    here, there = explored(), NoveltyCost(PLANE, [0, 1], WIDTH)
    offset = 128.0
    there.visit(here.remembered() + offset)
    x = at(disc(0.4, count=50, seed=1))
    moved = (x + offset).float()
    torch.testing.assert_close(there(moved).double(), here(x), rtol=1e-3, atol=1e-3)


def test_memory_travels_in_the_state_dict() -> None:
    cost = explored()
    other = NoveltyCost(PLANE, [0, 1], WIDTH).double()
    other.load_state_dict(cost.state_dict())
    x = 0.3 * normal(4, 6, 3)
    assert torch.equal(other(x), cost(x))
    assert other.count == cost.count
    assert set(cost.state_dict()) == {"places", "added"}


def test_a_visit_needs_no_new_compilation_and_is_seen_by_the_compiled_cost() -> None:
    cost, x = NoveltyCost(PLANE, [0, 1], WIDTH, capacity=100).double(), at(disc(0.4, count=4))
    addresses = [buffer.data_ptr() for buffer in cost.buffers()]

    def step(x: Tensor) -> Tensor:  # what a compiled sampler traces
        return torch.func.grad(lambda x: cost(x).sum())(x)

    counter = CompileCounter()
    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for _ in range(3):
        torch.testing.assert_close(compiled(x), gradient(cost, x))
        cost.visit(disc(0.3, count=50, seed=cost.count))
    assert compiled(x).abs().sum() > 1.0
    assert counter.frame_count == 1
    assert [buffer.data_ptr() for buffer in cost.buffers()] == addresses


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "index": (
        lambda: NoveltyCost(PLANE, [2], 0.1),
        "index: expected coordinates in 0..1, at least one and each once, got [2]",
    ),
    "no index": (
        lambda: NoveltyCost(PLANE, [], 0.1),
        "index: expected coordinates in 0..1, at least one and each once, got []",
    ),
    "width": (lambda: NoveltyCost(PLANE, [0], 0.0), "width: expected positive numbers"),
    "widths": (
        lambda: NoveltyCost(PLANE, [0], torch.ones(2)),
        "width: expected shape (1), got shape (2,)",
    ),
    "wide": (
        lambda: NoveltyCost(RING, [0, 1], 1.0),
        "width: expected positive numbers, less than half of the periods [2.0, 0.0] that are not 0, got [1.0, 1.0]",
    ),
    "capacity": (
        lambda: NoveltyCost(PLANE, [0], 0.1, capacity=0),
        "capacity: expected a whole number of at least 1, got 0",
    ),
    "floor": (lambda: NoveltyCost(PLANE, [0], 0.1, floor=0.0), "floor: expected a number above 0, got 0.0"),
    "repetition": (
        lambda: NoveltyCost(PLANE, [0], 0.1, repetition=-1.0),
        "repetition: expected a number of at least 0, got -1.0",
    ),
    "text as width": (lambda: NoveltyCost(PLANE, [0], "wide"), "width: expected an array of real numbers"),
    "no points": (lambda: explored().visit(None), "points: expected an array of real numbers"),
    "points": (
        lambda: explored().visit(torch.zeros(3, 1)),
        "points: expected shape (any, 2), got shape (3, 1)",
    ),
    "nan": (
        lambda: explored().novel(torch.tensor([[0.0, math.nan]])),
        "points: expected finite values only, got 1 non-finite, first at index (0, 1)",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()
