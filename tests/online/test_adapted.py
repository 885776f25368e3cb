"""Online learning and the command line with choices, dictionaries and a history."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from ebm_control import InputError, OnlineLearning, OnlineSettings, RolloutBuffer, evaluate
from ebm_control.cli import main
from ebm_control.samplers import CEM
from tests.online.helpers import baseline_learner


class Slide(gym.Env):
    """A mass that slides: a position in a dictionary, no velocity, and pushes to the left or to the right."""

    observation_space = Dict(position=Box(-9, 9, (1,), np.float64))
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.v, self.t = float(self.np_random.uniform(-1, 1)), 0.0, 0
        return self.seen(), {}

    def seen(self):
        return {"position": np.array([self.x])}

    def step(self, action):
        assert self.action_space.contains(action), repr(action)
        self.v = 0.9 * self.v + 0.1 * (2 * action - 1)
        self.x, self.t = float(np.clip(self.x + self.v, -9, 9)), self.t + 1
        return self.seen(), -abs(self.x), False, self.t >= 20, {}


def online(folder=None, history=3, **options):
    settings = OnlineSettings(steps=600, environments=4, warm_up=200, every=200)
    return OnlineLearning(
        Slide,
        baseline_learner(),
        None,
        settings,
        horizon=5,
        progress=False,
        folder=folder,
        history=history,
        **options,
    )


def test_choices_with_a_history_are_learned_online_and_the_run_goes_on(tmp_path):
    run = online(tmp_path)
    run.run(400)
    data = run.experience.data
    assert data.form is not None
    assert data.parts["action[-2]"] == slice(5, 7)
    np.testing.assert_array_equal(data.actions.sum(axis=1), 1)
    resumed = online(tmp_path, resume=True)
    assert resumed.progress.step == 400
    resumed.run()
    agent = resumed.agent()
    action, _ = agent.predict(Slide().reset(seed=0)[0])
    assert Slide.action_space.contains(action)
    # In the mean random pushes get -26, holding still -10, and a good rule -2.
    assert evaluate(agent, Slide, episodes=4).mean > -16
    with pytest.raises(InputError, match=r"^observation_space: expected"):
        online(tmp_path, history=2, resume=True)


@pytest.fixture
def slide():
    gym.register("test/Slide-v0", entry_point=Slide)
    yield "test/Slide-v0"
    del gym.registry["test/Slide-v0"]


def test_the_command_line_needs_no_wrapper(tmp_path, slide):
    data, trained = tmp_path / "data" / "data.npz", tmp_path / "train"
    main(["collect", "--env", slide, "--steps", "400", "--history", "2", "--out", str(data)])
    form = RolloutBuffer.load(data).form
    assert form is not None
    assert form.history == 2
    main(["train", "--data", str(data), "--out", str(trained), "--train.updates", "2", "--train.base-updates", "60",
          "--train.model.hidden", "8", "--train.model.base-hidden", "16", "--train.langevin-steps", "1"])  # fmt: skip
    main(["plan", "--checkpoint", str(trained), "--env", slide, "--reward", "learned", "--data", str(data),
          "--episodes", "1", "--horizon", "2", "--reward-updates", "20", "--out", str(tmp_path / "plan")])  # fmt: skip
    assert len(json.loads((tmp_path / "plan" / "summary.json").read_text())["returns"]) == 1
    main(["online", "--env", slide, "--out", str(tmp_path / "online"), "--model", "feed-forward", "--history", "2",
          "--online.steps", "220", "--online.warm-up", "200", "--horizon", "2", "--evaluate", "1"])  # fmt: skip
    summary, settings = (
        json.loads((tmp_path / "online" / f"{n}.json").read_text()) for n in ("summary", "settings")
    )
    assert summary["steps"] == 224
    assert settings["sampler"] == "cem"


def test_searches_are_the_default_for_choices():
    run = online(history=1)
    run.run(224)
    assert isinstance(run.agent().planner.sampler, CEM)
