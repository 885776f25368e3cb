"""Online learning in the situations that users bring: bad readings, loose bounds, ends, breaks, other runs."""

from __future__ import annotations

import signal
import warnings

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from ebm_control.checks import InputError
from ebm_control.control import planner_for
from ebm_control.data import RolloutBuffer
from ebm_control.energies import RewardCost
from ebm_control.models import (
    EndNetwork,
    LearnedReturn,
    ModelSettings,
    RewardNetwork,
    TrainSettings,
    fit_ends,
)
from ebm_control.online import (
    BaselineLearner,
    EnergyLearner,
    LearnedReward,
    OnlineLearning,
    OnlineSettings,
    bounded_normalizer,
)
from ebm_control.online.units import outgrown
from ebm_control.planning import run_episodes
from ebm_control.samplers import Langevin
from tests.data.environments import Broken, Point
from tests.helpers import normal

pytestmark = pytest.mark.slow

TINY = TrainSettings(
    ModelSettings(hidden=(8,), base_hidden=(16,)), updates=2, base_updates=20, batch_size=32, langevin_steps=2
)


def learner(kind="energy", transitions=2000):
    return EnergyLearner(TINY, transitions) if kind == "energy" else BaselineLearner(1, (16,), 20, 32)


def plan(model, step, space=None):
    """Two steps over actions: what is planned does not matter here."""
    space = space or Box(-1, 1, (model.layout.act_dim,), np.float32)
    cost = RewardCost(model.layout, lambda s, a, after: -after.abs().sum(-1))
    sampler = Langevin(3, 0.2, noise=0.0, adapt="rms")
    return planner_for(model, cost, 2, sampler=sampler, action_space=space, chains=1, shooting=True)


def online(env=Point, kind="energy", *, folder=None, resume=False, about=None, model=None, **settings):
    given = {"steps": 300, "environments": 2, "warm_up": 100, "every": 100, "growth": 0.0, "replan_every": 5}
    return OnlineLearning(
        env,
        model or learner(kind),
        plan,
        OnlineSettings(**given | settings),
        folder=folder,
        resume=resume,
        progress=False,
        about=about,
    )


def false_share(data):
    s, a, after = data.transitions()
    return np.mean(np.abs(after - (s + 0.1 * a)).max(axis=1) > 1e-6)


def kept(run):
    return len(run.experience.data) + len(run.experience.held)


def test_one_environment_given_for_several_is_refused_and_works_alone():
    env = Point()
    with pytest.raises(InputError, match=r"^env: expected environments of their own"):
        online(lambda: env)
    run = online(env, environments=1, steps=150)
    run.run()
    assert false_share(run.experience.data) == 0


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_a_reading_that_is_not_finite_is_left_out(what):
    run = online(lambda: Broken(what))
    with pytest.warns(UserWarning, match="a step left out whose observation or reward is not finite"):
        run.run()
    assert run.progress.step == 300
    assert kept(run) == 300 - 2
    assert false_share(run.experience.data) == 0


def test_an_environment_that_is_hardly_ever_finite_is_refused():
    class Deaf(Point):
        def step(self, action):
            observation, *rest = super().step(action)
            return observation * (np.nan if self.t > 1 else 1), *rest

    with (
        pytest.warns(UserWarning, match="a step left out"),
        pytest.raises(InputError, match=r"^env: expected finite observations and rewards"),
    ):
        online(Deaf).run()


def test_an_error_of_the_users_own_plan_loses_nothing(tmp_path):
    def failing(model, step):
        if step > 200:
            raise ZeroDivisionError("of the user")
        return plan(model, step)

    settings = OnlineSettings(steps=400, environments=2, warm_up=100, every=100, growth=0.0)
    run = OnlineLearning(Point, learner(), failing, settings, folder=tmp_path, progress=False)
    with pytest.raises(ZeroDivisionError):
        run.run()
    assert online(folder=tmp_path, resume=True, steps=500).progress.step == 300


def test_a_reading_far_outside_of_all_others_is_left_out():
    class Glitch(Point):
        def seen(self):
            return self.s + np.array([0.0, 1e6 * (self.t == 11)])

    run = online(lambda: Glitch(limit=1000), environments=1)
    with pytest.warns(UserWarning, match="1 readings far outside of all others"):
        run.run()
    assert np.abs(run.experience.data.observations).max() < 50
    assert float(run.normalizer.obs_std.max()) < 20


def test_an_environment_that_fails_loses_nothing(tmp_path):
    with pytest.raises(InputError, match="the motor is hot"):
        online(lambda: Broken("error", episode=7), folder=tmp_path).run()
    run = online(lambda: Broken("never"), folder=tmp_path, resume=True)
    assert run.progress.step == 2 * 126
    assert kept(run) == 2 * 126
    run.run()
    assert run.progress.step >= 300


