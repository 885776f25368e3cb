import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import Normalizer, RolloutBuffer, window_batches
from tests.helpers import lines_of


def random_buffer(lengths=(40, 25, 3), obs_dim=3, act_dim=2) -> RolloutBuffer:
    rng, buffer = (
        np.random.default_rng(0),
        RolloutBuffer(obs_dim, act_dim, periods=(2.0, *[0.0] * (obs_dim - 1))),
    )
    for steps in lengths:
        obs, act = rng.normal(1, 2, (steps + 1, obs_dim)), rng.normal(3, 1, (steps, act_dim))
        buffer.add_episode(obs, act)
    return buffer


def test_batches_are_normalised_windows_of_the_buffer():
    buffer = random_buffer((9,))
    normalizer = buffer.normalizer()
    batches = window_batches(buffer, normalizer, 300, 3, gap=2, dtype=torch.float64)
    batch, context, index = next(batches)
    assert batch.shape == (300, 3, 5)
    assert context is None
    episode = next(buffer.episodes())
    pairs = np.stack([episode.actions[i : i + 2].mean(0) for i in range(8)])
    obs = normalizer.normalize_observations(torch.from_numpy(episode.observations))
    act = torch.cat([normalizer.normalize_actions(torch.from_numpy(pairs)), torch.zeros(2, 2)])
    rows = torch.cat([obs, act], dim=1)
    windows = torch.stack([rows[i : i + 5 : 2] for i in range(6)])
    distance = (batch.unsqueeze(1) - windows).abs().amax((2, 3))
    assert distance.amin(1).max() < 1e-12
    assert torch.equal(distance.argmin(1), index)
    assert index.unique().numel() == batches.num_windows == 6


def test_resumed_iterator_gives_the_same_batches(tmp_path):
    buffer = random_buffer()
    normalizer = buffer.normalizer()
    running = window_batches(buffer, normalizer, 16, 2, gaps=(1, 4, 16), seed=3)
    for _ in range(5):
        next(running)
    torch.save(running.state_dict(), tmp_path / "state.pt")
    resumed = window_batches(buffer, normalizer, 16, 2, gaps=(1, 4, 16), seed=99)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(20):
        for a, b in zip(next(running), next(resumed), strict=True):
            assert torch.equal(a, b)


def test_context_is_log2_of_the_gap_and_windows_of_all_gaps_have_their_own_index():
    buffer = random_buffer()
    batches = window_batches(buffer, buffer.normalizer(), 8, 2, gaps=(1, 4, 16))
    seen: dict[float, set[int]] = {}
    for _ in range(40):
        windows, context, index = next(batches)
        assert windows.shape == (8, 2, 5)
        assert context.shape == (8, 1)
        assert context.unique().numel() == 1
        seen.setdefault(context[0].item(), set()).update(index.tolist())
    assert seen.keys() == {0.0, 2.0, 4.0}
    assert max(map(max, seen.values())) < batches.num_windows == (40 + 25 + 3) + (37 + 22) + (25 + 10)
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_equal_seeds_give_equal_batches_and_others_do_not():
    buffer = random_buffer()
    a, b, c = (window_batches(buffer, buffer.normalizer(), 32, seed=seed) for seed in (1, 1, 2))
    first = next(a).x
    assert torch.equal(first, next(b).x)
    assert not torch.equal(first, next(c).x)


def test_a_batch_is_drawn_without_a_loop_over_its_windows_or_the_episodes():
    def lines(size, episodes):
        buffer = random_buffer((60,) * episodes)
        batches = window_batches(buffer, buffer.normalizer(), size, 2, gaps=(1, 4))
        next(batches)
        return lines_of(lambda: next(batches))

    few = lines(8, 3)
    assert 0 < few == lines(512, 3) == lines(8, 50)


@pytest.mark.parametrize("value", [-1, 1.5, 2.0, float("nan"), float("inf"), True, "two", []], ids=repr)
@pytest.mark.parametrize("name", ["batch_size", "length", "gap", "gaps", "seed"])
def test_numbers_that_make_no_sense_are_refused_by_name(name, value):
    buffer, given = random_buffer(), (value,) if name == "gaps" else value
    with pytest.raises(InputError, match=rf"^{name}: expected a whole number"):
        window_batches(buffer, buffer.normalizer(), **{"batch_size": 8, "length": 2} | {name: given})


@pytest.mark.parametrize("gaps", ["12", 3, 1.5, {1, 2}])
def test_gaps_are_a_sequence(gaps):
    buffer = random_buffer()
    with pytest.raises(InputError, match=r"^gaps: expected a sequence"):
        window_batches(buffer, buffer.normalizer(), gaps=gaps)


def test_bad_requests_are_named():
    buffer = random_buffer()
    with pytest.raises(InputError, match="longest episode has 40"):
        window_batches(buffer, buffer.normalizer(), 8, 50)
    with pytest.raises(InputError, match="normalizer"):
        window_batches(buffer, Normalizer.identity(2, 2), 8, 2)
    with pytest.raises(InputError, match="gaps"):
        window_batches(buffer, buffer.normalizer(), 8, 2, gaps=())
    with pytest.raises(InputError, match="state"):
        window_batches(buffer, buffer.normalizer()).load_state_dict({"generator": torch.zeros(3).byte()})


def test_windows_longer_than_the_data_are_refused():
    buffer = random_buffer((20,) * 3)
    message = (
        "length: expected windows that fit the data, got 30 states .* take 29 steps.*longest episode has 20"
    )
    with pytest.raises(InputError, match=message):
        buffer.sample_windows(4, 30, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match=message):
        window_batches(buffer, buffer.normalizer(), 4, 30)
    with pytest.raises(InputError, match="with gap 16, which take 32 steps; the longest episode has 20"):
        window_batches(buffer, buffer.normalizer(), 4, 3, gaps=(1, 16))
