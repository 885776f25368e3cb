"""Plans that begin with the rollouts of a policy, and energies of trajectories that the base itself predicted."""

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.models import ModelSettings, TrajectoryModel
from ebm_control.planning import Planner
from ebm_control.planning.shooting import AlongMean, ExpectedDynamics, RolledOut
from ebm_control.samplers import MPPI
from tests.helpers import normal
from tests.planning.helpers import LAYOUT, NORMALIZER, SPACE, goal_cost, particle_energy

NONE = MPPI(0, 2)


def back(states, generator=None):
    """Towards the origin, by a third of the state; with noise if there is a generator."""
    actions = -states / 3
    return actions if generator is None else actions + torch.randn(actions.shape, generator=generator)


def planner(chains=3, restarts=2 / 3, **given):
    dynamics = ExpectedDynamics(particle_energy())
    return Planner(
        None,
        NONE,
        4,
        goal_cost(),
        layout=LAYOUT,
        chains=chains,
        restarts=restarts,
        dynamics=dynamics,
        policy=back,
        **given,
    )


def test_new_chains_are_rollouts_of_the_policy():
    start = normal(2, 2, dtype=torch.float32)
    plan = planner().plan(start, torch.zeros(2, 2), generator=torch.Generator().manual_seed(0))
    states, actions = LAYOUT.states(plan.chains), LAYOUT.actions(plan.chains)
    torch.testing.assert_close(actions[:, 0], back(states[:, 0]))  # the first without noise
    assert float((actions[:, 1:] - back(states[:, 1:])).std()) > 0.5
    moved = ExpectedDynamics(particle_energy()).rollout(plan.chains.flatten(0, 1))[:, 0]
    torch.testing.assert_close(moved, plan.chains.flatten(0, 1))


def test_a_warm_plan_keeps_its_best_chain_and_takes_the_policys_mean_beside_it():
    start = normal(2, 2, dtype=torch.float32)
    made = planner()
    plan = made.plan(start, torch.zeros(2, 2), generator=torch.Generator().manual_seed(0))
    here = plan.states[:, 1]
    again = made.plan(here, torch.zeros(2, 2), warm=plan, generator=torch.Generator().manual_seed(1))
    best = plan.chains[torch.arange(2), plan.energies.argmin(dim=1)]
    torch.testing.assert_close(LAYOUT.actions(again.chains)[:, 0, :3], LAYOUT.actions(best)[:, 1:4])
    states, actions = LAYOUT.states(again.chains), LAYOUT.actions(again.chains)
    torch.testing.assert_close(actions[:, 1], back(states[:, 1]))


def test_a_policy_without_dynamics_is_refused():
    with pytest.raises(InputError, match=r"^policy: expected dynamics or rollouts"):
        Planner(particle_energy(), NONE, 4, goal_cost(), layout=LAYOUT, policy=back)


def test_along_its_own_mean_only_the_tilt_of_an_energy_counts():
    model = TrajectoryModel.create(ModelSettings(hidden=(16,), base_hidden=(16,)), NORMALIZER, torch.ones(2))
    with torch.no_grad():
        for weights in model.energy.parameters():
            weights.copy_(0.5 * normal(*weights.shape, dtype=torch.float32))
    energy, dynamics = model.energy, ExpectedDynamics(model.energy)
    x = normal(6, 5, LAYOUT.dim, dtype=torch.float32)
    whole, short = (RolledOut(one, dynamics)(x) for one in (energy, AlongMean(energy)))
    assert float(whole.std()) > 0.1
    torch.testing.assert_close(short, whole, rtol=1e-4, atol=1e-3)
    assert isinstance(
        planner_for(model, goal_cost(), 4, sampler="mppi", action_space=SPACE).energy, RolledOut
    )
