import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.cli import demo, main
from ebm_control.data import RolloutBuffer
from ebm_control.models import TrajectoryModel
from tests.cli.helpers import SMALL, read, refused

pytestmark = pytest.mark.slow


def test_collect_leaves_rollouts_settings_and_summary(runs):
    assert len(RolloutBuffer.load(runs / "data" / "data.npz")) == 600
    summary = read(runs / "data")
    assert summary["steps"] == 600
    assert summary["steps_per_second"] == pytest.approx(600 / summary["seconds"])
    assert read(runs / "data", "settings.json")["env"] == "ebm/Particle-v0"


def test_train_leaves_settings_events_checkpoints_and_summary(runs):
    folder = runs / "train"
    assert read(folder, "settings.json")["train"]["model"]["hidden"] == [16]
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step_00000004"]
    assert list((folder / "events").rglob("events.out.tfevents.*"))
    summary = read(folder)
    assert summary["updates"] == 4
    assert summary["rollbacks"] == 0
    assert summary["transitions"] == 600
    assert {"seconds", "gap", "energy_data", "provenance"} <= summary.keys()
    assert TrajectoryModel.load(folder / "checkpoints").layout.dim == 4


def test_an_interrupted_run_goes_on_where_it_stopped(runs, tmp_path, capfd):
    out = tmp_path / "run"
    command = ["train", "--data", str(runs / "data" / "data.npz"), "--out", str(out), *SMALL]
    command += ["--train.checkpoint-every", "3"]
    main(command)
    settings = (out / "settings.json").read_text()
    assert "out: expected none with checkpoints, or --resume" in refused(
        [*command, "--train.seed", "9"], capfd
    )
    assert (out / "settings.json").read_text() == settings
    last = out / "checkpoints" / "step_00000004"
    whole = TrajectoryModel.load(last).energy.state_dict()
    shutil.rmtree(last)  # as if it had been stopped after the third update
    main([*command, "--resume"])
    assert read(out)["updates"] == 1
    resumed = TrajectoryModel.load(last).energy.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_predict_leaves_predictions_figure_and_summary(runs, tmp_path):
    main(
        ["predict", "--checkpoint", str(runs / "train"), "--data", str(runs / "data" / "data.npz"),
         "--out", str(tmp_path), "--horizon", "4", "--windows", "2", "--samples", "3", "--langevin-steps", "2"]
    )  # fmt: skip
    summary = read(tmp_path)
    assert len(summary["rmse"]) == len(summary["rmse_still"]) == len(summary["rmse_best"]) == 4
    assert summary["rmse_1"] == summary["rmse"][0] > 0
    assert summary["rmse_4"] == summary["rmse"][3]
    assert summary["frechet"] > 0
    assert 0 <= summary["calibration_error"] <= 1
    assert np.isfinite(summary["energy_distance"])
    assert summary["ms_per_step"] > 0
    with np.load(tmp_path / "predictions.npz") as file:
        assert file["states"].shape == (2, 3, 4, 2)
        assert file["actions"].shape == (2, 3, 4, 2)
        assert file["energy"].shape == (2, 3)
        error = (file["states"].mean(axis=1) - file["truth"]) ** 2
    assert np.allclose(np.sqrt(error.mean(axis=(0, 2))), summary["rmse"], rtol=1e-4)
    assert (tmp_path / "figures" / "prediction.png").stat().st_size > 1000


@pytest.mark.parametrize("more", [[], ["--random-goals"]])
def test_plan_leaves_figure_and_summary(runs, tmp_path, more):
    main(
        ["plan", "--checkpoint", str(runs / "train"), "--env", "ebm/Particle-v0", "--out", str(tmp_path),
         "--episodes", "2", "--horizon", "3", "--sampler", "cem", "--max-episode-steps", "10", *more]
    )  # fmt: skip
    summary = read(tmp_path)
    assert len(summary["returns"]) == 2
    assert summary["return_mean"] == pytest.approx(np.mean(summary["returns"]))
    assert 0 < summary["seconds_p50"] <= summary["seconds_p95"]
    assert (tmp_path / "figures" / "plan.png").stat().st_size > 1000
    assert read(tmp_path, "settings.json")["sampler"] == "cem"


