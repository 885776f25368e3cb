from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.energies import (
    BoundCost,
    BoxObstacle,
    Energy,
    GoalCost,
    RewardCost,
    SmoothnessCost,
    SpeedCost,
    TrajectoryLayout,
)
from ebm_control.energies.costs import distance
from tests.helpers import assert_equal_up_to_rounding, normal

PLANE = TrajectoryLayout(2, 1)
RING = TrajectoryLayout(2, 1, periods=(2.0, 0.0))
# Two states and an action a row.
X = torch.tensor([[[0.0, 0.0, 1.0], [0.3, -0.4, 0.5], [0.6, 0.4, 9.0]]], dtype=torch.float64)


def goal(norm: str = "l1", at: tuple[float, ...] = (0.0, 0.0), **settings: Any) -> GoalCost:
    cost = GoalCost(settings.pop("layout", PLANE), [0, 1], norm=norm, **settings).double()
    cost.set_goal(torch.tensor(at))
    return cost


def reward(states: Tensor, actions: Tensor, following: Tensor) -> Tensor:
    return states[..., 0] + 10 * actions[..., 0] + 100 * following[..., 1]


BOX = torch.tensor([[[0.25, -1.0], [0.35, 1.0]]])
COSTS: dict[str, tuple[Energy, float]] = {
    "l1": (goal("l1"), 0.7 + 1.0),
    "l2": (goal("l2"), 0.5 + 0.52**0.5),
    "squared": (goal("squared"), (0.25 + 0.52) / 2),
    "last only": (goal("l1", last_only=True), 1.0),
    "rounded l1": (goal("l1", smooth=0.3, last_only=True), 0.45**0.5 - 0.3 + 0.2),
    "rounded l2": (goal("l2", smooth=0.3, last_only=True), 0.61**0.5 - 0.3),
    "goal elsewhere": (goal("l1", (0.6, 0.4)), 0.3 + 0.8),
    "velocity": (SmoothnessCost(PLANE), 0.5 * (0.09 + 0.16 + 0.09 + 0.64)),
    "acceleration": (SmoothnessCost(PLANE, order=2), 0.5 * 1.2**2),
    "actions": (SmoothnessCost(PLANE, of="actions"), 0.5 * 0.25),
    "box": (BoxObstacle(BOX, [0, 1], between=0).double(), 0.05),
    "box between": (BoxObstacle(BOX, [0, 1], between=1).double(), 0.05),
    "box margin": (BoxObstacle(BOX, [0, 1], between=0, margin=0.1).double(), 0.15),
    "bounds": (
        BoundCost(torch.tensor([-0.2, 0.0]), torch.tensor([0.5, 0.8]), [1, 2]).double(),
        0.5 * (0.2**2 + 0.2**2 + 8.2**2),
    ),
    "reward": (RewardCost(PLANE, reward), -(0.0 + 10 - 40 + 0.3 + 5 + 40)),
}
every_cost = pytest.mark.parametrize(("cost", "expected"), COSTS.values(), ids=COSTS)


@every_cost
def test_cost_is_what_its_formula_says(cost: Energy, expected: float) -> None:
    assert float(cost(X)) == pytest.approx(expected, abs=1e-6)


@every_cost
def test_gradient_is_right_and_costs_of_a_batch_are_independent(cost: Energy, expected: float) -> None:
    x = 0.5 * normal(3, 5, 3)
    assert torch.autograd.gradcheck(cost, x.clone().requires_grad_())
    torch.testing.assert_close(cost(x), torch.cat([cost(x[i : i + 1]) for i in range(3)]))
    assert cost(x).shape == (3,)
    assert list(cost.parameters()) == []


@pytest.mark.parametrize("norm", ["l1", "l2", "squared"])
@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_distance_has_a_finite_gradient_at_the_goal(norm: str, smooth: float) -> None:
    delta = torch.zeros(3, 2, requires_grad=True)
    length = distance(delta, norm, smooth)
    length.sum().backward()
    assert delta.grad is not None
    assert (delta.grad == 0).all()
    assert length.abs().max() < 1e-5


