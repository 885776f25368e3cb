"""`ebm/Fork-v0`: its interface, its chances against the true simulator, its lanes, and its errors."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.stats import chisquare
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from ebm_envs.fork import (
    FORKS,
    JUMPS,
    NOISE,
    STEP,
    lane_centres,
    mode_of,
    mode_probabilities,
    transition,
)

RNG = np.random.default_rng(0)
LANES = np.array([-0.7, -0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 0.7])


@pytest.fixture
def env():
    return gym.make("ebm/Fork-v0").unwrapped


def simulated(sequences: np.ndarray, seed: int, start=None) -> np.ndarray:
    """States (N, T + 1, 2) under action sequences (N, T), all drawn at once."""
    generator = np.random.default_rng(seed)
    first = generator.normal((-1, 0), NOISE, size=(len(sequences), 2))
    states = [first if start is None else np.broadcast_to(start, first.shape)]
    for actions in sequences.T:
        states.append(transition(states[-1], actions[:, None], generator))
    return np.stack(states, axis=1)


def agreement(modes: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of the chi-square test of lanes seen (N,) against their probabilities (lanes,)."""
    expected = probabilities * len(modes)
    assert expected.min() > 5  # the test's own condition
    return chisquare(np.bincount(modes, minlength=len(expected)), expected).pvalue


def test_gymnasium_finds_no_fault():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*check the environment.*")
        check_env(gym.make("ebm/Fork-v0", render_mode="rgb_array").unwrapped)


def test_stable_baselines3_finds_no_fault(env):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        sb3_check_env(env)


def test_episodes_are_cut_after_20_steps():
    env = gym.make("ebm/Fork-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(20)]
    assert ends == [(False, False)] * 19 + [(False, True)]


def test_equal_seeds_give_equal_rollouts(env):
    def rollout(seed):
        observations = [env.reset(seed=seed)[0]]
        return np.stack(observations + [env.step(np.zeros(1))[0] for _ in range(20)])

    first, again, other = rollout(3), rollout(3), rollout(4)
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_the_reward_is_the_new_y_and_observations_are_the_callers_own(env):
    observation, info = env.reset(seed=0)
    assert info == {}
    observation[:] = 9
    observation, reward, *_, info = env.step(np.zeros(1))
    assert reward == observation[1]
    assert info == {}
    assert np.abs(observation - [-0.9, 0]).max() < 0.05


def test_a_start_is_taken_exactly_and_for_one_episode(env):
    usual, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.reset(options={"start": (0.5, 0.33)})[0], [0.5, 0.33])
    np.testing.assert_array_equal(env.reset(seed=0)[0], usual)


def test_the_step_that_crosses_a_fork_is_never_in_doubt():
    x = simulated(np.zeros((4000, 20)), seed=0)[..., 0]
    np.testing.assert_allclose(x.mean(axis=0), -1 + STEP * np.arange(21), atol=5e-4)
    # Every episode has its n-th fork between the same two steps; the noise of 14 is far from half a step.
    forks = np.repeat([0, 1, 2, 3], [4, 5, 5, 7])
    np.testing.assert_array_equal((x[..., None] > FORKS).sum(axis=-1), np.broadcast_to(forks, x.shape))
    assert 6 * NOISE[0] * np.sqrt(14) < STEP / 2


@pytest.mark.parametrize("offset", np.linspace(0, STEP, 9))
def test_every_fork_is_crossed_once_even_from_starts_close_to_one(offset):
    states = simulated(np.zeros((500, 18)), seed=1, start=(-1 + offset, 0.0))
    turns = np.abs(np.diff(states[..., 1])) > 0.05
    crossings = (states[:, :-1, :1] < FORKS) & (states[:, 1:, :1] >= FORKS)
    np.testing.assert_array_equal(turns, crossings.any(axis=-1))
    np.testing.assert_array_equal(turns.sum(axis=1), 3)


def test_points_stay_in_their_lane_and_noise_does_not_add_up():
    states = simulated(np.zeros((4000, 20)), seed=2)
    modes = mode_of(states)
    assert (modes >= 0).all()
    for forks, step in enumerate([3, 8, 13, 20]):
        assert set(modes[:, step]) == set(range(2**forks))
        offset = states[:, step, 1] - lane_centres(forks)[modes[:, step]]
        assert offset.std() == pytest.approx(NOISE[1] / np.sqrt(0.75), rel=0.08)  # of y' = y / 2 + noise
    assert (modes[:, 14:] == modes[:, 14:15]).all()


def test_a_point_off_its_lane_comes_back_by_halves(env):
    env.reset(seed=0, options={"start": (0.5, 0.38)})  # the nearest lane is that of 0.3
    ys = [env.step(np.zeros(1))[1] for _ in range(6)]
    np.testing.assert_allclose(ys, 0.3 + 0.08 / 2.0 ** np.arange(1, 7), atol=0.025)


