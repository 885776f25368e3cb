"""What a command knows of an environment before it does anything in it."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from ebm_control.cli import main
from ebm_envs.particle import ParticleEnv
from tests.cli.helpers import SMALL, read, refused

pytestmark = pytest.mark.slow


class GoalLast(ParticleEnv):
    """A Particle whose position comes after a clock that stands still."""

    observation_periods = (0.0, 0.0, 0.0, 0.0)

    def __init__(self):
        super().__init__()
        spaces = dict(self.observation_space.spaces)
        spaces["observation"] = Box(-np.inf, np.inf, (4,), np.float64)
        self.observation_space = Dict(spaces)

    def _shown(self, observation):
        return observation | {"observation": np.concatenate([[0.25, -0.75], observation["observation"]])}

    def reset(self, **given):
        observation, info = super().reset(**given)
        return self._shown(observation), info

    def step(self, action):
        observation, *rest = super().step(action)
        return self._shown(observation), *rest


class Hidden(GoalLast):
    """A Particle that does not show where it is."""

    def _shown(self, observation):
        return observation | {"observation": np.array([0.25, -0.75, 0.5, 0.1])}


class Camera(gym.Env):
    """A point that is pulled to 0 for a reward, seen as a dictionary without a goal."""

    action_space = Box(-1, 1, (1,), np.float64)
    observation_space = Dict(
        {"observation": Box(-2, 2, (1,), np.float64), "pixels": Box(0, 255, (4, 4, 3), np.uint8)}
    )

    def _shown(self):
        return {"observation": self.x.copy(), "pixels": np.zeros((4, 4, 3), np.uint8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1)
        return self._shown(), {}

    def step(self, action):
        self.x = np.clip(self.x + 0.3 * np.asarray(action, float), -2, 2)
        return self._shown(), -float(abs(self.x[0])), False, False, {}


@pytest.fixture(autouse=True, scope="module")
def environments():
    made = {"test/GoalLast-v0": GoalLast, "test/Hidden-v0": Hidden, "test/Camera-v0": Camera}
    for name, kind in made.items():
        gym.register(name, entry_point=kind, max_episode_steps=20)
    yield
    for name in made:
        del gym.registry[name]


@pytest.fixture(scope="module")
def model(tmp_path_factory, environments):
    """A model of four observation coordinates and two actions, hardly trained."""
    folder = tmp_path_factory.mktemp("model")
    main(["collect", "--env", "test/GoalLast-v0", "--steps", "300", "--out", str(folder / "data.npz")])
    main(["train", "--data", str(folder / "data.npz"), "--out", str(folder / "train"), *SMALL])
    return folder / "train"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--env test/GoalLast-v0", "goal_index: expected coordinates that hold the achieved goal"),
        (
            "--env test/GoalLast-v0 --goal-index 3 2",
            "goal_index: expected coordinates that hold the achieved goal",
        ),
        ("--env test/GoalLast-v0 --goal-index 2", "goal_index: expected the 2 coordinates in 0..3"),
        ("--env test/GoalLast-v0 --goal-index 2 4", "goal_index: expected the 2 coordinates in 0..3"),
        ("--env test/GoalLast-v0 --goal-index 2 -1", "goal_index: expected the 2 coordinates in 0..3"),
        ("--env test/Hidden-v0", "goal_index: expected coordinates that hold the achieved goal"),
        (
            "--env test/Hidden-v0 --goal-index 2 3",
            "goal_index: expected coordinates that hold the achieved goal",
        ),
        ("--env test/Camera-v0", "env: expected an environment with goals"),
        ("--env ebm/Particle-v0", "env: expected 4 observation and 2 action coordinates"),
        ("--env ebm/Arm7-v0 --goal-index 14 15 16", "env: expected 4 observation and 2 action coordinates"),
        ("--env CartPole-v1", "env: expected an environment with goals"),
        (
            "--env CartPole-v1 --reward learned",
            "env: expected vectors, which the model was trained on, got observations (observation: 4 numbers)",
        ),
    ],
)
def test_plans_that_cannot_be_for_the_goal_are_refused_before_anything_is_driven(
    tmp_path, model, arguments, message, capfd
):
    out = tmp_path / "run"
    given = ["plan", "--checkpoint", str(model), "--out", str(out), *arguments.split()]
    assert message in refused(given, capfd)
    assert not out.exists()


def test_the_right_coordinates_are_planned_for(tmp_path, model):
    main(["plan", "--checkpoint", str(model), "--env", "test/GoalLast-v0", "--goal-index", "2", "3",
          "--out", str(tmp_path / "run"), "--episodes", "1", "--horizon", "2", "--sampler", "cem"])  # fmt: skip
    assert len(read(tmp_path / "run")["returns"]) == 1


@pytest.mark.parametrize("kind", ["feed-forward", "energy"])
def test_the_reward_is_learned_where_a_dictionary_holds_no_goal(tmp_path, kind):
    main(["online", "--env", "test/Camera-v0", "--out", str(tmp_path / "run"), "--model", kind,
          "--online.steps", "480", "--online.warm-up", "200", "--online.every", "280", "--horizon", "4",
          "--online.replan-every", "4", "--evaluate", "2", "--sampler", "cem"])  # fmt: skip
    summary = read(tmp_path / "run")
    assert summary["steps"] == 480
    assert summary["return_mean"] > -4  # staying where it begins gives -10 in the mean
    assert "reward_error" in summary


@pytest.fixture(scope="module")
def begun(tmp_path_factory, environments):
    """A run of each kind of model that can be gone on with."""
    folder = tmp_path_factory.mktemp("begun")
    for kind in ("feed-forward", "energy"):
        main(["online", "--out", str(folder / kind), "--model", kind, *RUN])  # fmt: skip
    return folder


RUN = ["--env", "ebm/Particle-v0", "--online.steps", "220", "--online.warm-up", "200", "--horizon", "3",
       "--evaluate", "1", "--sampler", "cem", "--max-episode-steps", "10"]  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--env", "test/Camera-v0", "env: expected ebm/Particle-v0"),
        ("--model", "ensemble", "model: expected feed-forward"),
        ("--seed", "3", "seed: expected 0"),
        ("--horizon", "4", "horizon: expected 3"),
        ("--goal-weight", "3", "goal_weight: expected 20.0"),
        ("--sampler", "mppi", "sampler: expected cem"),
        ("--online.noise", "0.1", "online.noise: expected 0.0"),
        ("--online.environments", "4", "online.environments: expected 8"),
        ("--online.memory", "100", "online.memory: expected None"),
    ],
)
def test_a_run_is_gone_on_with_under_its_own_settings_alone(begun, flag, value, said, capfd):
    arguments = ["online", "--out", str(begun / "feed-forward"), "--resume", "--model", "feed-forward", *RUN]
    before = read(begun / "feed-forward", "settings.json")
    message = refused([*arguments, flag, value], capfd)
    assert said in message
    assert ", as in the run that is resumed, got" in message
    assert read(begun / "feed-forward", "settings.json") == before


def test_more_steps_are_for_models_that_need_no_place_for_each(begun, capfd):
    more = ["--online.steps", "260", "--resume"]
    main(["online", "--out", str(begun / "feed-forward"), "--model", "feed-forward", *RUN, *more])
    assert read(begun / "feed-forward")["steps"] == 264
    said = refused(["online", "--out", str(begun / "energy"), *RUN, *more], capfd)
    assert "online.steps: expected 220" in said


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_run_with_damaged_settings_is_refused_in_one_line(begun, tmp_path, content, capfd):
    settings = begun / "energy" / "settings.json"
    before = settings.read_text()
    settings.write_text(content)
    assert "out: expected " in refused(["online", "--out", str(begun / "energy"), *RUN, "--resume"], capfd)
    settings.write_text(before)