def test_goal_cost_leaves_the_start_alone() -> None:
    moved = X.clone()
    moved[:, 0] += 5
    assert torch.equal(goal()(moved), goal()(X))


@pytest.mark.parametrize("cost", [goal(layout=RING), SmoothnessCost(RING)], ids=["goal", "smoothness"])
def test_periodic_coordinates_are_compared_the_shorter_way_round(cost: Energy) -> None:
    turned = X.clone()
    turned[:, 1:, 0] += 2.0
    torch.testing.assert_close(cost(turned), cost(X))
    across = goal(layout=RING, at=(-0.9, 0.4), last_only=True)
    near = X.clone()
    near[:, -1, 0] = 0.9
    assert float(across(near)) == pytest.approx(0.2)


def test_goal_of_each_problem_is_that_of_its_chains() -> None:
    goals = normal(3, 2)
    x = normal(12, 4, 3, seed=1)
    cost = GoalCost(PLANE, [0, 1]).double()
    cost.set_goal(goals)
    together = cost(x)
    for problem in range(3):
        cost.set_goal(goals[problem])
        chains = slice(4 * problem, 4 * problem + 4)
        torch.testing.assert_close(together[chains], cost(x[chains]))


def test_goals_of_other_numbers_of_problems_are_named() -> None:
    cost = GoalCost(PLANE, [0, 1])
    cost.set_goal(torch.zeros(3, 2))
    with pytest.raises(InputError, match="x: expected a multiple of 3 problems, got 4 chains"):
        cost(torch.zeros(4, 5, 3))
    with pytest.raises(InputError, match=re.escape("goal: expected shape (2,) or (N, 2), got (3,)")):
        cost.set_goal(torch.zeros(3))


def test_goal_is_set_in_place_and_is_no_alias_of_the_given_one() -> None:
    """In place, so that a captured graph reads the new goal; no alias, so that the caller's tensor is its own."""
    cost, given = GoalCost(PLANE, [0, 1]), torch.ones(2)
    address = cost.goal.data_ptr()
    cost.set_goal(given)
    given.add_(5)
    assert cost.goal.data_ptr() == address
    assert torch.equal(cost.goal, torch.ones(2))
    several = torch.ones(3, 2)
    cost.set_goal(several)
    several.add_(5)
    assert torch.equal(cost.goal, torch.ones(3, 2))
    assert torch.equal(cost.state_dict()["goal"], torch.ones(3, 2))


def test_obstacle_catches_a_step_over_a_thin_box() -> None:
    """Both rows are outside: only the points between them are in the box."""
    over = torch.tensor([[[0.0, 0.0, 0.0], [0.6, 0.0, 0.0]]])
    assert float(BoxObstacle(BOX, [0, 1], between=0)(over)) == 0
    assert float(BoxObstacle(BOX, [0, 1], between=1)(over)) == pytest.approx(0.05)
    assert float(BoxObstacle(BOX, [0, 1])(over)) == pytest.approx(0.05)


def test_obstacle_pushes_a_point_out_by_its_nearest_side() -> None:
    inside = torch.tensor([[[0.27, 0.0, 0.0]]], requires_grad=True)
    BoxObstacle(BOX, [0, 1])(inside).sum().backward()
    assert inside.grad is not None
    assert inside.grad[0, 0].tolist() == [1.0, 0.0, 0.0]  # downhill is to the left, the nearer side


