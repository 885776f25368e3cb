"""The reinforcement-learning comparison: rows, skipping, resuming, deadlines."""

import json
import signal
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Timer

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from experiments.planning import reinforcement
from experiments.planning.checkpoints import Progress, load_checkpoint, save_checkpoint
from experiments.planning.reinforcement import (
    LEARNERS,
    PROBLEMS,
    Reinforcement,
    build,
    evaluate,
    make,
    next_time,
    train,
    train_all,
)

ROW = {
    "env",
    "method",
    "seeds",
    "return_mean",
    "returns",
    "success",
    "env_steps",
    "train_seconds",
    "hyperparameters",
}


def settings(folder, **given):
    return Reinforcement(steps=256, out=folder, checkpoints=folder / "checkpoints", **given)


@pytest.mark.parametrize(("algorithm", "steps"), [("sac", 256), ("ppo", 2048)])
def test_a_finished_run_leaves_one_row(tmp_path, algorithm, steps):
    (path,) = train_all(settings(tmp_path, envs=("reacher",), algorithms=(algorithm,)))
    record = json.loads(path.read_text())
    row = record["results"]
    assert set(row) >= ROW
    assert row["env"] == "ebm/Reacher-v0"
    assert row["env_steps"] == steps  # PPO learns from whole rounds
    assert len(row["returns"]) == 20
    assert row["return_mean"] == pytest.approx(np.mean(row["returns"]))
    assert record["provenance"]["seeds"] == row["seeds"] == [0]
    assert list(path.parent.iterdir()) == [path]


def test_finished_runs_are_skipped(tmp_path):
    given = settings(tmp_path, envs=("particle",), algorithms=("sac",))
    first = {path: path.stat().st_mtime_ns for path in train_all(given)}
    again = {path: path.stat().st_mtime_ns for path in train_all(given)}
    assert first == again


def test_a_deadline_stops_a_run_and_the_next_call_goes_on_from_there(tmp_path):
    problem, learner, checkpoint = PROBLEMS["particle"], LEARNERS["sac"], tmp_path / "run.pt"
    _, stopped = train(problem, learner, 0, 256, checkpoint=checkpoint, deadline=0.0)
    assert stopped.steps == 8
    model, progress = train(problem, learner, 0, 256, checkpoint=checkpoint, deadline=float("inf"))
    assert progress.steps == 256
    # The step that a callback ends is not stored.
    assert model.replay_buffer.size() == 256 // 8 - 1


def test_a_stopped_run_leaves_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr(reinforcement, "next_time", lambda _: 0.0)
    assert train_all(settings(tmp_path, envs=("particle",), algorithms=("ppo",))) == []
    assert list(tmp_path.rglob("*.json")) == []


def test_checkpoints_bring_networks_optimizers_and_buffer_back(tmp_path):
    problem, learner = PROBLEMS["maze-s"], LEARNERS["sac"]
    trained = build(problem, learner, 0, 2000).learn(1100)
    save_checkpoint(tmp_path / "run.pt", trained, Progress(steps=1100, curve=[[1000, -3.0]]))
    model = build(problem, learner, 1, 2000)
    assert load_checkpoint(tmp_path / "run.pt", model).curve == [[1000, -3.0]]
    assert model.num_timesteps == 1100
    torch.testing.assert_close(model.get_parameters(), trained.get_parameters(), rtol=0, atol=0)
    torch.testing.assert_close(model.log_ent_coef, trained.log_ent_coef)
    np.testing.assert_array_equal(model.replay_buffer.rewards, trained.replay_buffer.rewards)
    assert model.replay_buffer.pos == trained.replay_buffer.pos > 100


def test_observations_hold_state_and_goal_with_continuous_angles():
    env = make(PROBLEMS["reacher"])
    before = env.reset(options={"start": (1.0 - 1e-6, 0.2), "goal": (0.7, 0.5)})[0]
    after = env.reset(options={"start": (-1.0 + 1e-6, 0.2), "goal": (0.7, 0.5)})[0]
    np.testing.assert_allclose(before, after, atol=1e-4)
    assert env.observation_space.contains(before)
    assert before.shape == (2 + 2 * 4,)  # velocities; sine and cosine of two angles and two goal angles


def test_actions_of_one_are_the_largest_moves():
    env = make(PROBLEMS["particle"])
    env.reset()
    np.testing.assert_allclose(env.step(np.ones(2, np.float32))[0][:2], 0.05, atol=1e-6)


def test_evaluations_of_one_model_are_equal():
    model = build(PROBLEMS["reacher"], LEARNERS["ppo"], 0, 256)
    first, again = evaluate(model, PROBLEMS["reacher"]), evaluate(model, PROBLEMS["reacher"])
    assert first["returns"] == again["returns"]
    assert len(set(first["returns"])) == 20  # starts differ


def test_until_is_the_next_such_time():
    past = datetime.now() - timedelta(minutes=5)
    assert next_time(None) == float("inf")
    assert 0 < next_time(f"{past:%H:%M}") - datetime.now().timestamp() <= 86_400
    with pytest.raises(InputError, match="until: expected HH:MM, got 'noon'"):
        next_time("noon")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seeds": 0}, "seeds: expected a whole number of at least 1, got 0"),
        ({"steps": -5}, "steps: expected a whole number of at least 1, got -5"),
        ({"envs": ()}, "envs: expected some of 'particle', .*, got none"),
        ({"envs": ("nowhere",)}, "envs: expected some of 'particle', .*, got 'nowhere'"),
        ({"algorithms": ("sac", "dqn")}, "algorithms: expected some of 'sac', 'ppo', 'sac10x', got 'dqn'"),
    ],
)
def test_wrong_choices_are_refused_before_any_training(tmp_path, given, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        train_all(replace(settings(tmp_path), **given))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"results": {"problem": "reacher", "method": "ppo"}}'])
def test_a_damaged_row_or_another_run_s_is_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "reinforcement" / "particle-ppo-256-seed0.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(
        InputError, match=r"^out: expected a row of particle, ppo, or none, got .*particle-ppo"
    ):
        train_all(settings(tmp_path, envs=("particle",), algorithms=("ppo",)))
    assert path.read_text() == text


def test_ctrl_c_waits_for_a_checkpoint_and_the_next_call_goes_on_from_there(tmp_path):
    problem, learner, checkpoint = PROBLEMS["particle"], LEARNERS["sac"], tmp_path / "run.pt"
    Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        train(problem, learner, 0, 10**8, checkpoint=checkpoint, deadline=float("inf"))
    model = build(problem, learner, 0, 10**6)
    progress = load_checkpoint(checkpoint, model)
    assert 0 < progress.steps < 10**6
    assert model.replay_buffer.size() == progress.steps // 8 - 1
    _, gone_on = train(problem, learner, 0, progress.steps + 80, checkpoint=checkpoint, deadline=float("inf"))
    assert gone_on.steps == progress.steps + 80
