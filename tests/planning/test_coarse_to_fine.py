import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.planning import CoarseToFine, Planner
from ebm_control.planning.plan import bridged, refined
from tests.planning.helpers import DESCENT, LAYOUT, drive, goal_cost, particle_energy, seeded


def stage(gap_log2, horizon, chains=4, context=True):
    """Planner in the exact energy of a gap, its clamp the particle's largest mean action."""
    bound = (float("inf"), float("inf"), 3**0.5, 3**0.5)
    sampler = DESCENT.__class__(
        150,
        DESCENT.step_size,
        noise=0.0,
        adapt="rms",
        scale=DESCENT.scale,
        clamp=(tuple(-b for b in bound), bound),
    )
    return Planner(
        particle_energy(context_dim=1),
        sampler,
        horizon,
        goal_cost(),
        layout=LAYOUT,
        weight=0.1,
        chains=chains,
        spread=0.1,
        context=torch.tensor([float(gap_log2)]),
    )


def test_coarse_stages_plan_far_and_fine_ones_arrive():
    planner = CoarseToFine([(4, stage(2, 5)), (1, stage(0, 20, chains=2))])
    start, goal = torch.tensor([[0.0, 0.0], [0.4, 0.2]]), torch.tensor([[1.0, -0.6], [-0.4, 0.9]])
    plan = planner.plan(start, goal, generator=seeded())
    assert plan.chains.shape == (2, 2, 21, 4)
    assert torch.equal(plan.chains[:, :, 0, :2], start[:, None].expand(-1, 2, -1))
    for i in range(2):
        assert (plan.states[i, -1] - goal[i]).abs().sum() < 0.1
        assert (drive(plan, 0.5 * start[i].numpy(), problem=i)[-1] - 0.5 * goal[i]).abs().sum() < 0.15
    again = planner.plan(start, goal, generator=seeded())
    assert torch.equal(plan.chains, again.chains)


def test_time_gap_reaches_the_energy():
    """In one coarse row the particle goes as far as in four fine ones."""
    far = {
        gap: stage(gap, 1).plan(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), generator=seeded())
        for gap in (0, 2)
    }
    reach = {gap: plan.states[0, 1, 0] for gap, plan in far.items()}
    assert reach[2] > 2.5 * reach[0]


def test_refined_chains_interpolate_states_and_hold_actions():
    chains = torch.randn(3, 5, 4, generator=seeded())
    fine = refined(chains, 4, LAYOUT)
    assert fine.shape == (3, 17, 4)
    assert torch.equal(fine[:, ::4, :2], chains[..., :2])
    assert torch.allclose(fine[:, 2, :2], (chains[:, 0, :2] + chains[:, 1, :2]) / 2)
    for k in range(4):
        assert torch.equal(fine[:, k:16:4, 2:], chains[:, :4, 2:])


def test_periodic_coordinates_are_refined_the_shorter_way_round():
    layout = TrajectoryLayout(2, periods=(2.0, 0.0))
    chains = torch.tensor([[[0.9, 0.9], [-0.9, -0.9]]])
    fine = refined(chains, 4, layout)
    steps = layout.difference(fine[:, 1:], fine[:, :-1])
    assert torch.allclose(steps[..., 0], torch.tensor(0.05))
    assert torch.allclose(steps[..., 1], torch.tensor(-0.45))
    line = bridged(chains[:, 0], chains[:, 1], 5, layout)
    assert torch.allclose(layout.difference(line, fine), torch.zeros(()), atol=1e-6)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "stages: expected at least one"),
        ([(4, 5, 4), (3, 20, 4)], "stages: expected gaps that divide the one before, got gap 3 after 4"),
        ([(4, 5, 4), (4, 5, 4)], "got gap 4 after 4"),
        ([(4, 5, 4), (1, 10, 4)], "stages: expected horizon 20, to span the same 20 steps, got horizon 10"),
        ([(4, 5, 4), (1, 20, 8)], "stages: expected no more than the first stage's 4, got 8 chains"),
    ],
)
def test_stages_that_do_not_fit_are_refused(stages, message):
    with pytest.raises(InputError, match=message):
        CoarseToFine([(gap, stage(0, horizon, chains)) for gap, horizon, chains in stages])
