import copy

import numpy as np
import pytest
import torch

from ebm_control.baselines.bootstrap import stream_bootstrap_counts
from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.data.batch import Batch
from ebm_control.models import ModelSettings
from ebm_control.online import PlannedWindows
from tests.online.helpers import SETTINGS, baseline_learner, begun, energy_learner, rollouts, windows

pytestmark = pytest.mark.slow

NO_PLANS = torch.empty(0)
HELD = rollouts(6, seed=1)
LEARNERS = {
    "energy": energy_learner,
    "feed-forward": lambda **given: baseline_learner(1, **given),
    "ensemble": lambda **given: baseline_learner(5, **given),
}
every_learner = pytest.mark.parametrize("make", LEARNERS.values(), ids=LEARNERS)


def reversed_actions(x):
    """The same windows, with each action the other way (the particle's actions have mean 0)."""
    turned = x.clone()
    turned[:, 0, 2:] *= -1
    return turned


def taught(learner, rounds=2, planned=NO_PLANS):
    """The learner after so many rounds on data that grow by two stretches each, and the metrics of each round."""
    source = list(rollouts(2 * rounds).episodes())
    data, metrics = RolloutBuffer(2, 2), []
    for i in range(rounds):
        for episode in source[2 * i : 2 * i + 2]:
            data.add_episode(episode.observations, episode.actions, episode.rewards)
        if i == 0:
            begun(learner, data)
        metrics.append(learner.update(data, HELD, planned))
    return data, metrics


def unseen(learner):
    return windows(HELD, learner.model.normalizer)


