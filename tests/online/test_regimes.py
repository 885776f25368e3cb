import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.online import Experience, bounded_normalizer
from ebm_control.online.regimes import heed_change
from ebm_envs.switch import DynamicsSwitch, RotatedActions
from tests.online.helpers import BOX, PARTICLE, baseline_learner, energy_learner, online, rollouts, windows

pytestmark = pytest.mark.slow

ENVIRONMENTS, STAGE = 20, 400  # steps under one dynamics
LEARNERS = {"energy": energy_learner, "feed-forward": baseline_learner}
every_learner = pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS)


def switching(regime=None):
    """The particle, whose actions are turned by a right angle in the second of three stages, or as is asked for."""
    each = STAGE // ENVIRONMENTS
    particle = gym.make(PARTICLE, start="random", goal="random")
    env = DynamicsSwitch(particle, {each: RotatedActions(90), 2 * each: None})
    env.switch_to(regime)
    return env


def learner():
    return energy_learner(base_updates=200, updates=1, langevin_steps=2)


def switched(env=switching, steps=3 * STAGE, **given):
    return online(env, learner(), environments=ENVIRONMENTS, every=200, steps=steps, **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run through all three stages, and after each round: step, regimes put aside, transitions, surprise."""
    folder, told = tmp_path_factory.mktemp("regimes"), []
    probe = rollouts(4, seed=5, degrees=90)

    def report(step, now):
        parts = now.experience.data, now.experience.held
        surprise = now.learner.surprise(windows(probe, now.normalizer))
        told.append((step, len(now.regimes), sum(map(len, parts)), surprise))

    learning = switched(folder=folder, change=5.0)
    learning.run(report=report)
    learning.told, learning.probe = told, probe
    return learning


def test_dynamics_that_change_begin_a_regime_and_those_that_come_back_take_theirs_up_again(run):
    assert [told[:3] for told in run.told] == [
        (200, 0, 200),
        (400, 0, 400),
        (600, 1, 200),  # changed: a new regime of what has just been executed
        (800, 1, 400),
        (1000, 1, 600),  # back: the first regime, and what has just been executed
        (1200, 1, 800),
    ]


def test_what_was_learned_under_other_dynamics_is_kept_while_they_are_gone(run):
    (kept,) = run.regimes
    assert sum(len(part) for part in kept.experience[:2]) == 400
    as_it_was, now = run.told[3][3], run.told[-1][3]
    assert now.median() > 30 * as_it_was.median()
    other = learner()
    other.begin(kept.experience.data, run.normalizer)
    other.load_state_dict(kept.learner)
    assert torch.equal(other.surprise(windows(run.probe, run.normalizer)), as_it_was)


def test_a_resumed_run_knows_its_regimes(run):
    resumed = switched(lambda: switching(1), 4 * STAGE, folder=run.folder, resume=True, change=5.0)
    (kept,), (found,) = run.regimes, resumed.regimes
    for part in ("data", "held"):
        before, after = (getattr(regime.experience, part) for regime in (kept, found))
        assert np.array_equal(before.observations, after.observations)
        assert np.array_equal(before.actions, after.actions)
    resumed.run(1400)
    assert len(resumed.regimes) == 1
    assert len(resumed.experience.data) + len(resumed.experience.held) == 400 + 200
    assert len(resumed.regimes[0].experience.data) == len(run.experience.data)


def test_nothing_is_put_aside_unless_it_is_asked_for():
    learning = switched()
    learning.run(600)
    assert learning.regimes == []
    assert len(learning.experience.data) + len(learning.experience.held) == 600


class Bench:
    """A learner taught by random walks under dynamics that turn, without a planner."""

    def __init__(self, make):
        self.learner, self.experience, self.regimes = make(), Experience(2, 2, (), 1), []
        self.normalizer = None

    def execute(self, degrees, stretches=8, seed=0, length=25):
        """What is executed next; what came before has been taken in."""
        self.experience.take_in()
        for episode in rollouts(stretches, seed, length, degrees).episodes():
            self.experience.begin(np.array([True]), episode.observations[:1])
            for t in range(len(episode)):
                self.experience.add(episode.observations[t + 1][None], episode.actions[t][None], np.zeros(1))
        self.experience.flush()

    def heed(self):
        return heed_change(self.regimes, self.learner, self.experience, self.normalizer, 5.0)

    def learn(self, rounds=3):
        self.experience.take_in()
        if self.normalizer is None:
            self.normalizer = bounded_normalizer(self.experience.data, BOX)
            self.learner.begin(self.experience.data, self.normalizer)
        for _ in range(rounds):
            self.learner.update(self.experience.data, self.experience.held, torch.empty(0))
        return self

    def surprise(self, degrees):
        return self.learner.surprise(windows(rollouts(3, 9, 25, degrees), self.normalizer))


@pytest.fixture(params=LEARNERS.values(), ids=LEARNERS)
def bench(request):
    """Knows two regimes: turned by 90 degrees (in force) and not turned (put aside)."""
    made = Bench(request.param)
    made.execute(0)
    made.learn()
    made.plain = made.surprise(0), made.surprise(90)
    made.execute(0, seed=1)
    assert not made.heed()
    assert made.regimes == []
    made.execute(90, seed=2)
    assert made.heed()
    made.begun = made.surprise(0), len(made.experience.data), len(made.experience.held)
    made.learn()
    return made


def test_a_new_regime_begins_with_the_weights_there_are_and_no_data(bench):
    surprise, *sizes = bench.begun
    assert torch.equal(surprise, bench.plain[0])
    assert sizes == [0, 0]
    assert len(bench.experience.data) + len(bench.experience.held) == 8 * 25


def test_regimes_are_told_apart_by_what_was_executed(bench):
    turned = bench.surprise(90)
    assert turned.median() < bench.plain[1].median() / 30
    bench.execute(0, seed=3)
    assert bench.heed()
    assert torch.equal(bench.surprise(0), bench.plain[0])
    assert len(bench.regimes) == 1
    assert (
        len(bench.experience.data) + len(bench.experience.held) == 16 * 25
    )  # what pends is not yet taken in
    bench.execute(90, seed=4)
    assert bench.heed()
    assert torch.equal(bench.surprise(90), turned)
    assert len(bench.regimes) == 1


def test_dynamics_that_fit_no_known_regime_begin_another_and_leave_the_weights(bench):
    bench.execute(90, seed=7)
    bench.learn()
    turned = bench.surprise(90)
    bench.execute(135, seed=5)
    assert bench.heed()
    assert len(bench.regimes) == 2
    assert torch.equal(bench.surprise(90), turned)
    bench.learn()
    bench.execute(90, seed=6)
    assert bench.heed()
    assert torch.equal(bench.surprise(90), turned)
    assert len(bench.regimes) == 2


@every_learner
def test_a_single_transition_is_no_change(make):
    bench = Bench(make)
    bench.execute(0)
    bench.learn(1)
    bench.experience.take_in()
    assert not bench.heed()
    bench.execute(180, 1, length=1)
    assert not bench.heed()
    assert bench.regimes == []


@every_learner
@pytest.mark.parametrize(("degrees", "changed"), [(12, False), (30, True)])
def test_a_small_error_is_no_change_however_precise_the_model_is(make, degrees, changed):
    bench = Bench(make)
    bench.execute(0, stretches=16)
    bench.learn(6)
    bench.execute(degrees, seed=3)
    pending = bench.experience.pending(bench.normalizer)
    usual = bench.learner.error(bench.experience.recent(200, bench.normalizer)).median()
    assert bench.learner.error(pending).median() > 5 * usual
    assert bench.heed() == changed


def test_a_young_regime_is_not_put_aside_for_another_new_one(bench):
    turned = bench.surprise(90)
    bench.execute(180, seed=5)
    assert not bench.heed()
    assert len(bench.regimes) == 1
    assert torch.equal(bench.surprise(90), turned)
    assert len(bench.experience.data) + len(bench.experience.held) == 8 * 25
