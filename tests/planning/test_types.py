"""Starts and goals of every type, and torch set up otherwise."""

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.samplers import MALA, MPPI, Langevin
from tests.helpers import FORMS, seeded
from tests.planning.helpers import goal_cost, particle_model, plain_planner


@pytest.mark.parametrize("form", FORMS)
def test_starts_and_goals_of_any_type_are_planned_alike(form):
    start, goal = torch.tensor([[0.5, -0.25], [0.0, 1.0]]), torch.tensor([[0.25, 0.5], [-1.0, 0.0]])
    planner = plain_planner(Langevin(5, 0.001), 4)
    expected = planner.plan(start, goal, generator=seeded())
    found = planner.plan(FORMS[form](start), FORMS[form](goal), generator=seeded())
    assert found.chains.dtype == torch.float32
    assert torch.equal(found.chains, expected.chains)
    one = planner.plan(FORMS[form](start), FORMS[form](goal)[0], generator=seeded())
    assert torch.equal(one.chains, planner.plan(start, goal[0], generator=seeded()).chains)


def test_whole_numbers_are_planned_from_as_floats():
    planner = plain_planner(Langevin(2, 0.001), 4)
    start, goal = torch.tensor([[0, 1]]), torch.tensor([1, 0])
    found = planner.plan(start, goal, generator=seeded()).chains
    assert torch.equal(found, planner.plan(start.float(), goal.float(), generator=seeded()).chains)


def test_plans_come_in_the_energy_s_precision():
    planner = plain_planner(Langevin(2, 0.001), 4)
    planner.energy.double()
    assert planner.plan(torch.zeros(1, 2), torch.ones(2), generator=seeded()).states.dtype == torch.float64


@pytest.mark.parametrize(
    ("start", "goal", "message"),
    [
        (torch.zeros(2), torch.zeros(2), r"start: expected shape \(any, 2\), got shape \(2,\)"),
        (torch.zeros(1, 3), torch.zeros(2), r"start: expected shape \(any, 2\), got shape \(1, 3\)"),
        ([["a", "b"]], torch.zeros(2), "start: expected"),
        (torch.zeros(1, 2, dtype=torch.complex64), torch.zeros(2), "start: expected real numbers"),
        (torch.zeros(1, 2), torch.zeros(3), r"goal: expected shape \(1, 2\), got shape \(1, 3\)"),
        (torch.zeros(4, 2), torch.zeros(3, 2), r"goal: expected shape \(4, 2\), got shape \(3, 2\)"),
        (torch.zeros(1, 2), None, r"goal: expected shape \(N, 2\).*got None"),
        (torch.zeros(1, 2), [None, 1.0], "goal: expected"),
        (np.array([[np.nan, 0.0]]), torch.zeros(2), "start: expected finite values only, got 1"),
        (torch.full((1, 2), torch.inf), torch.zeros(2), "start: expected finite values only, got 2"),
        (torch.zeros(1, 2), torch.full((2,), torch.nan), "goal: expected finite values only, got 2"),
    ],
)
def test_starts_and_goals_that_do_not_fit_are_one_line(start, goal, message):
    with pytest.raises(InputError, match=rf"^{message}") as caught:
        plain_planner(Langevin(2, 0.001), 4).plan(start, goal)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("sampler", [Langevin(3, 0.001), MPPI(2, 8)])
def test_plans_are_the_same_in_every_mode_of_torch(mode, sampler):
    start, goal = torch.tensor([[0.5, -0.2]]), torch.tensor([0.3, 0.4])

    def twice():
        planner, generator = plain_planner(sampler, 4), seeded()
        first = planner.plan(start + 0, goal + 0, generator=generator)
        return planner, planner.plan(start + 0, goal + 0, warm=first, generator=generator)

    _, expected = twice()
    with mode():
        planner, found = twice()
    assert torch.equal(found.chains, expected.chains)
    planner.plan(start, goal, warm=found)  # and goes on outside


def test_plans_do_not_depend_on_the_default_dtype():
    start, goal = torch.tensor([[0.5, -0.2]]), torch.tensor([0.3, 0.4])
    expected = plain_planner(Langevin(3, 0.001), 4).plan(start, goal, generator=seeded())
    torch.set_default_dtype(torch.float64)
    try:
        found = plain_planner(Langevin(3, 0.001), 4).plan(start, goal, generator=seeded())
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found.chains, expected.chains)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sampler", [0, 1.5, True, ["mppi"], b"mppi", "", "nothing", float("nan"), MALA(3)]),
        ("chains", [0, -1, 1.5, [], "three", float("inf"), True, 2**70]),
        ("horizon", [0, 1.5, [], None, True]),
        ("shooting", ["no", 1, []]),
        ("action_space", [1.0, (-1, 1), "box"]),
        ("weight", [-1.0, float("nan"), "x"]),
    ],
)
def test_settings_of_a_planner_that_make_no_sense_are_named(name, values):
    for value in values:
        with pytest.raises(InputError, match=rf"^{name}: expected") as caught:
            planner_for(particle_model(), goal_cost(), **{"horizon": 3, name: value})
        assert "\n" not in str(caught.value)