@every_learner
def test_held_out_error_falls_from_round_to_round(make):
    errors = [round["held_out_error"] for round in taught(make(), rounds=3)[1]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 2
    assert errors[-1] < 0.5


@every_learner
def test_reversed_actions_are_surprising_and_what_was_never_seen_but_true_is_not(make):
    learner = make()
    taught(learner, rounds=4)
    x = unseen(learner)
    sound, wrong = learner.surprise(x), learner.surprise(reversed_actions(x))
    assert sound.shape == (len(x),)
    assert sound.mean() < 2  # 1 where the model is right, for two coordinates
    assert wrong.median() > 10 * sound.median()


@every_learner
def test_errors_are_in_typical_displacements(make):
    learner = make()
    taught(learner, rounds=4)
    usual, turned = (
        learner.error(windows(rollouts(4, seed=9, degrees=d), learner.model.normalizer)).median()
        for d in (0, 90)
    )
    assert usual < 0.2
    # A displacement that is turned by a right angle is wrong by the square root of 2 of its length.
    assert 0.8 < turned < 2.0


@every_learner
def test_a_state_taken_up_predicts_alike_and_learns_on_alike(make):
    learner, other, planned = make(), make(seed=3), windows(HELD, begun(make(), HELD).model.normalizer)[:50]
    data, _ = taught(learner, planned=planned)
    x = unseen(learner)
    other.begin(data, learner.model.normalizer)
    assert not torch.equal(learner.surprise(x), other.surprise(x))
    other = make()
    other.begin(data, learner.model.normalizer)
    other.load_state_dict(copy.deepcopy(learner.state_dict()))
    assert torch.equal(learner.surprise(x), other.surprise(x))
    assert torch.equal(learner.displacement_scale, other.displacement_scale)
    metrics = [one.update(data, HELD, planned) for one in (learner, other)]
    assert metrics[0] == metrics[1]
    assert torch.equal(learner.surprise(x), other.surprise(x))


@every_learner
def test_a_state_kept_is_left_alone_by_the_learning_that_follows(make):
    learner = make()
    data, _ = taught(learner)
    kept, before = copy.deepcopy(learner.state_dict()), learner.surprise(unseen(learner))
    learner.update(data, HELD, NO_PLANS)
    assert not torch.equal(learner.surprise(unseen(learner)), before)
    learner.load_state_dict(kept)
    assert torch.equal(learner.surprise(unseen(learner)), before)


@every_learner
def test_equal_seeds_give_equal_learners(make):
    first, second, third = make(), make(), make(seed=1)
    metrics = [taught(learner)[1] for learner in (first, second, third)]
    assert metrics[0] == metrics[1] != metrics[2]
    assert torch.equal(first.surprise(unseen(first)), second.surprise(unseen(second)))


@every_learner
def test_displacements_are_in_units_of_the_first_data(make):
    learner = make()
    data, _ = taught(learner, rounds=1)
    states, _, after = data.transitions()
    typical = torch.from_numpy((after - states).std(axis=0)) / learner.model.normalizer.obs_std
    assert torch.allclose(learner.displacement_scale.double(), typical, rtol=0.05)


def test_the_energy_of_what_was_planned_but_never_happened_rises():
    gaps = []
    for count in (0, 64):
        learner = energy_learner(planned=count, updates=20)
        promised = unseen(begun(learner, HELD))[:100]
        promised[:, 1, :2] += 2 * learner.displacement_scale  # two displacements farther than it would lead
        taught(learner, planned=promised)
        with torch.no_grad():
            tilts = [learner.model.energy.split(x)[1].mean() for x in (promised, unseen(learner))]
        gaps.append(float(tilts[0] - tilts[1]))
    assert gaps[1] > gaps[0] + 0.2


def test_planned_windows_are_drawn_from_those_there_are_and_a_state_goes_on():
    plans, batch = PlannedWindows(6, seed=0), Batch(torch.zeros(3, 2, 4, dtype=torch.float64))
    assert plans(0, batch) is None
    plans.windows = torch.arange(4 * 2 * 4).float().reshape(4, 2, 4)
    drawn = plans(1, batch).x
    assert drawn.dtype == torch.float64
    assert all(any(torch.equal(x.float(), w) for w in plans.windows) for x in drawn)
    other = PlannedWindows(6, seed=9)
    other.load_state_dict(copy.deepcopy(plans.state_dict()))
    assert torch.equal(plans(2, batch).x, other(2, batch).x)
    with pytest.raises(InputError, match=r"count: expected .*at least 1, got 0"):
        PlannedWindows(0, seed=0)


def test_chains_go_on_while_windows_stay_in_place_and_start_afresh_once_they_have_moved_up():
    learner, source = energy_learner(updates=1), rollouts(9)
    data = RolloutBuffer(2, 2, capacity=100)
    filled = []
    for i, episode in enumerate(source.episodes()):
        data.add_episode(episode.observations, episode.actions)
        if i == 0:
            begun(learner, data)
        learner.update(data, HELD, NO_PLANS)
        filled.append(len(learner.trainer.sample_buffer))
    assert filled[0] < filled[1] < filled[3]
    assert max(filled[4:]) <= SETTINGS.batch_size


def test_a_bootstrap_counts_as_poisson_does_and_independently():
    counts = torch.cat([stream_bootstrap_counts(5, 20_000, seed) for seed in (0, 1)]).double()
    error = 20_000**-0.5
    assert (counts.mean(dim=1) - 1).abs().max() < 4 * error
    assert (counts.var(dim=1) - 1).abs().max() < 4 * 3**0.5 * error  # variance of a Poisson(1)'s square is 3
    assert ((counts == 0).double().mean(dim=1) - np.exp(-1)).abs().max() < 4 * 0.48 * error
    correlation = torch.corrcoef(counts) - torch.eye(10)
    assert correlation.abs().max() < 4.5 * error
    neighbours = torch.stack([torch.corrcoef(torch.stack([c[1:], c[:-1]]))[0, 1] for c in counts])
    assert neighbours.abs().max() < 4.5 * error


def test_a_bootstrap_stays_as_the_data_grow():
    few, many = stream_bootstrap_counts(5, 137, 3), stream_bootstrap_counts(5, 5000, 3)
    assert torch.equal(many[:, :137], few)


def test_members_of_an_ensemble_learn_from_bootstraps_of_their_own():
    learner, data = baseline_learner(5), RolloutBuffer(2, 2)
    source = next(rollouts(1).episodes())
    data.add_episode(source.observations[:2], source.actions[:1])  # a single window, one displacement
    begun(learner, rollouts(2))
    dynamics, x = learner.model.dynamics, windows(data, learner.model.normalizer)
    before = dynamics(dynamics.inputs(x[:, 0]).expand(5, -1, -1))[0]
    for _ in range(3):
        learner.update(data, HELD, NO_PLANS)
    after = dynamics(dynamics.inputs(x[:, 0]).expand(5, -1, -1))[0]
    counts = stream_bootstrap_counts(5, 1, 0)[:, 0]
    assert 0 < int((counts == 0).sum()) < 5
    moved = (after - before).abs().amax(dim=(1, 2)) > 1e-3
    assert torch.equal(moved, counts > 0)


@pytest.mark.parametrize(
    "model", [ModelSettings(window=3), ModelSettings(gaps=(1, 4)), ModelSettings(kind="window", window=8)]
)
def test_energies_of_more_than_single_transitions_are_refused(model):
    with pytest.raises(InputError, match=r"settings\.model: expected an energy of transitions"):
        energy_learner(model=model)


def test_an_ensemble_of_no_members_is_refused():
    with pytest.raises(InputError, match="members: expected a whole number of at least 1, got 0"):
        baseline_learner(0)