def test_a_signal_waits_for_the_step_and_leaves_a_checkpoint_with_all_of_it(tmp_path):
    class Stopping(Point):
        calls = 0

        def step(self, action):
            Stopping.calls += 1
            if Stopping.calls == 235:
                signal.raise_signal(signal.SIGINT)
            return super().step(action)

    with pytest.raises(KeyboardInterrupt):
        online(Stopping, folder=tmp_path).run()
    run = online(folder=tmp_path, resume=True)
    assert run.progress.step == kept(run) == 236, "the second environment has taken its step too"
    run.run()
    assert kept(run) == run.progress.step == 300


@pytest.mark.parametrize("kind", ["energy", "feed-forward"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"^settings: .*'seed'"),
        ({"environments": 4}, r"^settings: .*'environments'"),
        ({"noise": 0.2}, r"^settings: .*'noise'"),
        ({"env": lambda: Point(dim=3)}, r"^observation_space: expected"),
        ({"env": lambda: Point(high=2.0)}, r"^action_space: expected"),
        ({"about": {"horizon": 3}}, r"^about: expected .*'horizon'"),
    ],
)
def test_a_run_is_not_resumed_as_another(tmp_path, kind, changes, message):
    online(kind=kind, folder=tmp_path, about={"horizon": 2}).run(200)
    with pytest.raises(InputError, match=message):
        online(**{"kind": kind, "folder": tmp_path, "resume": True, "about": {"horizon": 2}} | changes)
    run = online(kind=kind, folder=tmp_path, resume=True, about={"horizon": 2}, steps=400)
    assert run.progress.step == 200


def test_the_experience_of_another_run_is_refused(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        online(folder=tmp_path / name, seed=seed).run(200)
    mine, other = (tmp_path / name / "experience" / "step_00000200" / "data.npz" for name in ("a", "b"))
    mine.write_bytes(other.read_bytes())
    with pytest.raises(InputError, match="expected the experience that its checkpoint was written with"):
        online(folder=tmp_path / "a", resume=True)


def test_rare_flags_and_heavy_tails_ask_for_no_new_units():
    rng = np.random.default_rng(0)
    for column in (
        rng.random(2001) < 1 / 300,
        rng.standard_t(2, 2001),
        np.where(rng.random(2001) < 0.01, 30.0, 0.0),
    ):
        data = RolloutBuffer(1, 1)
        data.add_episode(column.astype(float)[:, None], np.zeros((2000, 1)))
        assert not outgrown(data, data.normalizer()).any()


def test_files_of_the_user_in_the_folder_stay(tmp_path):
    mine = tmp_path / "experience" / "step_by_step" / "notes.txt"
    also = tmp_path / "experience" / "step_00000001" / "notes.txt"
    data = also.with_name("data.npz")
    for path in (mine, also, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    run = online(folder=tmp_path, steps=500)
    run.run()
    assert mine.read_text() == also.read_text() == data.read_text() == "mine"
    names = {path.name for path in (tmp_path / "experience").iterdir()}
    assert names == {"step_by_step", "step_00000001", "step_00000400", "step_00000500"}


def walk(scale=1.0, start=0.0, n=200, dim=2):
    rng, buffer = np.random.default_rng(0), RolloutBuffer(dim, 1)
    buffer.add_episode(start + scale * rng.standard_normal((n + 1, dim)), rng.uniform(-1, 1, (n, 1)))
    return buffer


@pytest.mark.parametrize("bound", [10.0, 1e3, 1e5, 3e38, np.inf])
def test_loose_bounds_are_no_units(bound):
    units = bounded_normalizer(walk(), Box(-bound, bound, (2,), np.float64))
    assert torch.allclose(units.obs_std, torch.ones(2).double(), atol=0.2)
    units = bounded_normalizer(walk(start=20.0), Box(-1.0, 1.0, (2,), np.float64))
    assert torch.allclose(units.obs_mean, torch.full((2,), 20.0).double(), atol=0.5), (
        "data beyond their bounds"
    )


def test_units_are_outgrown_by_data_that_spread_lie_far_out_or_begin_to_move():
    units = walk().normalizer()
    assert not outgrown(walk(), units).any()
    assert outgrown(walk(scale=4.0), units).all()
    assert outgrown(walk(start=15.0), units).all()
    still = RolloutBuffer(2, 1)
    still.add_episode(np.ones((9, 2)), np.zeros((8, 1)))
    assert not outgrown(still, still.normalizer()).any()
    assert outgrown(walk(scale=0.01, start=1.0), still.normalizer()).all()


@pytest.mark.parametrize("kind", ["energy", "feed-forward"])
def test_units_widen_when_data_leave_them_and_what_was_learned_is_learned_anew(kind):
    class Drifting(Point):
        """Starts farther out from episode to episode."""

        episode = 0

        def reset(self, *, seed=None, options=None):
            _, info = super().reset(seed=seed)
            self.episode += 1
            self.s = self.s * 0.2 + 3.0 * (self.episode - 1)
            return self.seen(), info

    run = online(Drifting, kind, steps=500)
    run.run()
    unit = float(run.normalizer.obs_std[0])
    assert unit > 1.0, "the first 50 steps of each stay within about 0.7"
    x = run.normalizer.normalize_observations(torch.from_numpy(run.experience.data.observations))
    assert float(x.abs().max()) < 12
    assert torch.isfinite(run.learner.error(run.experience.recent(50, run.normalizer))).all()


def test_a_coordinate_that_begins_to_move_late_is_no_longer_held():
    class Late(Point):
        episode = 0

        def reset(self, *, seed=None, options=None):
            self.episode += 1
            return super().reset(seed=seed)

        def seen(self):
            return np.append(self.s, 0.5 if self.episode < 5 else 0.5 + self.s[0])

        def __init__(self):
            super().__init__()
            self.observation_space = Box(-np.inf, np.inf, (3,), np.float64)

    run = online(Late, steps=200)
    run.run(100)
    assert run.model.energy.steady.tolist() == [False, False, True]
    run.run(200)
    assert run.model.energy.steady.tolist() == [False, False, False]


def test_a_dictionary_without_a_goal_is_learned_by_its_reward():
    class Camera(Point):
        def __init__(self):
            super().__init__()
            pixels = Box(0, 255, (4, 4, 3), np.uint8)
            self.observation_space = Dict({"observation": self.observation_space, "pixels": pixels})

        def seen(self):
            return {"observation": self.s.copy(), "pixels": np.zeros((4, 4, 3), np.uint8)}

    run = online(Camera)
    run.run()
    assert false_share(run.experience.data) == 0
    assert len(run_episodes(run.agent(), [Camera()]).returns) == 1


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-1, 1, np.float64), (-1, 1, np.float16), (-3, 3, np.int8), (-np.inf, np.inf, np.float32), (0, np.inf, np.float32),
     (-3.4e38, 3.4e38, np.float32)],
)  # fmt: skip
def test_actions_are_those_of_the_space(low, high, dtype):
    class Strict(Point):
        def step(self, action):
            assert self.action_space.contains(action), repr(action)
            assert np.abs(np.asarray(action, float)).max() < 1e3
            return super().step(action)

    def make():
        env = Strict()
        env.action_space = Box(low, high, (2,), dtype)
        return env

    def plan_in(model, step):
        return plan(model, step, make().action_space)

    settings = OnlineSettings(steps=150, environments=2, warm_up=100, every=50, growth=0.0, noise=0.1)
    run = OnlineLearning(make, learner(), plan_in, settings, progress=False)
    run.run()
    assert false_share(run.experience.data) == 0, "what is recorded is what was taken"


