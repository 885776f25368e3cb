import gymnasium as gym
import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.entry import load
from ebm_control.online import EnergyLearner, OnlineSettings
from ebm_control.online.effort import scale_steps
from ebm_control.planning import run_episodes
from ebm_control.planning.plan import Plan
from ebm_envs.oracles import particle_oracle
from ebm_envs.switch import DynamicsSwitch, RotatedActions
from tests.online.helpers import PARTICLE, baseline_learner, energy_learner, online, plan, windows

pytestmark = pytest.mark.slow


class Diary(gym.Wrapper):
    """The particle, and every transition `(s, a, s')` that was executed in it."""

    def __init__(self):
        super().__init__(gym.make(PARTICLE))
        self.executed, self.rewards = [], []

    def reset(self, **given):
        observation, info = super().reset(**given)
        self.here = observation["observation"]
        self.rewards.append(0.0)
        return observation, info

    def step(self, action):
        outcome = super().step(action)
        after = outcome[0]["observation"]
        self.executed.append(np.concatenate([self.here, action, after]))
        self.rewards[-1] += float(outcome[1])
        self.here = after
        return outcome


class Listening(EnergyLearner):
    """Keeps what it was given as planned."""

    def update(self, data, validation, plans):
        self.given = [*getattr(self, "given", []), plans.clone()]
        return super().update(data, validation, plans)


def by_name(rows):
    return np.array(sorted(map(tuple, rows)))


def transitions(run):
    parts = (run.experience.data, run.experience.held)
    return np.concatenate([np.concatenate(part.transitions(), axis=1) for part in parts])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """600 steps of the particle, in four environments that keep a diary; steps told after each round."""
    diaries = []

    def make():
        diaries.append(Diary())
        return diaries[-1]

    folder = tmp_path_factory.mktemp("online")
    learning, told = online(make, energy_learner(kind=Listening), folder=folder), []
    learning.run(report=lambda step, _: told.append(step))
    learning.diaries, learning.told = diaries, told
    return learning


def test_a_few_hundred_steps_teach_it_to_reach_the_goal(run):
    episode = run_episodes(run.agent(), [gym.make(PARTICLE, max_episode_steps=20)])
    best = particle_oracle((0, 0), (0.5, 0.5), 20).return_
    assert best == pytest.approx(-4.5)
    assert best - 1.5 < episode.mean <= best + 1e-6
    assert episode.last_rewards[0] > -0.05
    first, last = run.progress.episodes[:4], run.progress.episodes[-4:]
    assert max(ended.return_ for ended in first) < min(ended.return_ for ended in last) - 15


def test_a_step_is_a_step_of_one_environment(run):
    assert run.progress.step == sum(len(diary.executed) for diary in run.diaries) == 600
    assert run.told == [200, 300, 400, 500, 600]
    assert run.progress.rounds == 5


def test_experience_is_what_was_executed(run):
    executed = np.concatenate([diary.executed for diary in run.diaries])
    assert np.array_equal(by_name(transitions(run)), by_name(executed))
    assert len(run.experience.held) > 0


def test_episodes_end_with_the_returns_that_the_environments_gave(run):
    assert [ended.step for ended in run.progress.episodes] == [200] * 4 + [400] * 4 + [600] * 4
    given = [diary.rewards[k] for k in range(3) for diary in run.diaries]
    assert np.allclose([ended.return_ for ended in run.progress.episodes], given)
    assert all(ended.last_reward > -0.1 for ended in run.progress.episodes[-4:])


def test_what_is_planned_says_where_the_very_actions_that_were_taken_would_have_led(run):
    given = run.learner.given
    assert [len(planned) for planned in given] == [0, 100, 200, 300, 400]
    executed = np.concatenate([diary.executed for diary in run.diaries])[:, :4]
    raw = [
        run.normalizer.denormalize_observations(given[-1][:, 0, :2].double()),
        run.normalizer.denormalize_actions(given[-1][:, 0, 2:].double()),
    ]
    planned = torch.cat(raw, dim=1).numpy()
    distance = np.abs(planned[:, None] - executed[None]).max(axis=-1).min(axis=1)
    assert distance.max() < 1e-5
    # Planned in the last episode: the model expects little surprise, and more where other states are led to.
    last = given[-1][-200:]
    other = torch.cat([last[:, :1], last[:, 1:].roll(20, dims=0)], dim=1)
    assert run.learner.surprise(last).median() < 4
    assert run.learner.surprise(last).mean() < 0.1 * run.learner.surprise(other).mean()


