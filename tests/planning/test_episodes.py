import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.planning import Episodes, run_episodes
from ebm_control.seeds import seeds


class Scripted:
    """Actions by a fixed rule, counting its calls in its state."""

    def __init__(self, act_dim, factor=1.0):
        self.act_dim, self.factor = act_dim, factor

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        step = 0 if state is None else state
        plain = observation["observation"] if isinstance(observation, dict) else observation
        # Rounded: the sine of a row alone and of a batch may differ in the last bit, and episodes in all that follows.
        wave = np.sin(step + plain.sum(axis=-1, keepdims=True) + np.arange(self.act_dim)).round(6)
        return (self.factor * wave).astype(np.float32), step + 1


@pytest.mark.parametrize(
    ("env_id", "factor"), [("ebm/Particle-v0", 0.05), ("InvertedPendulum-v5", 0.02), ("Pendulum-v1", 1.0)]
)
def test_episodes_are_those_of_stepping_by_hand(env_id, factor):
    count, environments = 3, [gym.make(env_id, max_episode_steps=60) for _ in range(3)]
    agent = Scripted(environments[0].action_space.shape[0], factor)
    episodes = run_episodes(agent, environments, seed=5)
    lengths = []
    for i in range(count):
        env = gym.make(env_id, max_episode_steps=60)
        observation, _ = env.reset(seed=seeds(5, "episodes", count)[i])
        total, state, done, t = 0.0, None, False, 0
        while not done:
            plain = observation["observation"] if isinstance(observation, dict) else observation
            assert np.array_equal(episodes.observations[t, i], plain)
            action, state = agent.predict(observation, state)
            assert np.array_equal(episodes.actions[t, i], action)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, done, t = total + reward, terminated or truncated, t + 1
        assert episodes.returns[i] == pytest.approx(total, abs=1e-12)
        assert episodes.last_rewards[i] == reward
        plain = observation["observation"] if isinstance(observation, dict) else observation
        assert (episodes.observations[t:, i] == plain).all()
        lengths.append(t)
    assert len(episodes.actions) == len(episodes.seconds) == len(episodes.states) == max(lengths)
    assert len(episodes.observations) == max(lengths) + 1
    assert episodes.states == list(range(1, max(lengths) + 1))
    if env_id == "InvertedPendulum-v5":
        assert max(lengths) < 60
        assert len(set(lengths)) > 1


def test_reset_options_are_an_environment_s_own():
    environments = [gym.make("ebm/Particle-v0", max_episode_steps=2) for _ in range(3)]
    episodes = run_episodes(Scripted(2, 0.0), environments, options=lambda i: {"start": [i / 10, 0.0]})
    assert np.allclose(episodes.observations[0], [[0, 0], [0.1, 0], [0.2, 0]])


def test_interval_of_the_mean_return():
    def outcome(returns):
        return Episodes(np.array(returns), *[np.zeros(1)] * 4, [])

    assert outcome([1.0, 2.0, 3.0, 6.0]).mean == 3.0
    # Student's t of three degrees of freedom
    assert outcome([1.0, 2.0, 3.0, 6.0]).ci95 == pytest.approx(3.182446 * np.sqrt(14 / 3) / 2)
    assert outcome([4.0]).ci95 == 0.0
    means = np.random.default_rng(0).normal(5, 2, (4000, 5))
    covered = np.mean([abs(outcome(row).mean - 5) < outcome(row).ci95 for row in means])
    assert covered == pytest.approx(0.95, abs=0.012)  # 1.96 deviations would cover 88 %


class Handing(gym.Env):
    """Three steps of reward 0.5 each, handed over in a form of choice."""

    def __init__(self, reward, flag):
        self.observation_space = gym.spaces.Box(-1, 1, (1,))
        self.action_space = gym.spaces.Box(-1, 1, (1,))
        self.reward, self.flag, self.t = reward, flag, 0

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1), self.reward(0.5), self.flag(self.t == 3), self.flag(False), {}


@pytest.mark.parametrize(
    "reward",
    [
        float,
        np.float32,
        np.array,
        lambda r: np.array([r]),
        lambda r: [r],
        lambda r: np.array([[r]], ">f4"),
        torch.tensor,
    ],
)
@pytest.mark.parametrize("flag", [bool, np.bool_, int, np.array, lambda f: np.array([f]), torch.tensor])
def test_rewards_and_flags_count_in_every_form(reward, flag):
    episodes = run_episodes(Scripted(1), [Handing(reward, flag) for _ in range(2)])
    assert np.array_equal(episodes.returns, [1.5, 1.5])
    assert np.array_equal(episodes.last_rewards, [0.5, 0.5])
    assert len(episodes.actions) == 3


@pytest.mark.parametrize(
    ("reward", "flag", "message"),
    [
        (lambda r: None, bool, "reward of environment 1, .* step 1: expected one number, got None"),
        (
            lambda r: np.nan,
            bool,
            "env: expected a finite observation and reward, got others .environment 1, .*step 1",
        ),
        (lambda r: -np.inf, bool, "env: expected a finite observation and reward"),
        (lambda r: np.array([r, r]), bool, r"reward of environment 1, .*got shape \(2,\)"),
        (float, lambda f: None, "terminated of environment 1, .*: expected True or False, got None"),
        (float, lambda f: np.array([f, f]), "terminated of environment 1, .*step 1"),
    ],
)
def test_other_rewards_and_flags_are_one_line_with_their_place(reward, flag, message):
    with pytest.raises(InputError, match=rf"^{message}") as caught:
        run_episodes(Scripted(1), [Handing(float, bool), Handing(reward, flag)])
    assert "\n" not in str(caught.value)


def test_one_environment_given_several_times_is_refused():
    env = gym.make("Pendulum-v1")
    with pytest.raises(InputError, match=r"^env: expected environments of their own"):
        run_episodes(Scripted(1), [env] * 3)
    with pytest.raises(InputError, match=r"^env: expected environments of their own"):
        run_episodes(Scripted(1), [env, gym.wrappers.ClipAction(env)])
    with pytest.raises(InputError, match=r"^environments: expected at least one"):
        run_episodes(Scripted(1), [])


@pytest.mark.parametrize(
    ("box", "asked", "taken"),
    [
        (gym.spaces.Box(-1, 1, (1,), np.int8), 0.6, 1),
        (gym.spaces.Box(-1, 1, (1,), np.float32), 100.0, 1.0),
        (gym.spaces.Box(-1, 1, (1,), np.float16), 0.3, np.float16(0.3)),
    ],
)
def test_actions_are_taken_as_the_space_has_them(box, asked, taken):
    class Strict(Handing):
        def step(self, action):
            assert self.action_space.contains(action)
            return super().step(action)

    env = Strict(float, bool)
    env.action_space = box

    class Asking:
        def predict(self, observation, state=None, **_):
            return np.full((1, 1), asked), None

    assert (run_episodes(Asking(), [env]).actions == float(taken)).all()


@pytest.mark.parametrize(
    "actions", [np.zeros((1, 1)), np.zeros((3, 1)), np.zeros((2, 2)), np.full((2, 1), np.nan)]
)
def test_actions_of_another_shape_or_not_finite_are_refused(actions):
    class Asking:
        def predict(self, observation, state=None, **_):
            return actions, None

    with pytest.raises(InputError, match=r"^actions: expected"):
        run_episodes(Asking(), [Handing(float, bool) for _ in range(2)])
