import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer, collect


class Counter(gym.Env):
    """State (episode, step): a transition across a reset cannot hide. Ends itself after `length` steps."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, length: int = 5) -> None:
        self.length, self.episode, self.t = length, -1, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, (options or {}).get("start", 0)
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), float(self.t), self.t >= self.length, False, {}

    def observe(self):
        return np.array([self.episode, self.t], dtype=np.float64)


class DictCounter(Counter):
    observation_space = Dict(observation=Counter.observation_space, desired_goal=Box(-1, 1, (1,), np.float64))

    def observe(self):
        return {"observation": super().observe(), "desired_goal": np.array([0.25])}


def same(a: RolloutBuffer, b: RolloutBuffer) -> bool:
    return all(
        np.array_equal(x.observations, y.observations) and np.array_equal(x.actions, y.actions)
        for x, y in zip(a.episodes(), b.episodes(), strict=True)
    )


@pytest.mark.parametrize(
    ("steps", "num_envs"), [(1, 8), (23, 1), (23, 4), (26, 4), (40, 8), (41, 8), (47, 8)]
)
def test_exactly_the_steps_asked_for_and_none_across_a_reset(steps, num_envs):
    buffer = collect(Counter, steps, num_envs=num_envs, progress=False)
    assert len(buffer) == steps
    for e in buffer.episodes():
        assert (e.observations[:, 0] == e.observations[0, 0]).all()
        assert (e.observations[:, 1] == np.arange(len(e) + 1)).all()
        assert (e.rewards == np.arange(1, len(e) + 1)).all()
        assert e.terminated == (len(e) == 5)


def test_time_limit_cuts_off_without_terminating_and_keeps_the_final_state():
    buffer = collect(lambda: TimeLimit(Counter(100), 7), 42, num_envs=3, progress=False)
    assert [len(e) for e in buffer.episodes()] == [7] * 6
    assert not any(e.terminated for e in buffer.episodes())
    assert all(e.observations[-1, 1] == 7 for e in buffer.episodes())


@pytest.mark.parametrize("env", ["Pendulum-v1", "InvertedPendulum-v5", "Hopper-v5"])
def test_equal_seeds_give_equal_data_and_others_do_not(env):
    a, b, c = (collect(env, 120, num_envs=4, seed=s, progress=False) for s in (0, 0, 1))
    assert same(a, b)
    assert not np.array_equal(a.observations, c.observations)


def test_recorded_actions_lead_from_state_to_state():
    buffer = collect("Pendulum-v1", 60, num_envs=2, progress=False)
    env = gym.make("Pendulum-v1")
    env.reset(seed=0)
    for e in buffer.episodes():
        angle = np.arctan2(e.observations[0, 1], e.observations[0, 0])
        env.unwrapped.state = np.array([angle, e.observations[0, 2]])
        for action, following in zip(e.actions, e.observations[1:], strict=True):
            stepped = env.step(action.astype(np.float32))[0]
            np.testing.assert_allclose(stepped, following, atol=1e-4)


def test_policy_sees_the_whole_dictionary_and_the_buffer_its_observation():
    goals = []

    def policy(observation):
        goals.append(observation["desired_goal"].copy())
        return np.full((3, 1), 7.0)

    buffer = collect(DictCounter, 12, policy, num_envs=3, progress=False)
    assert np.stack(goals).shape == (4, 3, 1)
    assert buffer.obs_dim == 2
    assert (buffer.actions == 1).all()  # clipped to the action space


def test_stable_baselines3_policy_and_recurrent_state_are_served():
    collect(
        "Pendulum-v1", 20, PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, device="cpu"), num_envs=2
    )

    class Recurrent:
        def predict(self, observation, state=None, episode_start=None):
            state = np.zeros(2) if state is None else state
            state = np.where(episode_start, 0, state) + 1
            return state[:, None] / 100, state

    buffer = collect(Counter, 20, Recurrent(), num_envs=2, progress=False)
    for e in buffer.episodes():
        np.testing.assert_allclose(e.actions[:, 0], np.arange(1, 6) / 100, rtol=1e-6)


def test_starts_give_each_reset_its_own_options():
    starts = lambda rng: {"start": int(rng.integers(0, 4))}  # noqa: E731
    buffer = collect(Counter, 300, num_envs=4, starts=starts, progress=False)
    assert {int(e.observations[0, 1]) for e in buffer.episodes()} == {0, 1, 2, 3}


def test_progress_can_be_turned_off(capsys, monkeypatch):
    monkeypatch.setattr("ebm_control.progress.is_terminal", lambda file: True)
    collect(Counter, 10, progress=False)
    shown = capsys.readouterr()
    assert shown.out + shown.err == ""
    collect(Counter, 10, progress=True)
    shown = capsys.readouterr()
    assert "collecting" in shown.out + shown.err


def test_environment_declares_the_periods():
    buffer = collect("ebm/Reacher-v0", 60, num_envs=2, progress=False)
    assert buffer.periods == gym.make("ebm/Reacher-v0").unwrapped.observation_periods
    assert np.abs(buffer.observations[:, :2]).max() <= 1


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, 2.0, float("nan"), float("inf"), True, "two", [], np.float32(2)], ids=repr
)
@pytest.mark.parametrize("name", ["steps", "num_envs"])
def test_counts_that_make_no_sense_are_refused_before_anything_is_made(name, value):
    def made():
        raise AssertionError("an environment was made")

    with pytest.raises(InputError, match=rf"^{name}: expected a whole number of at least 1, got"):
        collect(made, **{"steps": 10, "num_envs": 2} | {name: value}, progress=False)


@pytest.mark.parametrize("env", [Counter, Counter()], ids=["function", "environment"])
def test_without_a_count_there_are_8_environments_or_the_one_given(env):
    episodes = {row[0] for row in collect(env, 40, num_envs=None, progress=False).observations}
    lengths = [len(e) for e in collect(env, 40, num_envs=None, progress=False).episodes()]
    assert len(episodes) == (8 if isinstance(env, Counter) else 1)
    assert lengths == [5] * 8


def test_bad_requests_are_named():
    with pytest.raises(
        InputError, match=r"env: expected a registered .*'HalfCheeta-v5'.*close to HalfCheetah-v5"
    ):
        collect("HalfCheeta-v5", 10)
    with pytest.raises(InputError, match="steps"):
        collect("Pendulum-v1", 0)
    with pytest.raises(InputError, match=r"policy.*'greedy'"):
        collect("Pendulum-v1", 10, "greedy")
    with pytest.raises(InputError, match=r"\(8, 1\)"):
        collect("Pendulum-v1", 10, lambda obs: np.zeros(8), progress=False)
    with pytest.raises(InputError, match=r"env.*id or a function"):
        collect(gym.make("Pendulum-v1"), 10, num_envs=2)
    with pytest.raises(InputError, match=r"^env: expected a single environment"):
        collect(gym.make_vec("Pendulum-v1", num_envs=2), 10)
    with pytest.raises(InputError, match=r"^env: expected a gymnasium.Env, got NoneType"):
        collect(lambda: None, 10)


def test_an_environment_gets_its_arguments_and_step_limit():
    data = collect("Pendulum-v1", 40, num_envs=2, env_kwargs={"g": 0.0}, max_episode_steps=7, progress=False)
    assert max(len(e) for e in data.episodes()) == 7
    heavy = collect("Pendulum-v1", 40, num_envs=2, max_episode_steps=7, progress=False)
    assert not np.array_equal(data.observations, heavy.observations)
    with pytest.raises(InputError, match=r"^env_kwargs: expected none for an environment that exists"):
        collect(gym.make("Pendulum-v1"), 10, env_kwargs={"g": 0.0})
    with pytest.raises(InputError, match=r"^env: expected an id where max_episode_steps is given"):
        collect(lambda: gym.make("Pendulum-v1"), 10, max_episode_steps=7)