def test_the_road_ends_inside_the_observation_space(env):
    env.reset(seed=0, options={"start": env.observation_space.high})
    assert all(env.observation_space.contains(env.step(np.ones(1))[0]) for _ in range(5))


@pytest.mark.slow
def test_episodes_of_one_action_end_in_lanes_as_often_as_they_should(env):
    modes = []
    for seed in range(4000):
        state, _ = env.reset(seed=seed)
        for _ in range(14):
            state, *_ = env.step(np.array([0.3]))
        modes.append(mode_of(state))
    assert agreement(np.array(modes), mode_probabilities(np.full((1, 14), 0.3))[0]) > 0.01


def test_random_sequences_end_in_lanes_as_often_as_they_should():
    sequences = np.random.default_rng(3).uniform(-0.8, 0.8, size=(4, 14))
    modes = mode_of(simulated(np.repeat(sequences, 1000, axis=0), seed=4)[:, -1]).reshape(4, 1000)
    probabilities = mode_probabilities(sequences)
    assert min(agreement(m, p) for m, p in zip(modes, probabilities, strict=True)) > 0.01
    # The test can tell: with the actions reversed in sign or in time, the same lanes are next to impossible.
    for wrong in (-sequences, sequences[:, ::-1]):
        assert agreement(modes[0], mode_probabilities(wrong)[0]) < 1e-6


def test_the_environment_takes_the_steps_that_transition_draws(env):
    state, _ = env.reset(seed=5)
    generator = np.random.default_rng()
    generator.bit_generator.state = env.np_random.bit_generator.state
    for action in np.random.default_rng(6).uniform(-1, 1, size=(20, 1)):
        state = transition(state, action, generator)
        np.testing.assert_array_equal(env.step(action)[0], state)


@pytest.mark.parametrize(
    ("steps", "forks"), [(1, 0), (3, 0), (4, 1), (8, 1), (9, 2), (13, 2), (14, 3), (20, 3)]
)
def test_lanes_are_those_of_the_forks_crossed_until_the_end(steps, forks):
    probabilities = mode_probabilities(np.random.default_rng(7).uniform(-2, 2, size=(5, steps)))
    assert probabilities.shape == (5, 2**forks)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_probabilities_are_products_over_the_actions_at_the_forks():
    actions = np.full((1, 14, 1), -1.0)
    actions[0, [3, 8, 13], 0] = 1.0, 0.25, -7.0  # up with 0.9, 0.6, and 0.1 as the action is clipped
    probabilities = mode_probabilities(actions)[0]
    np.testing.assert_allclose(probabilities[0b110], 0.9 * 0.6 * 0.9)
    np.testing.assert_allclose(probabilities[0b001], 0.1 * 0.4 * 0.1)
    np.testing.assert_array_equal(mode_probabilities(actions[..., 0])[0], probabilities)


def test_lanes_already_chosen_are_certain():
    # One fork behind, upper lane: lanes 4 to 7 are open. Two behind: those under the one at -0.2.
    actions = np.zeros((2, 20))
    np.testing.assert_allclose(mode_probabilities(actions, x=-0.4, y=0.41)[0], [0] * 4 + [0.25] * 4)
    both = mode_probabilities(actions, x=[-0.4, 0.1], y=[0.41, -0.19])
    np.testing.assert_allclose(both, [[0] * 4 + [0.25] * 4, [0, 0, 0.5, 0.5, 0, 0, 0, 0]])
    np.testing.assert_array_equal(mode_probabilities([[0.5]], x=0.5, y=0.7), [[0] * 7 + [1]])


def test_chances_from_the_middle_of_the_road_agree_with_the_simulator():
    actions = np.random.default_rng(8).uniform(-0.8, 0.8, size=(1, 10))
    states = simulated(np.repeat(actions, 4000, axis=0), seed=9, start=(-0.4, -0.4))
    probabilities = mode_probabilities(actions, x=-0.4, y=-0.4)[0]
    modes = mode_of(states[:, -1])
    assert modes.max() < 4
    np.testing.assert_array_equal(probabilities[4:], 0)
    assert agreement(modes, probabilities[:4]) > 0.01


def test_lanes_are_labelled_from_the_lowest_by_the_forks_behind():
    np.testing.assert_allclose(lane_centres(3), LANES)
    np.testing.assert_allclose(lane_centres(2), [-0.6, -0.2, 0.2, 0.6])
    for forks, x in enumerate([-1.0, -0.4, 0.1, 0.9]):
        centres = lane_centres(forks)
        for offset in (-0.039, 0, 0.039):
            states = np.stack([np.full_like(centres, x), centres + offset], axis=-1)
            np.testing.assert_array_equal(mode_of(states), np.arange(2**forks))
    modes = mode_of(np.zeros((2, 3, 2)))
    assert modes.shape == (2, 3)
    assert np.issubdtype(modes.dtype, np.integer)
    assert mode_of([0.5, 0.7]) == 7


