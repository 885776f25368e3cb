import json

import gymnasium as gym
import numpy as np
import pytest

from ebm_control.cli import main
from ebm_control.data import RolloutBuffer
from ebm_control.training.checkpoint import latest_checkpoint
from ebm_envs.particle import ParticleEnv
from tests.cli import helpers
from tests.cli.helpers import read

pytestmark = pytest.mark.slow

SHORT = [
    "--online.steps", "400", "--online.warm-up", "200", "--online.every", "100", "--horizon", "6", "--evaluate", "1",
]  # fmt: skip
BRIEF = ["--max-episode-steps", "20"]
OPTIMUM = -4.5  # of Particle, from (0, 0) to (.5, .5), which takes ten steps


class PowerCutError(BaseException):
    """The end of a process, whatever it was doing."""


class Frail(ParticleEnv):
    """Fails after so many steps of all its kind, as a machine does."""

    steps = 0
    fails_at = 10**9

    def step(self, action):
        """One step, or none ever again."""
        if Frail.steps == Frail.fails_at:
            raise PowerCutError
        Frail.steps += 1
        return super().step(action)


@pytest.fixture
def frail(monkeypatch):
    """A Particle that may be made to fail."""
    monkeypatch.setattr(Frail, "steps", 0)
    gym.register("test/Frail-v0", entry_point=Frail, max_episode_steps=20)
    yield "test/Frail-v0"
    del gym.registry["test/Frail-v0"]


def online(out, *more, env="ebm/Particle-v0"):
    main(["online", "--env", env, "--out", str(out), *SHORT, *more])
    return read(out)


def experience(folder):
    """Observations that were learned from."""
    newest = latest_checkpoint(folder / "checkpoints")
    return RolloutBuffer.load(folder / "experience" / newest.name / "data.npz").transitions()[0]


def refused(arguments, capfd):
    return helpers.refused(["online", *arguments], capfd)


def test_an_energy_learned_online_reaches_the_goal_and_leaves_a_run_folder(tmp_path, capfd):
    summary = online(tmp_path, "--online.steps", "304", *BRIEF)
    assert summary["steps"] == 304
    assert summary["episodes"] == 8  # side by side, and as many of 18 steps so far
    assert summary["rounds"] == 2
    assert OPTIMUM - 0.3 < summary["return_mean"] < OPTIMUM + 1e-6
    assert summary["return_mean"] == summary["returns"][0]
    assert summary["last_reward_mean"] > -0.01
    assert summary["return_ci95"] is None  # unknown after one episode
    assert summary["provenance"]["seeds"] == [0]
    assert 0 < summary["plan_seconds_p50"] < summary["seconds"]
    assert read(tmp_path, "settings.json")["online"]["every"] == 100
    assert latest_checkpoint(tmp_path / "checkpoints").name == "step_00000304"
    assert list((tmp_path / "events").rglob("events.out.tfevents.*"))
    assert (tmp_path / "figures" / "learning_curve.png").stat().st_size > 1000
    shown = capfd.readouterr().out
    assert json.loads(shown[shown.index("{") :])["return_mean"] == summary["return_mean"]


def test_an_ensemble_reaches_the_goal_too(tmp_path):
    summary = online(tmp_path, "--model", "ensemble", "--online.steps", "304", *BRIEF)
    assert OPTIMUM - 0.3 < summary["return_mean"] < OPTIMUM + 1e-6


def test_without_goals_the_reward_is_learned_and_planned_for(tmp_path):
    arguments = [
        "--model",
        "feed-forward",
        "--sampler",
        "cem",
        "--horizon",
        "15",
        "--online.replan-every",
        "4",
    ]
    arguments += [
        "--online.warm-up",
        "400",
        "--online.every",
        "400",
        "--evaluate",
        "1",
        "--max-episode-steps",
        "100",
    ]
    summary = online(tmp_path, *arguments, "--online.steps", "1200", env="Pendulum-v1")
    assert summary["reward_error"] < 0.3
    assert summary["return_mean"] > -400  # after 400 steps the same episode gives -618
    again = online(tmp_path, *arguments, "--online.steps", "1200", "--resume", env="Pendulum-v1")
    assert again["steps"] == 1200
    assert again["return_mean"] > -400


