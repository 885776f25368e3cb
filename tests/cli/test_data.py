"""Data sets of others on the command line: training, prediction, and their flags."""

import numpy as np
import pytest

from ebm_control.cli import main
from ebm_control.models import TrajectoryModel
from tests.cli.helpers import SMALL, read, refused
from tests.data.readers.samples import Recorded, flat, write_flat, write_robomimic

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning:ebm_control")]


def smooth(*lengths):
    """Episodes of a point that moves by its actions."""
    rng, found = np.random.default_rng(0), []
    for steps in lengths:
        actions = rng.normal(size=(steps, 1))
        path = np.cumsum(np.concatenate([np.zeros((1, 1)), actions]), axis=0)
        found.append(Recorded(np.concatenate([path, np.sin(path)], axis=1), actions, -(path[1:, 0] ** 2)))
    return found


def test_training_and_prediction_take_a_d4rl_file(tmp_path, capfd):
    data = str(write_flat(tmp_path / "a", flat(smooth(*[40] * 8))))
    main(["train", "--data", data, "--out", str(tmp_path / "train"), *SMALL])
    assert (
        f"{data}: read as d4rl; observation columns observations 0:2; with rewards" in capfd.readouterr().err
    )
    assert read(tmp_path / "train")["transitions"] == 320
    arguments = ["--horizon", "4", "--windows", "2", "--samples", "3", "--langevin-steps", "2"]
    main(
        [
            "predict",
            "--checkpoint",
            str(tmp_path / "train"),
            "--data",
            data,
            "--out",
            str(tmp_path / "p"),
            *arguments,
        ]
    )
    assert (tmp_path / "p" / "predictions.npz").exists()


def test_keys_split_and_limit_are_flags(tmp_path, capfd):
    data = str(write_robomimic(tmp_path / "a", smooth(*[40] * 8)))
    chosen = ["--data-keys", "robot0_eef_pos", "--data-split", "train"]
    main(["train", "--data", data, "--out", str(tmp_path / "train"), *chosen, *SMALL])
    assert read(tmp_path / "train")["transitions"] == 280
    assert TrajectoryModel.load(tmp_path / "train").layout.obs_dim == 1
    assert read(tmp_path / "train", "settings.json")["data_keys"] == ["robot0_eef_pos"]
    endless = str(write_flat(tmp_path / "b", flat(smooth(*[40] * 8), timeouts=False, following=False)))
    out = ["--out", str(tmp_path / "other"), *SMALL]
    assert "max_episode_steps: expected the step limit" in refused(["train", "--data", endless, *out], capfd)
    main(["train", "--data", endless, "--data-episode-steps", "40", *out])
    assert read(tmp_path / "other")["transitions"] == 8 * 39