def test_planned_transitions_are_kept_from_round_to_round_up_to_a_limit():
    learning = online(
        learner=energy_learner(kind=Listening), environments=10, planned=100, every=40, steps=360
    )
    learning.run()
    assert [len(planned) for planned in learning.learner.given] == [0, 40, 80, 100, 100]


def test_equal_seeds_give_equal_runs():
    runs = []
    for seed in (0, 0, 1):
        learning = online(environments=10, steps=300, every=50, noise=0.1, seed=seed)
        learning.run()
        runs.append(learning)
    first, second, other = (transitions(learning) for learning in runs)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    x = windows(runs[0].experience.held, runs[0].normalizer)
    assert torch.equal(*(learning.learner.surprise(x) for learning in runs[:2]))


def test_a_report_that_is_content_ends_the_run_and_another_call_goes_on():
    learning = online(learner=baseline_learner(), environments=10, steps=500)
    learning.run(report=lambda step, _: step >= 300)
    assert learning.progress.step == 300
    learning.run(400)
    assert learning.progress.step == 400
    learning.run(10**6)
    assert learning.progress.step == 500
    assert len(transitions(learning)) == 500


@pytest.mark.parametrize("members", [1, 5])
def test_models_without_an_energy_learn_in_the_same_loop(members):
    learning = online(learner=baseline_learner(members), environments=20, steps=500)
    learning.run()
    episode = run_episodes(learning.agent(), [gym.make(PARTICLE, max_episode_steps=15)])
    assert episode.mean > -6
    assert episode.last_rewards[0] > -0.05


def test_goals_that_are_set_take_the_place_of_the_environments():
    corner, seen = np.array([-0.6, 0.4]), []

    def goals(observations, fresh):
        seen.append((observations.copy(), fresh.copy()))
        return np.tile(corner, (len(observations), 1))

    learning = online(goals=goals, environments=10, steps=500)
    learning.run()
    assert np.abs(seen[-1][0] - corner).max() < 0.1
    fresh = np.array([flags for _, flags in seen])
    assert np.flatnonzero(fresh.all(axis=1)).tolist() == [0]
    starts = np.array([observations for observations, _ in seen])[fresh]
    assert np.array_equal(starts, np.zeros((10, 2)))


def test_a_resumed_run_has_what_it_had_and_goes_on(run):
    resumed = online(learner=energy_learner(), folder=run.folder, resume=True, steps=700)
    assert resumed.progress == run.progress
    assert np.array_equal(transitions(resumed), transitions(run))
    assert resumed.experience.held.num_episodes == run.experience.held.num_episodes
    x = windows(run.experience.held, run.normalizer)
    assert torch.equal(resumed.learner.surprise(x), run.learner.surprise(x))
    assert torch.equal(torch.cat(resumed._planned), torch.cat(run._planned))
    here = np.array([[0.1, -0.2], [0.3, 0.3]])
    observation = {"observation": here, "desired_goal": np.full((2, 2), 0.5)}
    assert np.array_equal(resumed.agent().predict(observation)[0], run.agent().predict(observation)[0])
    told = []
    resumed.run(report=lambda step, _: told.append(step))
    assert told == [700]
    assert len(transitions(resumed)) == 700
    assert len(resumed.progress.episodes) == 12  # episodes under way were begun anew
    kept = {
        name: {path.name for path in (run.folder / name).iterdir()} for name in ("checkpoints", "experience")
    }
    assert kept["experience"] == kept["checkpoints"] == {"step_00000600", "step_00000700"}


def test_a_folder_with_checkpoints_is_not_overwritten_and_not_taken_for_another_learners(run):
    with pytest.raises(InputError, match="folder: expected none with checkpoints, or resume=True"):
        online(folder=run.folder)
    with pytest.raises(InputError, match=r"^learner: expected the one that .* is of"):
        online(learner=baseline_learner(), folder=run.folder, resume=True)


def test_nothing_is_saved_without_a_folder_or_before_the_first_round(tmp_path):
    with pytest.raises(InputError, match="folder: expected a folder to write to, got None"):
        online().save()
    with pytest.raises(InputError, match="save: expected a run that has begun"):
        online(folder=tmp_path).save()
    with pytest.raises(InputError, match="agent: expected a run that has begun"):
        online().agent()