def test_a_run_that_was_killed_goes_on_where_it_stopped(tmp_path, frail, monkeypatch, capfd):
    model = ["--model", "feed-forward"]
    monkeypatch.setattr(Frail, "fails_at", 350)
    with pytest.raises(PowerCutError):
        online(tmp_path, *model, env=frail)
    monkeypatch.setattr(Frail, "fails_at", 10**9)
    assert not (tmp_path / "summary.json").exists()
    assert latest_checkpoint(tmp_path / "checkpoints").name == "step_00000304"
    arguments = ["--env", frail, "--out", str(tmp_path), *SHORT]
    assert "out: expected none with checkpoints, or --resume" in refused([*arguments, *model], capfd)
    assert "model: expected feed-forward, as in" in refused([*arguments, "--resume"], capfd)
    monkeypatch.setattr(Frail, "steps", 0)
    summary = online(tmp_path, "--resume", *model, env=frail)
    assert summary["steps"] == 400
    assert summary["rounds"] == 3
    # Up to the end, once to see what the goals name, and one episode of the evaluation.
    assert Frail.steps == (400 - 304) + 1 + 20
    assert summary["return_mean"] > OPTIMUM - 0.3


def test_exploring_leads_where_the_goal_does_not_and_is_remembered(tmp_path):
    arguments = ["--model", "feed-forward", "--explore", "--place", "0.2"]
    explored = online(tmp_path, *arguments)
    assert explored["episodes"] == 8
    # Random steps and the way to the goal at (.5, .5) never lead here.
    assert (experience(tmp_path).min(axis=0) < -0.4).all()
    assert OPTIMUM - 0.3 < explored["return_mean"] < OPTIMUM + 1e-6
    again = online(tmp_path, *arguments, "--resume")
    assert explored["places"] / 2 < again["places"] <= explored["places"]
    assert again["return_mean"] == explored["return_mean"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--env ebm/Particl-v0", "close to ebm/Particle-v0"),
        ("--env Pendulum-v1 --explore", "explore: expected an environment with goals"),
        ("--env ebm/Arm7-v0", "goal_index: expected the 3 coordinates in 0..16"),
        ("--env ebm/Particle-v0 --goal-index 0 2", "goal_index: expected the 2 coordinates in 0..1"),
        ("--env ebm/Particle-v0 --goal-index 1 0", "goal_index: expected coordinates that hold the achieved"),
        ("--env ebm/Particle-v0 --evaluate 0", "evaluate: expected a whole number of at least 1, got 0"),
        ("--env ebm/Particle-v0 --horizon 0", "horizon: expected a whole number of at least 1, got 0"),
        ("--env ebm/Particle-v0 --online.seed 3", "online.seed: expected --seed instead, got 3"),
        ("--env ebm/Particle-v0 --explore --place 0", "place: expected a number above 0, got 0.0"),
    ],
)
def test_bad_input_ends_in_one_plain_line_before_anything_is_written(tmp_path, arguments, message, capfd):
    out = tmp_path / "run"
    assert message in refused([*arguments.split(), "--out", str(out)], capfd)
    assert not out.exists()


def test_places_need_a_size_where_goals_have_no_bounds(tmp_path, capfd):
    class Unbounded(ParticleEnv):
        def __init__(self):
            super().__init__()
            endless = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
            self.observation_space = gym.spaces.Dict(
                dict.fromkeys(("observation", "achieved_goal", "desired_goal"), endless)
            )

    gym.register("test/Unbounded-v0", entry_point=Unbounded, max_episode_steps=50)
    arguments = ["--env", "test/Unbounded-v0", "--explore", "--out", str(tmp_path / "run")]
    assert "place: expected the size of a place to explore" in refused(arguments, capfd)
    del gym.registry["test/Unbounded-v0"]


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["online", "--help"])
    assert stop.value.code == 0
    assert "--online.steps" in capsys.readouterr().out
