import numpy as np
import pytest

from ebm_control.checks import InputError
from ebm_control.online import Experience, bounded_normalizer
from ebm_control.online.experience import Parts
from tests.helpers import assert_equal_up_to_rounding
from tests.online.helpers import BOX, rollouts, windows


class Walk:
    """Environments whose states say which one they are of and how often it moved; episodes end by chance."""

    def __init__(self, environments=3, memory=None, seed=0, ends=0.03):
        self.experience = Experience(2, 1, (), environments, memory)
        self.rng, self.count, self.ends = np.random.default_rng(seed), environments, ends
        self.moved = np.zeros(environments)
        self.executed, self.returns, self.told = [], np.zeros(environments), []
        self.expected = []
        self.experience.begin(np.ones(environments, bool), self.states())

    def states(self):
        return np.stack([np.arange(self.count), self.moved], axis=1)

    def step(self):
        before, actions = self.states(), self.rng.normal(size=(self.count, 1))
        rewards, self.moved = self.rng.normal(size=self.count), self.moved + 1
        self.executed += [*np.concatenate([before, actions, self.states()], axis=1)]
        self.experience.add(self.states(), actions, rewards)
        self.returns += rewards
        done = self.rng.random(self.count) < self.ends
        if done.any():
            self.expected += [(self.returns[i], rewards[i]) for i in np.flatnonzero(done)]
            self.told += self.experience.end(done, done & (self.moved % 2 == 0))
            self.returns[done] = 0.0
            self.moved[done] += 1000  # elsewhere
            self.experience.begin(done, self.states())

    def round(self, steps=20):
        for _ in range(steps):
            self.step()
        self.experience.flush()
        self.experience.take_in()
        return self


def held_and_data(experience):
    return [np.concatenate(part.transitions(), axis=1) for part in (experience.held, experience.data)]


def by_name(rows):
    return np.array(sorted(map(tuple, rows)))


def test_transitions_are_those_executed_in_the_order_of_each_environment():
    walk = Walk()
    for steps in (7, 60, 1, 33):
        walk.round(steps)
    held, data = held_and_data(walk.experience)
    assert np.array_equal(by_name(np.concatenate([held, data])), by_name(walk.executed))
    for part in (held, data):
        for environment in range(3):
            order = part[part[:, 0] == environment, 1]
            assert (np.diff(order) > 0).all()


def test_a_stretch_is_whole_and_says_whether_its_episode_terminated():
    walk = Walk(ends=0.0)
    for _ in range(60):
        walk.step()
    walk.experience.end(np.array([True, True, False]), np.array([True, False, False]))
    walk.experience.flush()
    walk.experience.take_in()
    stretches = [*walk.experience.data.episodes(), *walk.experience.held.episodes()]
    assert max(map(len, stretches)) == 25
    for stretch in stretches:
        assert (np.diff(stretch.observations[:, 1]) == 1).all()
    assert [(s.observations[-1, 0], s.observations[-1, 1]) for s in stretches if s.terminated] == [(0, 60)]


def test_episodes_that_end_give_their_return_and_last_reward_across_rounds():
    walk = Walk(ends=0.05)
    for _ in range(10):
        walk.round(15)
    assert len(walk.told) > 5
    assert np.allclose(walk.told, walk.expected)


@pytest.mark.parametrize("memory", [None, 200])
def test_one_stretch_in_20_is_held_out_for_as_long_as_the_run_lasts(memory):
    walk, held, data = Walk(1, memory, ends=0.0), [], []
    for _ in range(150):
        before = walk.experience.held.num_episodes, walk.experience.held.evicted
        walk.round(20)  # two stretches of ten
        now = walk.experience.held.num_episodes, walk.experience.held.evicted
        held.append(before != now)
        data.append(walk.experience.data.observations[-1, 1])
    assert [i for i, new in enumerate(held) if new] == list(range(0, 150, 10))
    assert data[-1] == 150 * 20


@pytest.mark.parametrize("steps", [2, 3, 40])
def test_a_single_environment_has_held_out_data_from_the_first_round(steps):
    walk = Walk(1, ends=0.0).round(steps)
    assert len(walk.experience.held) >= 1
    assert len(walk.experience.data) >= 1


def test_memory_lets_the_oldest_go():
    walk = Walk(2, memory=100, ends=0.0)
    for _ in range(10):
        walk.round(30)
    assert 100 - 25 < len(walk.experience.data) <= 100
    assert walk.experience.data.observations[:, 1].min() >= 300 - 60
    assert walk.experience.data.evicted > 0


def test_pending_and_recent_are_the_last_transitions_in_the_normalisers_units():
    experience, source = Experience(2, 2, (), 1), rollouts(4)
    normalizer = bounded_normalizer(source, BOX)
    everything = windows(source, normalizer)
    assert experience.pending(normalizer).numel() == 0
    for episode in source.episodes():
        experience.begin(np.array([True]), episode.observations[:1])
        for t in range(len(episode)):
            experience.add(episode.observations[t + 1][None], episode.actions[t][None], np.zeros(1))
    experience.flush()
    # Stretch by stretch and at once.
    assert_equal_up_to_rounding(experience.pending(normalizer), everything)
    experience.take_in()
    assert experience.pending(normalizer).numel() == 0
    assert_equal_up_to_rounding(experience.recent(30, normalizer), everything[-30:])
    assert len(experience.recent(10**6, normalizer)) == len(experience.data)


def test_exchange_gives_back_what_there_was_and_goes_on_where_it_was_left():
    walk, apart = Walk(1, ends=0.0).round(20), Walk(1, ends=0.0).round(20)
    first = walk.experience.exchange()
    assert len(walk.experience.data) == len(walk.experience.held) == 0
    walk.round(20)
    assert len(walk.experience.held) == 10  # there is something to judge by again
    second = walk.experience.exchange(first)
    assert walk.experience.data is first.data
    assert second.data.observations[0, 1] >= 20
    for _ in range(15):
        walk.round(20)
        apart.round(20)
    assert walk.experience.held.num_episodes == apart.experience.held.num_episodes == 2


@pytest.mark.parametrize("memory", [None, 150])
def test_a_round_trip_keeps_both_parts(tmp_path, memory):
    walk, other = Walk(2, memory), Experience(2, 1, (), 2, memory)
    for _ in range(6):
        walk.round()
    walk.experience.parts().save(tmp_path / "deep" / "er")
    other.exchange(Parts.load(tmp_path / "deep" / "er"))
    for kept, found in zip(held_and_data(walk.experience), held_and_data(other), strict=True):
        assert np.array_equal(kept, found)
    assert other.data.capacity == memory
    assert other.data.num_episodes == walk.experience.data.num_episodes


def test_settings_of_no_sense_are_refused():
    with pytest.raises(InputError, match="environments: expected at least 1, got 0"):
        Experience(2, 1, (), 0)
    with pytest.raises(InputError, match="memory: expected None or at least 25, the longest stretch, got 10"):
        Experience(2, 1, (), 1, memory=10)