def test_points_between_lanes_are_in_none():
    assert sum(JUMPS) == pytest.approx(LANES[-1])
    between = np.concatenate([LANES + 0.1, LANES - 0.1, LANES + 0.041, [np.nan, np.inf, 5.0]])
    np.testing.assert_array_equal(mode_of(np.stack([np.full_like(between, 0.9), between], axis=-1)), -1)
    assert mode_of([-1.0, 0.4]) == mode_of([np.nan, 0.0]) == -1
    assert mode_of([0.9, 0.76]) == -1
    assert mode_of([0.9, 0.76], tolerance=0.07) == 7


@pytest.mark.parametrize("steps", [4, 9, 14])
def test_the_mean_of_the_futures_is_in_no_lane(steps):
    futures = simulated(np.zeros((4000, steps)), seed=10)[:, -1]
    assert mode_of(futures).min() >= 0
    assert mode_of(futures.mean(axis=0)) == -1


@pytest.mark.parametrize("start", [(-0.7, 0.0), (-0.2, 0.4), (0.3, -0.2)])
def test_the_mean_of_a_step_over_a_fork_is_off_both_lanes_whatever_the_action(start):
    actions = np.linspace(-1, 1, 41)[:, None]
    probabilities = mode_probabilities(actions, *start)
    centres = lane_centres(int(np.log2(probabilities.shape[1])))
    means = np.stack([np.full(41, start[0] + STEP), probabilities @ centres], axis=-1)
    distance = np.abs(means[:, 1:] - centres).min(axis=1)
    assert distance.min() > 3 * NOISE[1] / np.sqrt(0.75)  # three standard deviations of y in a lane
    assert (mode_of(means[np.abs(actions[:, 0]) < 0.71]) == -1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": [1.2, 0.0]}, "start: expected numbers from"),
        ({"start": [np.nan, 0.0]}, "start: expected numbers from"),
        ({"start": [0.1]}, r"start: expected shape \(2,\), got shape \(1,\)"),
        ({"start": "somewhere"}, "start: expected 2 numbers, got 'somewhere'"),
        ({"goal": [0.0, 0.0]}, r"options: expected keys among \['start'\], got \['goal'\]"),
    ],
)
def test_bad_options_are_named(env, options, message):
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


@pytest.mark.parametrize("action", [[0.0, 0.0], 0.0, [np.nan]])
def test_bad_actions_are_named(env, action):
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action: expected 1 finite number, got"):
        env.step(np.array(action))


def test_a_bad_render_mode_is_named(env):
    with pytest.raises(ValueError, match="render_mode: expected None or 'rgb_array', got 'human'"):
        type(env)(render_mode="human")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mode_of(0.0), r"states: expected shape \(\.\.\., 2\), got shape \(\)"),
        (lambda: mode_of(np.zeros((2, 3))), r"states: expected shape .* got shape \(2, 3\)"),
        (lambda: mode_of("here"), "states: expected numbers .* got 'here'"),
        (lambda: mode_of([0.0, 0.0], tolerance=0), "tolerance: expected a positive, finite number, got 0"),
        (lambda: mode_of([0.0, 0.0], tolerance=np.inf), "tolerance: expected a positive"),
        (lambda: mode_of([0.0, 0.0], tolerance="wide"), "tolerance: expected .* got 'wide'"),
        (
            lambda: transition(np.zeros((5, 3)), np.zeros((5, 1)), RNG),
            r"states: expected shape .* got .*5, 3",
        ),
        (
            lambda: transition(np.zeros((5, 2)), np.zeros(5), RNG),
            r"actions: expected shape \(5, 1\), got .*5,",
        ),
        (lambda: lane_centres(4), "forks: expected a whole number from 0 to 3, got 4"),
        (lambda: lane_centres(1.5), "forks: expected a whole number"),
        (lambda: mode_probabilities([0.0]), r"actions: expected shape \(N, T\) .* got \(1,\)"),
        (lambda: mode_probabilities(np.zeros((2, 3, 2))), r"actions: expected shape .* got \(2, 3, 2\)"),
        (lambda: mode_probabilities(np.zeros((2, 0))), r"actions: expected shape .* got \(2, 0\)"),
        (lambda: mode_probabilities([[np.nan]]), "actions: expected finite numbers"),
        (lambda: mode_probabilities("left"), "actions: expected numbers, got 'left'"),
        (lambda: mode_probabilities([[0.0]], x=np.inf), "x: expected finite numbers, got inf"),
        (lambda: mode_probabilities([[0.0]], y=[0, 0]), r"y: expected one number or shape \(1,\), got"),
        (lambda: mode_probabilities([[0], [0]], x=[-1, 0]), "x: expected starts .* behind 0 to 2"),
    ],
)
def test_arguments_of_no_sense_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
