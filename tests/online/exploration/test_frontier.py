import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.online import FrontierGoals
from ebm_control.online.exploration.occupancy import Occupancy
from ebm_envs.point import segments_blocked

WIDTH = 0.14
FIRST, LATER = np.array([True]), np.array([False])


def apart(a, b):
    """Distances `(len(a), len(b))` in widths."""
    return np.linalg.norm(np.atleast_2d(a)[:, None] - np.atleast_2d(b)[None], axis=-1) / WIDTH


def explorer(**given):
    return FrontierGoals(2, (0, 1), WIDTH, **{"low": -1, "high": 1} | given)


def walk(goals, env, here, steps, deaf=False):
    """Places `(steps + 1, N, 2)` of points that head straight for their goals, and the goals `(steps, N, 2)`."""
    path, set_ = [here], []
    for t in range(steps):
        set_.append(goals(path[-1], np.full(len(here), t == 0)))
        path.append(path[-1] if deaf else env.dynamics(path[-1], set_[-1] - path[-1]))
    return np.stack(path), np.stack(set_)


@pytest.fixture(scope="module")
def maze():
    env = gym.make("ebm/Maze-v0").unwrapped
    env.reset()
    return env


@pytest.fixture(scope="module")
def plane():
    env = gym.make("ebm/Particle-v0").unwrapped
    env.reset()
    return env


def test_goals_lie_next_to_visited_places_and_are_new(plane):
    goals, here, different = explorer(), np.zeros((1, 2)), set()
    for t in range(100):
        goal = goals(here, np.array([t == 0]))
        away = apart(goal, goals.memory.remembered().numpy()).min()
        assert 0.5 <= away < 2**0.5 + 1e-5
        assert (np.abs(goal) <= 1).all()
        different.add(tuple(goal[0]))
        here = plane.dynamics(here, goal - here)
    assert len(different) > 20


def test_a_goal_stays_until_it_is_reached(plane):
    path, goals = walk(explorer(), plane, np.zeros((1, 2)), 60)
    changed = np.flatnonzero((goals[1:] != goals[:-1]).any(axis=(1, 2)))
    assert len(changed) > 20
    assert all(apart(path[t + 1], goals[t])[0, 0] < 0.5 for t in changed)
    far = explorer()
    first = far(np.zeros((1, 2)), FIRST)
    aside = np.array([[-first[0, 1], first[0, 0]]])  # as far from the goal as the start was, or farther
    assert np.array_equal(far(aside * 2, LATER), first)


def test_environments_side_by_side_head_for_different_places(plane):
    _, goals = walk(explorer(), plane, np.zeros((3, 2)), 80)
    for at_once in goals:
        assert (apart(at_once, at_once) + 9 * np.eye(3)).min() > 0.5


def test_what_one_environment_has_visited_is_no_goal_of_another(plane):
    path, goals = walk(explorer(), plane, np.array([[-0.1, 0.0], [0.1, 0.0]]), 80)
    for t, goal in enumerate(goals[:, 0]):
        assert apart(goal, path[: t + 1, 1]).min() > 0.5 - 0.01


def test_a_goal_that_is_refused_nearby_is_given_up_and_not_set_again():
    goals = explorer(stalled=4)
    _, given = walk(goals, None, np.zeros((1, 2)), 32, deaf=True)
    tried = given[::4, 0]
    assert np.array_equal(tried.repeat(4, axis=0), given[:, 0])
    assert (apart(tried, tried) + 9 * np.eye(8)).min() > 0.5  # the eight places around
    assert not goals.memory.novel(torch.from_numpy(tried[:-1])).any()
    assert goals.memory.count == 8


def test_where_nothing_new_is_left_goals_are_known_places():
    goals = explorer(low=(0, 0), high=(0.15, 0.15), stalled=1)
    _, given = walk(goals, None, np.zeros((1, 2)), 20, deaf=True)
    known = goals.memory.remembered().numpy()
    assert apart(given[-1], known).min() < 1e-3
    assert len(known) == 4


def test_where_nothing_new_is_left_there_are_spells_without_a_goal_where_it_was_least_often(plane):
    box, rng = {"low": (0, 0), "high": (0.45, 0.45)}, np.random.default_rng(0)
    goals = explorer(**box, stalled=2, spell=5)
    goals.memory.visit(torch.from_numpy(rng.uniform(-0.1, 0.55, (3000, 2)).astype(np.float32)))  # all tried
    places = np.array([(0.05 + 0.1 * i, 0.05) for i in range(5)])
    for t, place in enumerate(
        [*places, *places[::-1], *places[:4], *places[3::-1]]
    ):  # the last one only twice
        goals(place[None], np.array([t == 0]))
    here, free, at = places[:1], [], []
    for _ in range(60):
        goal = goals(here, LATER)[0]
        free.append(bool(np.isnan(goal).any()))
        at.append(here[0])
        step = rng.uniform(-0.02, 0.02, 2) if free[-1] else goal - here[0]
        here = plane.dynamics(here, step[None]).clip(0, 0.45)
    spells = "".join("x" if f else "." for f in free).split(".")
    assert {len(spell) for spell in spells[:-1]} == {0, 5}
    starts = [at[t] for t in range(1, 60) if free[t] and not free[t - 1]]
    assert apart(starts[:2], places[-1]).min() < 0.6  # a spell may have been under way before


