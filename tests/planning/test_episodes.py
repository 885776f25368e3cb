import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.planning import Episodes, MPCAgent, evaluate, run_episodes
from ebm_control.seeds import seeds
from tests.planning.helpers import NORMALIZER, SPACE, plain_planner


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
    assert np.isnan(outcome([4.0]).ci95), "one episode says nothing about the spread"
    assert repr(outcome([4.0])) == "Episodes(1: mean return 4)"
    assert repr(outcome([4.0, 6.0])) == "Episodes(2: mean return 5 ± 13)"
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


class Lasting(gym.Env):
    """s' = s + a, reward -|s|; ends after `length` steps, or says `success` in a form of choice."""

    def __init__(self, length, info=None):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float64)
        self.length, self.info = length, info

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s, self.t = self.np_random.uniform(-1, 1, 2), 0
        return self.s.copy(), {}

    def step(self, action):
        assert self.t < self.length
        self.s, self.t = self.s + action, self.t + 1
        info = {} if self.info is None else self.info(self.t == self.length)
        return self.s.copy(), -float(np.abs(self.s).sum()), self.t == self.length, False, info


class Remembering:
    """Acts by where each episode has been, in a state of a form of choice; notes for how many it was asked."""

    def __init__(self, pack, unpack):
        self.pack, self.unpack, self.asked = pack, unpack, []

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        self.asked.append(len(observation))
        memory = np.zeros_like(observation) if state is None else self.unpack(state)
        memory = 0.5 * memory + observation
        return np.clip(-0.3 * memory, -1, 1), self.pack(memory)


class Opaque:
    def __init__(self, memory):
        self.memory = memory


FORMS = {
    "array": (lambda m: m.copy(), lambda s: s),
    "tensor": (torch.from_numpy, lambda s: s.numpy()),
    "dictionary of a list": (lambda m: {"a": [m, 3, None]}, lambda s: s["a"][0]),
    "recurrent": (lambda m: (m[None].repeat(3, axis=0), m[None]), lambda s: s[1][0]),
    "its own": (Opaque, lambda s: s.memory),
}


@pytest.mark.parametrize("form", FORMS)
def test_episodes_that_ended_are_not_acted_for_and_change_nothing_for_others(form):
    lengths = [4, 2, 7, 2]
    agent = Remembering(*FORMS[form])
    found = run_episodes(agent, [Lasting(length) for length in lengths], seed=3)
    assert agent.asked == ([4] * 7 if form == "its own" else [4, 4, 2, 2, 1, 1, 1])
    assert found.lengths.tolist() == lengths
    for i, length in enumerate(lengths):
        env, alone = Lasting(length), Remembering(*FORMS["array"])
        observation, state, total = env.reset(seed=seeds(3, "episodes", 4)[i])[0], None, 0.0
        for t in range(length):
            action, state = alone.predict(observation[None], state)
            assert np.array_equal(found.actions[t, i], action[0])
            observation, reward, *_ = env.step(action[0])
            total += reward
        assert found.returns[i] == total
        assert (found.observations[length:, i] == observation).all()
        assert (found.actions[length:, i] == 0).all()


def test_plans_are_made_for_episodes_under_way_alone():
    def driven(lengths, replan_every):
        agent = MPCAgent(
            plain_planner(horizon=4), NORMALIZER, SPACE, replan_every=replan_every, tolerance=1.0
        )
        planned = []
        inner = agent.planner.plan
        agent.planner.plan = lambda start, *given, **named: (
            planned.append(len(start)) or inner(start, *given, **named)
        )
        found = run_episodes(agent, [gym.make("ebm/Particle-v0", max_episode_steps=n) for n in lengths])
        return found, planned

    found, planned = driven([2, 5, 5], 1)
    assert planned == [3] * 2 + [2] * 3
    assert [len(plan.states) for plan in found.states] == planned
    assert np.abs(found.observations[-1, 1:] - 5 * 0.05).max() < 0.01  # five longest steps to the goal
    together, planned = driven([5, 5, 5], 1)
    assert np.allclose(found.returns[1:], together.returns[1:], atol=0.02)
    # What has ended stands still, off its plan: it must not end the plans of the others.
    found, planned = driven([2, 5, 5], 3)
    assert planned == [3, 2]