@pytest.mark.parametrize("learner", [energy_learner, baseline_learner])
def test_where_no_goal_is_set_actions_are_random_and_nothing_is_planned(learner):
    diaries, planned = [], []

    def make():
        diaries.append(Diary())
        return gym.wrappers.TimeLimit(diaries[-1], 15)

    def goals(observations, fresh):
        """The first two environments have one, the others now and then."""
        free = np.arange(len(observations)) >= (2 if sum(map(len, (d.executed for d in diaries))) % 3 else 0)
        return np.where(free[:, None], np.nan, 0.9)

    def remember(step, run):
        planned.append(sum(map(len, run._planned)))

    learning = online(make, learner(), goals=goals, steps=600)
    learning.run(report=remember)
    led, free = (
        np.concatenate([d.executed[60:] for d in part])[:, 2:4] for part in (diaries[:2], diaries[2:])
    )
    assert (free[:, 0] < -0.005).mean() == pytest.approx(0.45, abs=0.1)
    assert (led[:, 0] < -0.005).mean() == pytest.approx(0.45 / 3, abs=0.07)
    assert planned[1] == pytest.approx(2 * 25 * 2 / 3, abs=2)


@pytest.mark.parametrize("effort", [1.0, 2.5])
def test_effort_is_a_multiple_of_the_planners_steps(run, effort):
    planner, plain = plan(run.model, 0), plan(run.model, 0)
    scale_steps(planner, effort)
    assert planner.sampler.steps == effort * plain.sampler.steps
    assert planner.first.steps == effort * plain.first.steps


@pytest.mark.parametrize("learner", [energy_learner, baseline_learner])
def test_more_is_planned_while_what_happens_is_not_what_the_model_knows(learner):
    told = []

    def report(step, learning):
        steps = learning._agent.planner.sampler.steps / plan(learning.model, 0).sampler.steps
        told.append((step, learning.progress.effort, steps))

    turned = {100: RotatedActions(180.0)}
    learning = online(
        lambda: DynamicsSwitch(gym.make(PARTICLE), turned), learner(), steps=500, noise=0.3, effort=3.0
    )
    learning.run(report=report)
    efforts = {step: effort for step, effort, _ in told}
    assert max(efforts[300], efforts[400]) < 2
    assert efforts[500] > 2.5
    assert all(steps == pytest.approx(effort, abs=0.1) for _, effort, steps in told)


def test_effort_on_a_planner_of_your_own_is_refused(run):
    class Own:
        layout, goal_index = run.model.layout, (0, 1)

        def plan(self, start, goal=None, *, warm=None, cold=None, generator=None) -> Plan: ...

    with pytest.raises(InputError, match="plan: expected a Planner or Guided, for effort above 1, got Own"):
        scale_steps(Own(), 2.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "steps: expected a whole number of at least 1, got 0"),
        ("environments", 0, "environments: expected a whole number of at least 1, got 0"),
        ("warm_up", 1, "warm_up: expected a whole number of at least 2, got 1"),
        ("every", 0, "every: expected a whole number of at least 1, got 0"),
        ("replan_every", 0, "replan_every: expected a whole number of at least 1, got 0"),
        ("planned", 0, "planned: expected a whole number of at least 1, got 0"),
        ("growth", -0.1, "growth: expected a number of at least 0, got -0.1"),
        ("tolerance", -1.0, "tolerance: expected a number of at least 0, got -1.0"),
        ("noise", -1.0, "noise: expected a number of at least 0, got -1.0"),
        ("effort", 0.5, "effort: expected a number of at least 1, got 0.5"),
        ("memory", 24, "memory: expected a whole number of at least 25, got 24"),
        ("change", 0.9, "change: expected a number of at least 1, got 0.9"),
    ],
)
def test_settings_of_no_sense_are_refused(name, value, message):
    with pytest.raises(InputError, match=message):
        OnlineSettings(**{name: value})


def test_one_environment_cannot_be_several():
    env = gym.make(PARTICLE)
    with pytest.raises(InputError, match=r"^env: expected an id or a function"):
        online(env)
    assert len(online(env, environments=1).environments) == 1


@pytest.mark.parametrize("learner", [energy_learner, baseline_learner, lambda: baseline_learner(2)])
def test_the_model_of_a_run_folder_loads(learner, tmp_path):
    learning = online(learner=learner(), folder=tmp_path, environments=10, steps=200)
    learning.run()
    found = load(tmp_path)
    assert type(found) is type(learning.model)
    past, actions = np.zeros((1, 2)), np.zeros((1, 3, 2))
    states = [
        model.predict(past, actions, horizon=3, generator=torch.Generator().manual_seed(0)).states
        for model in (found, learning.model)
    ]
    torch.testing.assert_close(*states)
