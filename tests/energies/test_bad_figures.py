"""Coordinates that do not exist, and figures that are none, in energies and costs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.energies import (
    MLP,
    BoundCost,
    BoxObstacle,
    Energy,
    FourierMLP,
    GoalCost,
    SpeedCost,
    TransitionEnergy,
    mixture,
)
from ebm_control.energies.base_measure import GaussianBase
from ebm_control.energies.layout import TrajectoryLayout, pick
from ebm_control.energies.noise import AtNoise
from ebm_control.online.exploration.novelty import NoveltyCost

LAYOUT = TrajectoryLayout(2, 1)
X = torch.arange(24.0).reshape(2, 4, 3)
WRONG = {
    "too large": [3],
    "far too large": [0, 7],
    "negative": [-1],
    "twice": [1, 1],
    "none": [],
    "a flag": [True],
    "a float": [1.0],
}
BOX = torch.tensor([[[0.0], [1.0]]])


def bounds(index: list[int]) -> Energy:
    return BoundCost(torch.zeros(len(index)), torch.ones(len(index)), index)


def boxes(index: list[int]) -> Energy:
    return BoxObstacle(torch.stack([torch.zeros(1, len(index)), torch.ones(1, len(index))], dim=1), index)


@pytest.mark.parametrize("index", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("make", [bounds, boxes], ids=["bounds", "boxes"])
def test_costs_on_coordinates_that_do_not_exist_are_refused(
    make: Callable[[list[int]], Energy], index: list[int]
) -> None:
    with pytest.raises(InputError, match=r"^index: expected coordinates .*, got "):
        make(index)(X)


@pytest.mark.parametrize("index", [*WRONG.values(), [2]])
@pytest.mark.parametrize("kind", [GoalCost, NoveltyCost])
def test_goals_and_places_are_of_observations(kind: type, index: list[int]) -> None:
    with pytest.raises(
        InputError, match=r"^index: expected coordinates in 0\.\.1, at least one and each once"
    ):
        kind(LAYOUT, index, **({"width": 0.1} if kind is NoveltyCost else {}))


@pytest.mark.parametrize("index", WRONG.values(), ids=WRONG)
def test_coordinates_are_checked_where_they_are_read(index: list[int]) -> None:
    with pytest.raises(
        InputError, match=r"^index: expected coordinates in 0\.\.2, at least one and each once"
    ):
        pick(X, index)


def test_coordinates_that_exist_are_read_in_their_order() -> None:
    assert torch.equal(pick(X, [2, 0]), X[..., [2, 0]])
    assert torch.equal(pick(X, range(1, 3)), X[..., 1:])


def test_the_check_of_coordinates_compiles_whole_and_is_made_there_too() -> None:
    compiled = torch.compile(lambda x: pick(x, [0, 2]), fullgraph=True, backend="eager")
    assert torch.equal(compiled(X), X[..., [0, 2]])
    with pytest.raises(Exception, match="index: expected coordinates"):
        torch.compile(lambda x: pick(x, [0, 7]), fullgraph=True, backend="eager")(X)


ENERGY = GoalCost(LAYOUT, [0])
NOT_FIGURES = {
    "factor": lambda bad: ENERGY * bad,
    "temperature": ENERGY.at,
    "weights": lambda bad: mixture([ENERGY, ENERGY], [1.0, bad]),
    "smooth": lambda bad: GoalCost(LAYOUT, [0], smooth=bad),
    "margin": lambda bad: BoxObstacle(BOX, [0], margin=bad),
    "floor": lambda bad: NoveltyCost(LAYOUT, [0], 0.1, floor=bad),
    "repetition": lambda bad: NoveltyCost(LAYOUT, [0], 0.1, repetition=bad),
    "std": lambda bad: GaussianBase(2, bad),
    "level": lambda bad: AtNoise(ENERGY, bad),
    "bandwidth": lambda bad: FourierMLP(2, features=2, bandwidth=bad),
    "periods": lambda bad: TrajectoryLayout(2, periods=(0.0, bad)),
    "noise": lambda bad: TransitionEnergy(LAYOUT, noise=(0.1, bad)),
    "goal": lambda bad: ENERGY.set_goal(torch.tensor([bad])),
}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NOT_FIGURES)
def test_figures_that_are_none_are_refused_and_named(name: str, bad: float) -> None:
    with pytest.raises(InputError, match=rf"^{name}: expected "):
        NOT_FIGURES[name](bad)


@pytest.mark.parametrize("hidden", [(0,), (-4,), (8.0,), (True,), 8])
def test_widths_are_whole_and_positive(hidden: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^hidden: expected "):
        MLP(2, hidden)


@pytest.mark.parametrize(
    ("low", "high"),
    [([math.nan], [1.0]), ([0.0], [math.nan]), ([math.inf], [math.inf]), ([-math.inf], [-math.inf])],
)
def test_bounds_that_are_none_are_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(InputError, match=r"^low: expected at most high"):
        BoundCost(torch.tensor(low), torch.tensor(high), [0])
    with pytest.raises(InputError, match=r"^boxes: expected "):
        BoxObstacle(torch.tensor([[low, high]]), [0])


def test_bounds_may_be_missing_on_one_side() -> None:
    cost = BoundCost(torch.tensor([-math.inf]), torch.tensor([1.0]), [0])
    assert torch.isfinite(cost(X)).all()
    assert torch.isfinite(BoxObstacle(torch.tensor([[[-math.inf], [1.0]]]), [0])(X)).all()
    with pytest.raises(InputError, match=r"^boxes: expected a finite side of each"):
        BoxObstacle(torch.tensor([[[-math.inf], [math.inf]]]), [0])


@pytest.mark.parametrize("limit", [math.nan, -1.0])
def test_speed_limits_are_of_at_least_0(limit: float) -> None:
    with pytest.raises(InputError, match=r"^limit: expected "):
        SpeedCost(LAYOUT, torch.tensor([1.0, limit]))


def unlimited() -> Tensor:
    return SpeedCost(LAYOUT, torch.tensor([math.inf, math.inf]))(X)


def test_an_infinite_limit_of_speed_is_none() -> None:
    assert torch.equal(unlimited(), torch.zeros(2))
