"""Arguments of environments, what is left of commands that fail, and what figures and summaries say."""

import json
import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box

from ebm_control.checks import InputError
from ebm_control.cli import main
from ebm_control.cli.commands import Predict
from ebm_control.cli.environment import parsed_arguments
from ebm_control.cli.run_folder import RunFolder
from ebm_control.data import RolloutBuffer
from ebm_control.planning import Episodes
from tests.cli.helpers import SMALL, read, refused

pytestmark = pytest.mark.slow


class Cart(gym.Env):
    """A cart without goals: reward -|x|, the push scaled by `gain`."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1, 1, (1,), np.float64)

    def __init__(self, gain=0.1, start="anywhere"):
        self.gain, self.start = gain, start

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.array([0.5, 0.0]) if self.start == "right" else self.np_random.uniform(-1, 1, 2)
        return self.x.copy(), {}

    def step(self, action):
        self.x = np.array([self.x[0] + self.gain * float(action[0]), float(action[0])])
        return self.x.copy(), -float(abs(self.x[0])), False, False, {}


@pytest.fixture(scope="module", autouse=True)
def environments():
    gym.register("test/Cart-v0", entry_point=Cart, max_episode_steps=30)
    yield
    del gym.registry["test/Cart-v0"]


@pytest.fixture(scope="module")
def cart(tmp_path_factory, environments):
    """Data and a model of the cart, trained long enough to log something."""
    folder = tmp_path_factory.mktemp("cart")
    main(["collect", "--env", "test/Cart-v0", "--steps", "600", "--out", str(folder / "data.npz"),
          "--max-episode-steps", "12", "--env-kwargs", "gain=0.2", "start=right"])  # fmt: skip
    more = ["--train.updates", "60", "--train.base-updates", "60"]
    main(["train", "--data", str(folder / "data.npz"), "--out", str(folder / "train"), *SMALL, *more])
    return folder


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {}),
        (('{"goal": [0.1, 0.2], "name": "x"}',), {"goal": [0.1, 0.2], "name": "x"}),
        (("goal=random", "size=3", "on=true", "start=[0.1, 2]", "a=b=c"),
         {"goal": "random", "size": 3, "on": True, "start": [0.1, 2], "a": "b=c"}),
    ],
)  # fmt: skip
def test_arguments_are_pairs_or_json(given, expected):
    assert parsed_arguments(given) == expected


@pytest.mark.parametrize("given", [("goal",), ("=3",), ("{'a': 1}",), ("a b=3",)])
def test_other_arguments_are_refused(given):
    with pytest.raises(InputError, match=r"^env_kwargs: expected NAME=VALUE pairs or one JSON object, got"):
        parsed_arguments(given)


def test_collect_passes_arguments_and_the_length_of_episodes_on(cart):
    buffer = RolloutBuffer.load(cart / "data.npz")
    lengths = [len(episode) for episode in buffer.episodes()]
    assert max(lengths) == 12
    states, actions, after = buffer.transitions()
    assert np.allclose(after[:, 0] - states[:, 0], 0.2 * actions[:, 0])
    assert all(episode.observations[0, 0] == 0.5 for episode in buffer.episodes())


def test_arguments_that_an_environment_does_not_take_are_refused(tmp_path, capfd):
    out = tmp_path / "new" / "data.npz"
    arguments = [
        "collect",
        "--env",
        "test/Cart-v0",
        "--steps",
        "20",
        "--out",
        str(out),
        "--env-kwargs",
        "mass=3",
    ]
    said = refused(arguments, capfd)
    assert "env_kwargs: expected arguments that test/Cart-v0 takes, got {'mass': 3} (TypeError" in said
    assert list(tmp_path.iterdir()) == []


def test_a_reward_that_data_hold_is_learned_and_planned_for(cart, tmp_path):
    main(["plan", "--checkpoint", str(cart / "train"), "--env", "test/Cart-v0", "--out", str(tmp_path),
          "--reward", "learned", "--data", str(cart / "data.npz"), "--reward-updates", "300", "--sampler", "cem",
          "--env-kwargs", '{"gain": 0.2, "start": "right"}', "--max-episode-steps", "8", "--episodes", "2",
          "--horizon", "5"])  # fmt: skip
    summary = read(tmp_path)
    assert summary["reward_error"] < 0.3
    assert summary["success_rate"] is None  # nobody says
    assert summary["return_mean"] > -8 * 0.5
    assert summary["return_mean"] > -2  # staying gives -4, the shortest way -0.4
    assert (tmp_path / "figures" / "plan.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            [],
            "env: expected an environment with goals (observation, achieved_goal, desired_goal), or --reward learned",
        ),
        (["--reward", "learned"], "data: expected rollouts to learn the reward from"),
        (
            ["--reward", "learned", "--data", "{tmp}/other.npz"],
            "data: expected 2 observation and 1 action coordinates",
        ),
        (["--reward", "learned", "--data", "{tmp}/silent.npz"], "data: expected rewards in all episodes"),
        (
            ["--reward", "learned", "--data", "{tmp}/silent.npz", "--sampler", "gauss-newton"],
            "sampler: expected langevin, mppi or cem with --reward learned",
        ),
        (["--env", "Pendulum-v1"], "env: expected an environment with goals"),
        (
            ["--env", "Pendulum-v1", "--reward", "learned"],
            "env: expected 2 observation and 1 action coordinates",
        ),
        (["--env", "Hopper-v5", "--reward", "learned"], "which the model was trained on, got 11 and 3"),
    ],
)
def test_plans_that_cannot_be_made_leave_nothing(cart, tmp_path, more, message, capfd):
    for name, dims, rewards in (("other", (3, 1), np.zeros(4)), ("silent", (2, 1), None)):
        buffer = RolloutBuffer(*dims)
        buffer.add_episode(np.zeros((5, dims[0])), np.zeros((4, 1)), rewards)
        buffer.save(tmp_path / f"{name}.npz")
    more = [part.format(tmp=tmp_path) for part in more]
    base = ["plan", "--checkpoint", str(cart / "train"), "--out", str(tmp_path / "run")]
    assert message in refused([*base, *([] if "--env" in more else ["--env", "test/Cart-v0"]), *more], capfd)
    assert not (tmp_path / "run").exists()


def test_training_leaves_its_curves(cart):
    assert (cart / "train" / "figures" / "training.png").stat().st_size > 1000


def test_success_and_the_path_driven_are_told_of_goals(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        "ebm_control.cli.figures._saved", lambda figure, path: figures.append(figure) or path.touch()
    )
    data = str(tmp_path / "data.npz")
    main(["collect", "--env", "ebm/Particle-v0", "--steps", "600", "--out", data])
    main(["train", "--data", data, "--out", str(tmp_path / "train"), *SMALL, "--train.base-updates", "600"])
    main(["plan", "--checkpoint", str(tmp_path / "train"), "--env", "ebm/Particle-v0", "--out", str(tmp_path / "plan"),
          "--episodes", "2", "--horizon", "5", "--sampler", "cem",
          "--env-kwargs", "goal=[0.1, 0.05]", "--max-episode-steps", "12"])  # fmt: skip
    assert read(tmp_path / "plan")["success_rate"] == 1.0
    axes = figures[-1].axes
    assert [axis.get_ylabel() for axis in axes] == ["observation 0", "observation 1", "action 0", "action 1"]
    assert {axis.get_xlabel() for axis in axes} == {"step"}
    for axis, goal in zip(axes[:2], (0.1, 0.05), strict=True):
        lines = {line.get_label(): np.asarray(line.get_ydata(), float) for line in axis.get_lines()}
        assert lines["goal"][0] == pytest.approx(goal, abs=1e-5)
        assert lines["driven"][0] == pytest.approx(0, abs=1e-6)
        assert lines["driven"][-1] == pytest.approx(goal, abs=0.05)
        assert len(lines["driven"]) == 13
        assert len(lines["plan at the start"]) == 6
    bounds = [line.get_ydata()[0] for line in axes[2].get_lines() if "bound" in line.get_label()]
    assert bounds == pytest.approx([-0.05, 0.05])


def test_a_command_that_fails_before_its_work_leaves_no_folder(tmp_path, capfd):
    data = tmp_path / "data.npz"
    buffer = RolloutBuffer(2, 1)
    buffer.add_episode(np.zeros((3, 2)), np.zeros((2, 1)))
    buffer.save(data)
    arguments = [
        "train",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "new" / "run"),
        "--train.model.gaps",
        "16",
    ]
    refused(arguments, capfd)
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_a_command_that_fails_gives_back_what_was_there(tmp_path, capfd):
    main(["collect", "--env", "test/Cart-v0", "--steps", "20", "--out", str(tmp_path / "data.npz")])
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    before = {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}
    refused(["collect", "--env", "test/Cart-v0", "--steps", "9", "--env-kwargs", "mass=1",
             "--out", str(tmp_path / "data.npz")], capfd)  # fmt: skip
    assert {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")} == before


def test_a_run_that_fails_after_it_has_left_something_keeps_its_settings(tmp_path):
    def failing():
        with RunFolder(tmp_path / "run", Predict(tmp_path, "data.npz")) as folder:
            folder.write_json("found.json", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"found.json", "settings.json"}


def test_success_is_a_share_of_episodes():
    def outcome(success):
        return Episodes(*[np.zeros(1)] * 5, [], success=success)

    assert outcome(None).success_rate is None
    assert outcome(np.array([True, False, False, True])).success_rate == 0.5


def test_online_takes_arguments_and_keeps_them(tmp_path, capfd):
    run = ["online", "--env", "test/Cart-v0", "--model", "feed-forward", "--online.steps", "104", "--horizon", "1",
           "--online.warm-up", "96", "--evaluate", "1", "--sampler", "cem", "--max-episode-steps", "6",
           "--out", str(tmp_path / "run")]  # fmt: skip
    main([*run, "--env-kwargs", "start=right"])
    summary = read(tmp_path / "run")
    assert summary["episodes"] == 16  # of 6 steps each, 8 side by side
    assert read(tmp_path / "run", "settings.json")["env_kwargs"] == ["start=right"]
    said = refused([*run, "--env-kwargs", "start=left", "--resume"], capfd)
    assert re.search(r"env_kwargs: expected \['start=right'\], as in the run that is resumed", said)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


def test_a_checkpoint_of_another_kind_is_said_in_one_line(cart, tmp_path, capfd):
    main(["images", "train", "--out", str(tmp_path / "digits"), "--train.updates", "1", "--train.batch-size", "8",
          "--train.model.width", "4"])  # fmt: skip
    out = ["--out", str(tmp_path / "run")]
    said = refused(["plan", "--checkpoint", str(tmp_path / "digits"), "--env", "test/Cart-v0", *out], capfd)
    assert "not a checkpoint of a trajectory model" in said
    said = refused(["images", "generate", "--checkpoint", str(cart / "train"), *out], capfd)
    assert "not a checkpoint of an image model" in said
    assert not (tmp_path / "run").exists()
