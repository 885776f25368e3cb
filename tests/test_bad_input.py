"""Every kind of bad input gets an error that names the argument, what was given and what was expected."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from ebm_control.checks import InputError
from ebm_control.data import Normalizer, RolloutBuffer, collect, window_batches
from ebm_control.energies import GoalCost, TransitionEnergy
from ebm_control.energies.layout import TrajectoryLayout
from ebm_control.planning import MPCAgent, Planner
from ebm_control.prediction import predict
from ebm_control.samplers import Langevin
from ebm_control.training import CheckpointError, load_checkpoint, save_checkpoint
from tests.helpers import full_disk
from tests.training.helpers import Payload, linear_buffer, resign, small_checkpoint

LAYOUT = TrajectoryLayout(obs_dim=2, act_dim=1)
ENERGY = TransitionEnergy(LAYOUT)
SAMPLER = Langevin(2, 0.1)
FIXED_ROWS = torch.zeros(4, 3, dtype=torch.bool)


def goal_planner() -> Planner:
    return Planner(ENERGY, SAMPLER, 3, GoalCost(LAYOUT, [0, 1]), layout=LAYOUT, chains=2)


def agent(**given) -> MPCAgent:
    return MPCAgent(goal_planner(), Normalizer.identity(2, 1), Box(-1, 1, (1,)), **given)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5, 4, 2), r"x: expected shape \(any, any, 3\), got shape \(5, 4, 2\)"),
        (torch.zeros(5, 3), r"x: expected shape \(any, any, 3\), got shape \(5, 3\)"),
        (torch.zeros(5, 1, 3), "x: expected >= 2 rows, got 1 rows"),
    ],
)
def test_trajectory_of_the_wrong_shape(x, message):
    with pytest.raises(InputError, match=message):
        ENERGY(x)


def test_context_of_the_wrong_shape():
    energy = TransitionEnergy(LAYOUT, context_dim=1)
    with pytest.raises(InputError, match=r"context: expected shape \(5, 1\), got shape \(5, 2\)"):
        energy(torch.zeros(5, 2, 3), torch.zeros(5, 2))
    with pytest.raises(InputError, match=r"context: expected shape \(5, 1\), got None"):
        energy(torch.zeros(5, 2, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": torch.zeros(3)}, r"x: expected a batch of floats .* got shape \(3,\)"),
        ({"x": torch.zeros(5, 4, 3, dtype=torch.long)}, r"x: expected a batch of floats .* got .*int64"),
        ({"x": torch.full((5, 4, 3), torch.nan)}, "x: expected finite values only, got 60 non-finite"),
        ({"fixed": FIXED_ROWS[:3]}, r"fixed: expected .* broadcasts to \(5, 4, 3\), got shape \(3, 3\)"),
        ({"fixed": FIXED_ROWS.float()}, r"fixed: expected a boolean mask, got torch\.float32"),
        ({"context": torch.zeros(4, 1)}, r"context: expected 5 rows.* got shape \(4, 1\)"),
        ({"trace": -1}, "trace: expected a whole number of at least 0, got -1"),
    ],
)
def test_sampler_given_what_does_not_fit(given, message):
    x = given.pop("x", torch.zeros(5, 4, 3))
    with pytest.raises(InputError, match=message):
        SAMPLER(ENERGY, x, **given)


@pytest.mark.parametrize(
    ("start", "goal", "message"),
    [
        (torch.zeros(3), torch.zeros(2), r"start: expected shape \(any, 2\), got shape \(3,\)"),
        (torch.zeros(1, 3), torch.zeros(2), r"start: expected shape \(any, 2\), got shape \(1, 3\)"),
        (torch.full((1, 2), torch.inf), torch.zeros(2), "start: expected finite values only, got 2"),
        (torch.zeros(1, 2), None, r"goal: expected shape \(N, 2\).*got None"),
        (torch.zeros(1, 2), torch.zeros(3), r"goal: expected shape \(1, 2\), got shape \(1, 3\)"),
        (torch.zeros(4, 2), torch.zeros(3, 2), r"goal: expected shape \(4, 2\), got shape \(3, 2\)"),
        (torch.zeros(1, 2), torch.full((2,), torch.nan), "goal: expected finite values only, got 2"),
    ],
)
def test_planner_given_a_start_or_goal_that_does_not_fit(start, goal, message):
    with pytest.raises(InputError, match=message):
        goal_planner().plan(start, goal)


@pytest.mark.parametrize(
    ("history", "actions", "message"),
    [
        (torch.zeros(2, 3), None, r"history: expected shape \(any, any, 3\), got shape \(2, 3\)"),
        (torch.zeros(2, 1, 2), None, r"history: expected shape \(any, any, 3\), got shape \(2, 1, 2\)"),
        (torch.full((2, 1, 3), torch.nan), None, "history: expected finite values only, got 6"),
        (torch.zeros(2, 1, 3), torch.zeros(2, 4, 1), r"actions: .* \(2, 5, 1\), got shape \(2, 4, 1\)"),
        (torch.zeros(2, 1, 3), torch.zeros(2, 5, 2), r"actions: .* \(2, 5, 1\), got shape \(2, 5, 2\)"),
    ],
)
def test_prediction_from_a_history_or_actions_that_do_not_fit(history, actions, message):
    with pytest.raises(InputError, match=message):
        predict(ENERGY, history, actions, horizon=5)


def test_prediction_of_no_steps():
    with pytest.raises(InputError, match="horizon: expected a whole number of at least 1, got 0"):
        predict(ENERGY, torch.zeros(2, 1, 3), horizon=0)


def test_environment_id_that_nobody_knows():
    with pytest.raises(InputError, match=r"env: expected a registered .*'Pendulun-v1'.*close to Pendulum-v1"):
        collect("Pendulun-v1", 10, progress=False)


def test_goal_outside_the_space():
    env = gym.make("ebm/Particle-v0")
    with pytest.raises(ValueError, match=r"goal.*: expected figures from .*, got \[3\.0, 0\.0\]"):
        env.reset(options={"goal": [3.0, 0.0]})
    env.close()


@pytest.mark.parametrize("goal", [[0.5], [0.5, 0.1, 0.2], [[0.1, 0.2]] * 3])
def test_goal_of_the_wrong_shape_for_an_agent(goal):
    with pytest.raises(InputError, match=r"goal: expected shape \(\d, 2\), got shape"):
        agent(goal=goal).predict(np.zeros(2))
    with pytest.raises(InputError, match=r"goal: expected shape \(1, 2\), got shape"):
        agent().predict({"observation": np.zeros(2), "desired_goal": np.array(goal)})


def test_observation_of_the_wrong_shape_for_an_agent():
    with pytest.raises(InputError, match=r"observation: expected shape \(N, 2\), got \(3,\)"):
        agent(goal=[0, 0]).predict(np.zeros(3))
    with pytest.raises(InputError, match="observation: expected finite values only, got 1 non-finite"):
        agent(goal=[0, 0]).predict(np.array([0, np.nan]))


def test_horizon_longer_than_the_data():
    buffer = linear_buffer(3, 20)
    message = (
        "length: expected windows that fit the data, got 30 states .* take 29 steps.*longest episode has 20"
    )
    with pytest.raises(InputError, match=message):
        buffer.sample_windows(4, 30, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match=message):
        window_batches(buffer, buffer.normalizer(), 4, 30)
    with pytest.raises(InputError, match="with gap 16, which take 32 steps; the longest episode has 20"):
        window_batches(buffer, buffer.normalizer(), 4, 3, gaps=(1, 16))


def test_nan_in_a_dataset(tmp_path):
    buffer, path = linear_buffer(2, 5), tmp_path / "data.npz"
    observations = np.zeros((6, 2))
    observations[3, 1] = np.nan
    message = r"observations: expected finite values only, got 1 non-finite, first nan at index \(3, 1\)"
    with pytest.raises(InputError, match=message):
        buffer.add_episode(observations, np.zeros((5, 1)))
    assert buffer.num_episodes == 2
    buffer.save(path)
    with np.load(path) as file:
        content = dict(file)
    content["observations"][3, 1] = np.nan
    np.savez(path, **content)
    with pytest.raises(InputError, match=rf"path: .*data\.npz.*{message}"):
        RolloutBuffer.load(path)


def test_truncated_checkpoint(tmp_path):
    file = save_checkpoint(tmp_path, 1, small_checkpoint()) / "state.pt"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"step_00000001/state\.pt: truncated or changed"):
        load_checkpoint(tmp_path)


def test_tampered_checkpoint(tmp_path):
    file = save_checkpoint(tmp_path, 1, small_checkpoint()) / "settings.json"
    file.write_text(file.read_text().replace("64", "65"))
    with pytest.raises(CheckpointError, match=r"step_00000001/settings\.json: truncated or changed"):
        load_checkpoint(tmp_path)


def test_pickle_posing_as_a_checkpoint(tmp_path):
    path, proof = save_checkpoint(tmp_path, 1, small_checkpoint()), tmp_path / "proof"
    torch.save({"step": Payload(proof)}, path / "state.pt")
    resign(path)
    with pytest.raises(
        CheckpointError, match=r"state\.pt: expected tensors and plain containers only, refused"
    ):
        load_checkpoint(tmp_path)
    assert not proof.exists()


def test_full_disk(tmp_path):
    save_checkpoint(tmp_path, 1, small_checkpoint(1.0))
    with (
        full_disk("file size limit", tmp_path),
        pytest.raises(CheckpointError, match=r"step_00000002: could not be written \(.*untouched"),
    ):
        save_checkpoint(tmp_path, 2, small_checkpoint(2.0))
    assert load_checkpoint(tmp_path).weights["w"][0, 0] == 1