@pytest.mark.parametrize(
    ("infos", "expected"),
    [
        ([lambda end: {"is_success": end}, lambda end: {"is_success": np.bool_(False)}], [True, False]),
        ([lambda end: {"success": float(end)}] * 2, [True, True]),
        ([lambda end: {"is_success": not end, "success": True}] * 2, [False, False]),
        ([lambda end: {"success": True} if not end else {}] * 2, None),
        ([lambda end: {"is_success": end}, None], None),
        ([lambda end: {"success": "yes"}] * 2, None),
    ],
)
def test_success_is_what_the_last_step_says(infos, expected):
    agent = Remembering(*FORMS["array"])
    found = run_episodes(agent, [Lasting(length, info) for length, info in zip((2, 4), infos, strict=True)])
    if expected is None:
        assert found.success is None
    else:
        assert found.success.tolist() == expected
        assert found.success_rate == np.mean(expected)


def test_evaluations_are_the_same_side_by_side_and_one_after_the_other():
    def agent():
        return Remembering(*FORMS["array"])

    gym.register("test/Lasting-v0", entry_point=Lasting)
    arguments = {"length": 5, "info": lambda end: {"is_success": end}}
    by_id = evaluate(agent(), "test/Lasting-v0", 3, seed=4, env_kwargs=arguments)
    del gym.registry["test/Lasting-v0"]
    by_function = evaluate(agent(), Lasting, 3, seed=4, env_kwargs=arguments)
    alone = agent()
    one = evaluate(alone, Lasting(**arguments), 3, seed=4)
    assert alone.asked == [1] * 15
    for found in (by_function, one):
        for name in ("returns", "last_rewards", "observations", "actions", "lengths", "success"):
            assert np.array_equal(getattr(found, name), getattr(by_id, name)), name
    assert len(one.states) == len(one.seconds) == 5
    assert [len(states) for states in one.states] == [3] * 5
    assert by_id.success_rate == 1
    assert np.array_equal(
        by_id.returns, run_episodes(agent(), [Lasting(5) for _ in range(3)], seed=4).returns
    )


def test_episodes_of_one_environment_may_differ_in_length():
    class Random(Lasting):
        def reset(self, **given):
            found = super().reset(**given)
            self.length = int(self.np_random.integers(1, 9))
            return found

    found = evaluate(Remembering(*FORMS["array"]), Random(1), 5, seed=2)
    assert len(set(found.lengths)) > 1
    assert found.observations.shape == (max(found.lengths) + 1, 5, 2)
    for i, length in enumerate(found.lengths):
        assert (found.observations[length:, i] == found.observations[length, i]).all()
        assert (found.actions[length:, i] == 0).all()
    assert [len(states) for states in found.states] == [
        (found.lengths > t).sum() for t in range(max(found.lengths))
    ]


def test_evaluations_of_no_sense_are_refused():
    agent = Remembering(*FORMS["array"])
    with pytest.raises(InputError, match=r"^episodes: expected a whole number of at least 1"):
        evaluate(agent, Lasting, 0)
    with pytest.raises(InputError, match=r"^env_kwargs: expected none for an environment that exists"):
        evaluate(agent, Lasting(2), 2, env_kwargs={"length": 3})


def test_the_length_of_episodes_is_one_of_the_arguments_of_an_environment():
    class Still:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            return np.zeros((len(observation["observation"]), 2)), None

    outcome = evaluate(Still(), "ebm/Particle-v0", episodes=2, env_kwargs={"max_episode_steps": 7})
    assert outcome.lengths.tolist() == [7, 7]


@pytest.mark.parametrize("given", ["function", "environment"])
def test_an_episode_that_does_not_end_is_refused_at_max_steps(given):
    def endless():
        return Handing(float, lambda _: False)

    env = endless if given == "function" else endless()
    with pytest.raises(
        InputError, match=r"^max_steps: expected episodes that end within 7 steps, .*TimeLimit"
    ):
        evaluate(Scripted(1), env, 2, max_steps=7)
    ended = evaluate(Scripted(1), lambda: gym.wrappers.TimeLimit(endless(), 7), 2, max_steps=7)
    assert ended.lengths.tolist() == [7, 7]
    with pytest.raises(InputError, match=r"^max_steps: expected a whole number of at least 1, got 0"):
        evaluate(Scripted(1), env, 2, max_steps=0)