@pytest.mark.parametrize("command", ["collect", "train", "predict", "plan", "online", "demo"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"ebm-control {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("collect --env ebm/Particl-v0 --out {tmp}/data.npz", "close to ebm/Particle-v0"),
        ("collect --env ebm/Particle-v0 --steps 0 --out {tmp}/a.npz", "steps: expected a whole number of at"),
        ("collect --env ebm/Particle-v0 --out {tmp}/data", "out: expected a file that ends in .npz"),
        ("collect --env ebm/Particle-v0 --out {data}/a.npz", "out: expected a folder, got"),
        ("train --data {tmp}/none.npz --out {tmp}", "none.npz, which does not exist"),
        ("predict --checkpoint {tmp} --data {data} --out {tmp}", "expected a checkpoint folder"),
        (
            "predict --checkpoint {run} --data {data} --horizon 99 --out {tmp}",
            "length: expected windows that fit",
        ),
        (
            "plan --checkpoint {run} --env ebm/Nope-v0 --out {tmp}",
            "env: expected a registered environment id",
        ),
        (
            "plan --checkpoint {run} --env ebm/Reacher-v0 --out {tmp}",
            "env: expected 2 observation and 2 action coordinates, which the model was trained on, got 4 and 2",
        ),
        (
            "plan --checkpoint {run} --env ebm/Particle-v0 --episodes 0 --out {tmp}",
            "episodes: expected a whole number of at least 1",
        ),
        (
            "plan --checkpoint {run} --env ebm/Particle-v0 --goal-index 0 5 --out {tmp}",
            "goal_index: expected the 2 coordinates in 0..1",
        ),
        (
            "plan --checkpoint {run} --env Pendulum-v1 --random-goals --out {tmp}",
            "env: expected an environment with goals",
        ),
    ],
)
def test_bad_input_ends_in_one_plain_line(runs, tmp_path, arguments, message, capfd):
    places = {"tmp": tmp_path, "run": runs / "train", "data": runs / "data" / "data.npz"}
    assert message in refused([part.format(**places) for part in arguments.split()], capfd)


def test_data_of_another_robot_are_refused(runs, tmp_path, capfd):
    other = str(tmp_path / "data.npz")
    main(["collect", "--env", "ebm/Reacher-v0", "--fast", "--steps", "300", "--out", other])
    arguments = [
        "predict",
        "--checkpoint",
        str(runs / "train"),
        "--data",
        other,
        "--out",
        str(tmp_path / "p"),
    ]
    assert "buffer: expected the model's, (2, 2), got (4, 2)" in refused(arguments, capfd)


@pytest.mark.parametrize("flag", ["--train.updates=0", "--train.loss=least-squares", "--train.model.gaps=0"])
def test_settings_of_no_sense_are_refused_before_any_work(tmp_path, flag, capfd):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", str(tmp_path / "none.npz"), flag])
    assert stop.value.code == 2
    error = capfd.readouterr().err
    assert "expected" in error or "Invalid choice" in error


@pytest.fixture
def short_episodes(monkeypatch):
    """The demo's environment with episodes of 5 steps instead of 50."""
    name = "ebm/ShortReacher-v0"
    gym.register(name, entry_point="ebm_envs.reacher:ReacherEnv", max_episode_steps=5)
    monkeypatch.setattr(demo, "ENV", name)
    yield
    del gym.registry[name]


def test_demo_measures_everything(tmp_path, short_episodes):
    main(
        ["demo", "--out", str(tmp_path), "--steps", "2000", "--episodes", "2", "--mppi-episodes", "1",
         "--train.updates", "20", "--train.base-updates", "100", "--train.model.hidden", "16",
         "--train.model.base-hidden", "16"]
    )  # fmt: skip
    summary = read(tmp_path)
    expected = {
        "collect": {"steps_per_second"},
        "train": {"seconds", "updates"},
        "prediction": {"rmse_1", "rmse_20"},
        "plan": {
            "return_mean",
            "return_ci95",
            "random_return",
            "oracle_return",
            "success_rate",
            "seconds_p50",
        },
        "plan_random_goals": {"return_mean", "return_ci95", "success_rate"},
    }
    for part, names in expected.items():
        assert all(np.isfinite(summary[part][name]) for name in names), part
    plan = summary["plan"]
    assert 0 < plan["seconds_p50"] <= plan["seconds_p95"]
    assert -6.5 < plan["oracle_return"] < -4.5
    assert -5 * 1.5 < plan["random_return"] < -5 * 0.7  # the goal is 1.2 away
    assert summary["train"]["updates"] == 20
    assert summary["prediction"]["rmse_1"] < summary["prediction"]["rmse_20"]
    for name in ("energy.png", "prediction.png", "plan.png", "episode.gif"):
        assert (tmp_path / "figures" / name).stat().st_size > 1000, name
    assert read(tmp_path, "settings.json")["steps"] == 2000
