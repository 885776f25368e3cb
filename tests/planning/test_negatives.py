import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.data import collect, window_batches
from ebm_control.data.batch import Batch
from ebm_control.energies import GoalCost
from ebm_control.models import ModelSettings, TrainSettings, fit_model
from ebm_control.planning import PlannedNegatives, Planner
from ebm_control.samplers import Langevin
from tests.helpers import seeded
from tests.planning.helpers import LAYOUT, plain_planner

PLANNER = plain_planner(Langevin(0), 6, chains=2)


def batch(count=32, seed=0):
    return Batch(torch.randn(count, 2, 4, generator=seeded(seed)))


def in_data(rows, x):
    return (rows[:, None] == x[:, 0, :2]).all(dim=-1).any(dim=1)


def test_negatives_are_windows_of_plans_between_data_states():
    seen = []

    class Watched(Planner):
        def plan(self, start, goal=None, **given):
            plan = super().plan(start, goal, **given)
            seen.append((start, goal, plan))
            return plan

    planner = Watched(PLANNER.energy, Langevin(0), 6, GoalCost(LAYOUT, (0, 1)), layout=LAYOUT, chains=2)
    negatives = PlannedNegatives(planner, count=500, every=5, problems=8)
    x = negatives(0, batch()).x
    start, goal, plan = seen[0]
    assert x.shape == (500, 2, 4)
    assert in_data(start, batch().x).all()
    assert in_data(goal, batch().x).all()
    assert not (start == goal).all(dim=1).any()
    windows = torch.cat([plan.chains[:, :, t : t + 2].flatten(0, 1) for t in range(6)])
    drawn = (x[:, None] == windows).flatten(2).all(dim=-1)
    assert (drawn.sum(dim=1) >= 1).all()
    assert drawn.any(dim=0).float().mean() > 0.9  # 500 draws of 96 windows
    for step in range(1, 11):
        negatives(step, batch(seed=step))
    assert len(seen) == 3  # at 0, 5 and 10


def test_small_batches_do_not_plan_from_a_state_to_itself():
    starts = []
    negatives = PlannedNegatives(plain_planner(Langevin(0), 3, chains=1), problems=16)
    negatives(0, batch(16))
    for cost in negatives.planner.goal_costs:
        starts.append((cost.goal == negatives._windows[:16, 0, :2]).all())
    assert not any(starts)


def test_a_resumed_source_gives_the_same_negatives():
    first, second = (PlannedNegatives(PLANNER, count=20, every=3, problems=4, seed=7) for _ in range(2))
    for step in range(4):
        first(step, batch(seed=step))
    state = {name: value.clone() for name, value in first.state_dict().items()}
    expected = [first(step, batch(seed=step)).x for step in range(4, 9)]
    second(0, batch(seed=99))
    second.load_state_dict(state)
    assert all(
        torch.equal(second(step, batch(seed=step)).x, x)
        for step, x in zip(range(4, 9), expected, strict=True)
    )


@pytest.mark.parametrize("given", [{"count": 0}, {"every": 0}])
def test_counts_of_no_sense_are_refused(given):
    with pytest.raises(InputError, match="expected at least 1, got 0"):
        PlannedNegatives(PLANNER, **given)


@pytest.fixture(scope="module")
def rollouts():
    return collect("ebm/Particle-v0", 2000, progress=False, starts=lambda rng: {"start": "random"})


def planned_for(model, **given):
    cost = 20 * GoalCost(model.layout, (0, 1), smooth=0.02)
    planner = planner_for(model, cost, 6, sampler=Langevin(20, 0.1, noise=0.0, adapt="rms"), chains=2)
    return PlannedNegatives(planner, **{"count": 128, "every": 5, "problems": 16} | given)


@pytest.mark.slow
def test_training_on_plans_raises_their_energy(rollouts):
    kind = ModelSettings(base="gaussian", hidden=(32, 32))
    settings = TrainSettings(kind, updates=150, langevin_steps=5, learning_rate=2e-3, ema=0, energy_l2=0.01)
    gap = {}
    for planned in (None, planned_for):
        model = fit_model(rollouts, settings, progress=False, extra_negatives=planned)
        data = next(window_batches(rollouts, model.normalizer, 512)).x
        if planned is None:  # the holes that a planner finds in the energy trained without
            plans = planned_for(model, count=512)(0, Batch(data)).x
            assert model.energy.base is not None
        with torch.no_grad():
            gap[planned] = (model.energy(plans) - model.energy(data)).mean()
    assert gap[None] < -0.1  # a hole: plans seem likelier than data
    assert gap[planned_for] > gap[None] + 0.2


def test_energies_with_a_time_gap_take_planned_negatives(rollouts):
    kind = ModelSettings(gaps=(1, 4), hidden=(16,), base_hidden=(16,))
    settings = TrainSettings(kind, updates=6, base_updates=20, langevin_steps=2)
    model = fit_model(rollouts, settings, progress=False, extra_negatives=planned_for)
    outcome = model.training
    assert outcome.updates == 6
    given = planned_for(model, count=7)(0, next(window_batches(rollouts, model.normalizer, 64, gaps=(1, 4))))
    assert given.context.shape == (7, 1)
    assert np.array_equal(given.context.numpy(), np.zeros((7, 1)))