def test_obstacle_adds_up_boxes_and_is_nothing_outside() -> None:
    boxes = torch.cat([BOX, BOX, torch.tensor([[[5.0, 5.0], [6.0, 6.0]]])])
    torch.testing.assert_close(
        BoxObstacle(boxes, [0, 1]).double()(X), 2 * BoxObstacle(BOX, [0, 1]).double()(X)
    )
    assert float(BoxObstacle(boxes, [0, 1])(X + 10)) == 0


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "goal index": (
        lambda: GoalCost(PLANE, [2]),
        "index: expected coordinates in 0..1, at least one and each once, got [2]",
    ),
    "no index": (
        lambda: GoalCost(PLANE, []),
        "index: expected coordinates in 0..1, at least one and each once, got []",
    ),
    "norm": (
        lambda: GoalCost(PLANE, [0], norm="l3"),
        "norm: expected one of ('l1', 'l2', 'squared'), got l3",
    ),
    "order": (lambda: SmoothnessCost(PLANE, order=3), "order: expected a whole number from 1 to 2, got 3"),
    "of": (lambda: SmoothnessCost(PLANE, of="goals"), "of: expected 'states' or 'actions', got goals"),
    "box shape": (
        lambda: BoxObstacle(torch.zeros(2, 2), [0, 1]),
        "boxes: expected shape (any, 2, 2), got shape (2, 2)",
    ),
    "box order": (lambda: BoxObstacle(BOX.flip(1), [0, 1]), "boxes: expected low < high"),
    "box index": (
        lambda: BoxObstacle(BOX, [-1, 0]),
        "index: expected coordinates from 0 on, at least one and each once",
    ),
    "low": (
        lambda: BoundCost(torch.zeros(1), torch.ones(2), [0, 1]),
        "low: expected shape (2), got shape (1,)",
    ),
    "high": (lambda: BoundCost(torch.zeros(2), torch.ones(1), [0, 1]), "high: expected shape (2)"),
    "low above high": (
        lambda: BoundCost(torch.ones(1), torch.zeros(1), [0]),
        "low: expected at most high = [0.0], got [1.0]",
    ),
    "number as index": (lambda: GoalCost(PLANE, 1), "index: expected coordinates in 0..1"),
    "text as index": (lambda: BoxObstacle(BOX, "ab"), "index: expected coordinates from 0 on"),
    "no index at all": (lambda: BoundCost([0.0], [1.0], None), "index: expected coordinates from 0 on"),
    "no goal": (lambda: GoalCost(PLANE, [0]).set_goal(None), "goal: expected an array of real numbers"),
    "number as goal": (lambda: GoalCost(PLANE, [0]).set_goal(0.5), "goal: expected shape (1,) or (N, 1)"),
    "text as goal": (
        lambda: GoalCost(PLANE, [0]).set_goal("here"),
        "goal: expected an array of real numbers",
    ),
    "infinite goal": (
        lambda: GoalCost(PLANE, [0]).set_goal([torch.inf]),
        "goal: expected finite values only",
    ),
    "no boxes": (lambda: BoxObstacle(None, [0, 1]), "boxes: expected an array of real numbers"),
    "number as boxes": (lambda: BoxObstacle(0.5, [0, 1]), "boxes: expected shape"),
    "ragged boxes": (lambda: BoxObstacle([[0.0, 0.0], [1.0]], [0, 1]), "boxes: expected an array of numbers"),
    "nan box": (lambda: BoxObstacle(BOX * torch.nan, [0, 1]), "boxes: expected low < high"),
    "box without a side": (
        lambda: BoxObstacle([[[-torch.inf], [torch.inf]]], [0]),
        "boxes: expected a finite side of each",
    ),
    "text as low": (lambda: BoundCost("low", [1.0], [0]), "low: expected an array of real numbers"),
    "no high": (lambda: BoundCost([0.0], None, [0]), "high: expected an array of real numbers"),
    "no limit": (lambda: SpeedCost(PLANE, None), "limit: expected an array of real numbers"),
    "number as limit": (lambda: SpeedCost(PLANE, 0.5), "limit: expected shape (2), got shape ()"),
    "no reward": (lambda: RewardCost(PLANE, None), "reward: expected a function of tensors, got NoneType"),
    "denormalize": (lambda: RewardCost(PLANE, reward, denormalize=1), "denormalize: expected a function"),
    "last only": (lambda: GoalCost(PLANE, [0], last_only="no"), "last_only: expected True or False"),
    "half an order": (lambda: SmoothnessCost(PLANE, order=1.5), "order: expected a whole number from 1 to 2"),
    "reward shape": (
        lambda: RewardCost(PLANE, lambda s, a, n: s)(X),
        "reward(...): expected shape (1, 2), got shape (1, 2, 2)",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_bad_costs_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_speed_cost_is_half_the_squared_excess_of_each_displacement() -> None:
    layout = TrajectoryLayout(2, periods=(2.0, 0.0))
    x = torch.tensor([[[0.9, 0.0], [-0.9, 0.3], [-0.9, 0.3]]])  # 0.2 round the circle, 0.3 straight
    cost = SpeedCost(layout, torch.tensor([0.15, 0.1]))
    assert cost(x).item() == pytest.approx(0.5 * (0.05**2 + 0.2**2), rel=1e-5)
    with pytest.raises(InputError, match="limit"):
        SpeedCost(layout, torch.tensor([-1.0, 1.0]))


def test_boxes_of_each_problem_are_read_problem_by_problem() -> None:
    boxes = torch.tensor([[[[-1.0, -1.0], [1.0, 1.0]]], [[[4.0, 4.0], [6.0, 6.0]]]])
    at = torch.tensor([0.0, 0.0, 5.0, 0.0])[:, None, None].expand(4, 3, 2)
    cost = BoxObstacle(boxes, (0, 1))(at)
    alone = [BoxObstacle(box, (0, 1)) for box in boxes]
    expected = torch.cat([alone[0](at[:2]), alone[1](at[2:])])
    assert_equal_up_to_rounding(cost, expected)  # four at once, and two by two
    assert (cost > 0).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    "make", [lambda x: x.tolist(), lambda x: x.numpy(), lambda x: x.double().numpy()[::1]]
)
def test_figures_of_lists_and_arrays_are_those_of_tensors(make: Callable[[Tensor], Any]) -> None:
    index, point, x = np.array([0, 1]), torch.tensor([0.1, 0.2]), X.float()
    aimed = GoalCost(PLANE, index)
    aimed.set_goal(make(point))
    pairs = [
        (aimed, goal(at=(0.1, 0.2)).float()),
        (BoxObstacle(make(BOX), index), BoxObstacle(BOX, [0, 1])),
        (BoundCost(make(-point), make(point), index), BoundCost(-point, point, [0, 1])),
        (SpeedCost(PLANE, make(point)), SpeedCost(PLANE, point)),
    ]
    for given, expected in pairs:
        assert torch.equal(given(x), expected(x))