class Unstable(Point):
    """s' = 1.15 s + 0.1 a; pays 1 a step, and ends where |s| > 1."""

    def __init__(self):
        super().__init__(dim=1, limit=100)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = self.s * 0.1
        return self.seen(), {}

    def step(self, action):
        self.s, self.t = 1.15 * self.s + 0.1 * np.asarray(action, np.float64), self.t + 1
        return self.seen(), 1.0, bool(abs(self.s[0]) > 1), self.t >= self.limit, {}


def test_staying_alive_is_learned_from_ends_alone():
    reward = LearnedReward(updates=200)

    def plan_for(model, step):
        space = Unstable().action_space
        return planner_for(
            model,
            20 * reward.cost(run),
            10,
            action_space=space,
            shooting=True,
            generator=torch.Generator().manual_seed(step),
            preset="online",
        )

    settings = OnlineSettings(steps=1000, environments=4, warm_up=400, every=200, replan_every=3)
    run = OnlineLearning(Unstable, BaselineLearner(1, (64, 64), 150), plan_for, settings, progress=False)
    run.run()
    assert reward.ends > 10
    found = run_episodes(run.agent(), [Unstable() for _ in range(2)], seed=100)
    assert found.mean > 80, "random actions last for about 25 steps, and no step pays less than another"


def test_without_ends_nothing_changes_and_with_them_rewards_stop():
    layout = walk(dim=1).normalizer().layout
    reward, ends = RewardNetwork(layout, (8,)), EndNetwork(layout, (8,))
    reward.mean.fill_(2.0)
    reward.std.fill_(0.5)
    s, a = normal(3, 5, 1, dtype=torch.float32), torch.zeros(3, 5, 1)
    plain = reward(s, a, s) + 4.0
    none = LearnedReturn(reward, ends)(s, a, s)
    assert torch.allclose(none[:, :-1], plain[:, :-1])
    ends.count.fill_(1)
    ends.shift.fill_(50.0)  # every transition ends
    certain = LearnedReturn(reward, ends)(s, a, s)
    assert torch.allclose(certain[:, 0], plain[:, 0], atol=1e-4)
    assert torch.allclose(certain[:, 1:], torch.zeros(3, 4), atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_ends(ends, walk(dim=1), walk(dim=1).normalizer(), 5) == 0
