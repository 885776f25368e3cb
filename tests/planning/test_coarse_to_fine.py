import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.energies import BoxObstacle, GaussianBase, GoalCost, TrajectoryLayout, TransitionEnergy
from ebm_control.planning import CoarseToFine, Planner
from ebm_control.planning.plan import bridged, refined
from ebm_control.samplers import Langevin, Linear
from tests.helpers import Zero, seeded
from tests.planning import walls
from tests.planning.helpers import DESCENT, LAYOUT, drive, goal_cost, particle_energy
from tests.planning.walls import WALL, crosses

LEFT, RIGHT = torch.tensor([[-0.7, -0.6]]), torch.tensor([[0.7, -0.6]])


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


def walled(gap, horizon, chains, costs=None):
    """Stage between two points, across a wall: only curves that go high enough pass."""
    base = GaussianBase(2, 1.0)
    energy = TransitionEnergy(walls.LAYOUT, Zero(), base=base, displacement_scale=gap * walls.STEP)
    wall = 100 * BoxObstacle(WALL[None], (0, 1), margin=0.05, between=7)
    descent = Langevin(80, Linear(0.1, 0.01), noise=0.0, adapt="rms", scale=(0.3, 0.3))
    goal = {"goal_index": (0, 1), "fix_goal": True} if costs is None else {"costs": costs}
    planner = Planner(energy + wall, descent, horizon, layout=walls.LAYOUT, chains=chains, spread=1.0, **goal)
    return gap, planner


@pytest.mark.parametrize("seed", range(3))
def test_routes_go_round_a_wall_that_the_finest_stage_alone_runs_into(seed):
    stages = [walled(16, 4, 64), walled(4, 16, 8), walled(1, 64, 2)]
    route = CoarseToFine(stages).routes(LEFT, RIGHT, seeded(seed))
    assert route.shape == (1, 65, 2)
    assert torch.equal(route[:, [0, -1]], torch.stack([LEFT, RIGHT], dim=1))
    assert not crosses(route[0])
    # Finer stages do not only fill in: they shorten what the coarse one left.
    coarse = CoarseToFine(stages[:1]).routes(LEFT, RIGHT, seeded(seed))
    assert length(route[0]) < length(coarse[0])
    assert crosses(CoarseToFine(stages[-1:]).routes(LEFT, RIGHT, seeded(seed))[0])


def length(points):
    return float((points[1:] - points[:-1]).norm(dim=-1).sum())


def test_each_problem_gets_a_route_from_its_start_to_its_goal():
    starts, goals = torch.cat([LEFT, RIGHT, -RIGHT]), torch.cat([RIGHT, LEFT, -LEFT])
    guide = CoarseToFine([walled(4, 4, 64), walled(1, 16, 8)])
    routes = guide.routes(starts, goals, seeded())
    assert torch.equal(routes[:, 0], starts)
    assert torch.equal(routes[:, -1], goals)
    assert not any(crosses(route) for route in routes)
    assert torch.equal(routes, guide.routes(starts, goals, seeded()))


def test_a_goal_that_is_a_cost_ends_the_route_besides():
    cost = 5 * GoalCost(walls.LAYOUT, (0, 1), smooth=0.02)
    route = CoarseToFine([walled(4, 2, 4, cost), walled(1, 8, 2, cost)]).routes(LEFT, LEFT + 0.5, seeded())
    assert route.shape == (1, 10, 2)
    assert torch.equal(route[:, -1], LEFT + 0.5)
    assert (route[:, -2] - route[:, -1]).norm() < 0.1


def test_goals_name_only_some_coordinates():
    _, free = walled(4, 4, 8)
    base = {"layout": walls.LAYOUT, "chains": 8, "spread": 0.1, "goal_index": (1,), "fix_goal": True}
    guide = CoarseToFine([(1, Planner(free.energy, free.sampler, 4, **base))])
    route = guide.routes(LEFT, torch.tensor([[9.0, 0.4]]), seeded())
    assert route[0, -1, 1] == torch.tensor(0.4)
    assert abs(float(route[0, -1, 0]) + 0.7) < 0.1


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
        ([(4, 5, 4), (1, 20, 8)], "stages: expected no more than the 4 at gap 4, got 8 chains"),
        ([(4, 5, 4), (2, 10, 2), (1, 20, 4)], "stages: expected no more than the 2 at gap 2, got 4 chains"),
    ],
)
def test_stages_that_do_not_fit_are_refused(stages, message):
    with pytest.raises(InputError, match=message):
        CoarseToFine([(gap, stage(0, horizon, chains)) for gap, horizon, chains in stages])


def test_other_bad_input_is_named():
    speed = Planner(particle_energy(), DESCENT, 20, layout=LAYOUT)
    with pytest.raises(InputError, match="stages: expected planners with a goal"):
        CoarseToFine([(1, speed)])
    with pytest.raises(InputError, match=r"stages: expected .*obs_dim=2, act_dim=2.* as in the first"):
        CoarseToFine([(4, stage(0, 4)), walled(1, 16, 2)])
    guide = CoarseToFine([walled(1, 4, 2)])
    with pytest.raises(InputError, match="start"):
        guide.routes(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(InputError, match="goal"):
        guide.routes(LEFT, RIGHT.expand(2, -1))