def test_a_box_may_be_open_at_a_side() -> None:
    half = BoxObstacle([[[0.25], [torch.inf]]], [0], between=0)
    assert half(X.float()).item() == pytest.approx(0.05 + 0.35)


def test_a_cost_keeps_its_figures_when_what_was_given_changes() -> None:
    limit = torch.tensor([0.1, 0.1])
    cost = SpeedCost(PLANE, limit)
    limit += 5
    assert cost(X.float()) > 0


def test_the_curvature_of_a_box_counts_each_point_inside_once():
    """A point at depth u has 1 / u along its nearest side, shared by the two time steps that it lies between."""
    box = BoxObstacle(torch.tensor([[[-1.0, -9.0], [1.0, 9.0]]]), (0, 1), between=1).double()
    x = torch.tensor([[[-0.5, 0.0], [0.2, 1.0], [3.0, 0.0], [0.9, 0.0]]], dtype=torch.float64)
    main, beside = box.curvature(x)
    depth = torch.tensor(
        [0.5, 0.85, 0.8, 0.1], dtype=torch.float64
    )  # the middle of 1 and 2 is outside, and of 2 and 3
    half = 0.25 / depth[1]
    expected = torch.stack([1 / depth[0] + half, 1 / depth[2] + half, 0 * half, 1 / depth[3]])
    torch.testing.assert_close(main[0, :, 0, 0], expected)
    torch.testing.assert_close(beside[0, :, 0, 0], torch.stack([half, 0 * half, 0 * half]))
    assert main[..., 1].abs().max() == 0