def test_a_spell_begins_when_everyone_is_there_and_ends_for_all_at_once(plane):
    goals = explorer(low=(0, 0), high=(0.45, 0.45), stalled=2, spell=8)
    goals.memory.visit(torch.cartesian_prod(*[torch.linspace(-0.1, 0.55, 40)] * 2))  # all tried
    for t, x in enumerate(np.linspace(0.05, 0.45, 9)):
        goals(np.array([[x, 0.05], [0.05, x]]), np.full(2, t == 0))
    here, free, rng = np.array([[0.05, 0.05], [0.2, 0.05]]), [], np.random.default_rng(0)
    for _ in range(80):
        goal = goals(here, np.zeros(2, bool))
        free.append(np.isnan(goal).any(axis=1))
        step = np.where(np.isnan(goal), rng.uniform(-0.02, 0.02, (2, 2)), goal - here)
        here = plane.dynamics(here, step).clip(0, 0.45)
    together, ends = np.array(free).all(axis=1), np.diff(np.array(free).astype(int), axis=0) == -1
    assert together.sum() >= 16
    assert (ends[:, 0] == ends[:, 1]).all()
    assert ends.any()


def test_a_goal_given_up_from_afar_stays_new(plane):
    goals, env = explorer(patience=5, reach=0.6), plane
    _, first = walk(goals, env, np.zeros((1, 2)), 1)
    side = np.array([0.12, -0.12]) if first[0, 0, 0] < 0 else np.array([-0.12, 0.12])
    places = [np.sign(np.sin(t)) * side / 2 - 0.5 * first[0] for t in range(8)]  # to and fro, never nearer
    later = [goals(place, LATER) for place in places]
    assert np.array_equal(later[3], first[0])
    assert not np.array_equal(later[-1], first[0])
    assert goals.memory.novel(torch.from_numpy(first[0])).all()


def test_the_way_to_a_goal_far_off_is_one_that_was_gone():
    goals, up = explorer(), np.linspace(0, 0.7, 11)
    there = [(0.0, y) for y in up] + [(x, 0.7) for x in up[1:6]] + [(0.35, y) for y in up[-2::-1]]
    for t, place in enumerate(there):
        goals(np.array([place]), np.array([t == 0]))
    new = np.array(
        [-WIDTH, 0.0], np.float32
    )  # beside where it began: 3.5 widths away, the way there is 12 long
    rest = goals._candidates[apart(goals._candidates, new)[:, 0] > 0.6]
    goals.memory.visit(torch.from_numpy(rest))
    heading = goals(np.array([there[-1]]), LATER)
    assert apart(heading, there).min() < 0.5
    assert heading[0, 0] == pytest.approx(0.35)
    assert 0.1 < heading[0, 1] < 0.5
    for place in there[::-1]:
        last = goals(np.array([place]), LATER)
    assert apart(last, new)[0, 0] < 0.6


@pytest.mark.slow
def test_nearly_all_of_the_maze_is_covered_by_a_team(maze):
    goals, grid = explorer(stalled=2), Occupancy([-1, -1], [1, 1], 20)
    free = ~segments_blocked(grid.centres, grid.centres, maze.walls)
    path, _ = walk(goals, maze, np.array([[-0.85, -0.85]] * 4), 500)
    grid.visit(path.reshape(-1, 2))
    assert grid.fraction(free) >= 0.93


def test_after_so_many_calls_the_environments_own_goals_are_left_alone():
    goals = explorer(until=3)
    given = [goals(np.zeros((2, 2)), np.array([t == 0] * 2)) for t in range(5)]
    assert [goal is None for goal in given] == [False, False, False, True, True]


def test_goals_name_the_chosen_coordinates_and_keep_within_the_bounds_there_are():
    goals = FrontierGoals(4, (2, 0), WIDTH, low=(0.3, -np.inf))
    given = np.stack([goals(np.array([[0.5, 9.0, 0.3, 9.0]]), FIRST if t == 0 else LATER) for t in range(40)])
    assert given.shape == (40, 1, 2)
    assert given[..., 0].min() >= 0.3 - 1e-6
    assert apart(given[0], [0.3, 0.5])[0, 0] < 1.5
    assert given[..., 1].min() < 0.5 - 0.9 * WIDTH


def test_equal_seeds_give_equal_goals(plane):
    walks = [walk(explorer(seed=seed), plane, np.zeros((2, 2)), 50)[1] for seed in (0, 0, 1)]
    assert np.array_equal(walks[0], walks[1])
    assert not np.array_equal(walks[0], walks[2])


@pytest.mark.slow
def test_the_maze_is_covered_far_faster_than_at_random(maze):
    start = np.array([[-0.85, -0.85]])
    grid = Occupancy([-1, -1], [1, 1], 20)
    free = ~segments_blocked(grid.centres, grid.centres, maze.walls)
    grid.visit(walk(explorer(), maze, start, 1500)[0][:, 0])
    rng, here, chance = np.random.default_rng(0), start, Occupancy([-1, -1], [1, 1], 20)
    for _ in range(4500):
        chance.visit(here)
        here = maze.dynamics(here, rng.uniform(-0.05, 0.05, (1, 2)))
    assert grid.fraction(free) > 0.85
    assert chance.fraction(free) < 0.6  # in three times the steps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 0}, "patience: expected at least 1 step, got 0"),
        ({"stalled": 0}, "stalled: expected at least 1 step, got 0"),
        ({"reach": 0.0}, "reach: expected a positive number of widths, got 0"),
        ({"low": (0, 0, 0)}, r"low: expected one number, or one for each of 2 coordinates, got shape \(3,\)"),
        ({"spell": -1}, "spell: expected 0 or more steps, got -1"),
        ({"capacity": 0}, "capacity: expected a whole number of at least 1, got 0"),
    ],
)
def test_settings_of_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        explorer(**settings)


def test_observations_of_another_width_are_refused():
    with pytest.raises(InputError, match="observations: expected shape"):
        explorer()(np.zeros((2, 3)), np.ones(2, bool))
