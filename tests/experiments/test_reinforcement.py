"""The reinforcement-learning comparison: rows, skipping, resuming, deadlines."""

import signal
import time
from datetime import datetime, timedelta
from threading import Timer

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from experiments.planning.checkpoints import Progress, load_checkpoint, save_checkpoint
from experiments.planning.problems import PROBLEMS
from experiments.planning.reinforcement import (
    LEARNERS,
    Job,
    Reinforcement,
    build,
    evaluate,
    make,
    next_time,
    run,
    train,
    train_all,
)
from experiments.processes import workers
from experiments.records import load
from experiments.storage import by_seed_path

ROW = {
    "env",
    "method",
    "job",
    "seed",
    "commit",
    "return_mean",
    "returns",
    "success",
    "env_steps",
    "train_seconds",
    "hyperparameters",
}


def trained(folder, **given):
    """Run what is asked for; the record."""
    train_all(Reinforcement(steps=256, out=folder, checkpoints=folder / "checkpoints", **given))
    return folder / "reinforcement.json"


@pytest.mark.parametrize(("algorithm", "steps"), [("sac", 256), ("ppo", 2048)])
def test_a_finished_run_leaves_one_row_and_is_not_run_again(tmp_path, algorithm, steps):
    asked = {"envs": ("reacher",), "algorithms": (algorithm,)}
    path = trained(tmp_path, **asked)
    record = load(path)
    (row,) = record["results"]["by_seed"]
    assert set(row) >= ROW
    assert row["env"] == "ebm/Reacher-v0"
    assert row["job"] == f"reacher-{algorithm}-256"
    assert row["env_steps"] == steps  # PPO learns from whole rounds
    assert len(row["returns"]) == 20
    assert row["return_mean"] == pytest.approx(np.mean(row["returns"]))
    assert record["provenance"]["seeds"] == [row["seed"]] == [0]
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {path, by_seed_path(path)}
    written = path.stat().st_mtime_ns
    assert trained(tmp_path, **asked, resume=True).stat().st_mtime_ns == written


def test_a_deadline_stops_a_run_and_the_next_call_goes_on_from_there(tmp_path):
    problem, learner, checkpoint = PROBLEMS["particle"], LEARNERS["sac"], tmp_path / "run.pt"
    _, stopped = train(problem, learner, 0, 256, checkpoint=checkpoint, deadline=0.0)
    assert stopped.steps == 8
    model, progress = train(problem, learner, 0, 256, checkpoint=checkpoint, deadline=float("inf"))
    assert progress.steps == 256
    # The step that a callback ends is not stored.
    assert model.replay_buffer.size() == 256 // 8 - 1


def test_a_stopped_run_leaves_no_row(tmp_path):
    job = Job("particle", "ppo", 0, 256, tmp_path, deadline=0.0)
    assert run(job) == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_with_the_program_leaves_a_checkpoint_and_no_row(tmp_path):
    job = Job("particle", "sac", 0, 10**6, tmp_path, deadline=float("inf"))
    futures = []

    def interrupted():
        with workers(patience=60) as pool:
            futures.append(pool.submit(run, job))
            while not futures[0].running():
                time.sleep(0.01)
            time.sleep(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert futures[0].result() == []
    progress = load_checkpoint(job.checkpoint, build(PROBLEMS["particle"], LEARNERS["sac"], 0, 10**6))
    assert 0 < progress.steps < 10**6


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


def test_neighbouring_seeds_share_no_start_of_training():
    def starts(seed):
        envs = build(PROBLEMS["reacher"], LEARNERS["ppo"], seed, 256).env
        return {tuple(row) for row in envs.reset()}

    first, second, again = starts(0), starts(1), starts(0)
    assert len(first) == len(second) == 8
    assert not first & second
    assert first == again
