from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_control.checks import InputError
from ebm_control.data import Normalizer, RolloutBuffer


def counting_buffer(lengths: list[int], capacity: int | None = None) -> RolloutBuffer:
    """State and action of step t in episode e are (e, t): any window tells where it comes from."""
    buffer = RolloutBuffer(2, 2, capacity)
    for e, steps in enumerate(lengths):
        rows = np.stack([np.full(steps + 1, e), np.arange(steps + 1)], axis=1)
        buffer.add_episode(rows, rows[:-1], np.arange(steps), terminated=e % 2 == 0)
    return buffer


def equal(a: RolloutBuffer, b: RolloutBuffer) -> bool:
    pairs = list(zip(a.episodes(), b.episodes(), strict=True))
    return (a.capacity, a.periods) == (b.capacity, b.periods) and all(
        np.array_equal(x.observations, y.observations)
        and np.array_equal(x.actions, y.actions)
        and (x.rewards is None) == (y.rewards is None)
        and (x.rewards is None or np.array_equal(x.rewards, y.rewards))
        and x.terminated == y.terminated
        for x, y in pairs
    )


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    length=st.integers(1, 5),
    gap=st.integers(1, 4),
    capacity=st.one_of(st.none(), st.integers(12, 30)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_windows_never_cross_episodes_at_any_gap(lengths, length, gap, capacity, seed):
    buffer = counting_buffer(lengths, capacity)
    kept = {int(e.observations[0, 0]): len(e) for e in buffer.episodes()}
    needed = (length - 1) * gap
    if max(kept.values()) < needed:
        with pytest.raises(InputError, match=f"longest episode has {max(kept.values())}"):
            buffer.sample_windows(4, length, gap, rng=np.random.default_rng(seed))
        return
    obs, act = buffer.sample_windows(64, length, gap, rng=np.random.default_rng(seed))
    assert obs.shape == act.shape == (64, length, 2)
    assert (obs[:, :, 0] == obs[:, :1, 0]).all()
    assert (np.diff(obs[:, :, 1], axis=1) == gap).all()
    steps = np.array([kept[int(e)] for e in obs[:, 0, 0]])
    last = obs[:, -1, 1]
    assert (last <= steps).all()
    # Mean of the actions t, t+1, .., t+gap-1 is t + (gap - 1) / 2, and 0 where they go beyond the end.
    known = obs[:, :, 1] + gap <= steps[:, None]
    np.testing.assert_allclose(act[:, :, 1], np.where(known, obs[:, :, 1] + (gap - 1) / 2, 0))
    assert known[:, :-1].all()


def test_windows_are_uniform_over_all_valid_ones():
    buffer = counting_buffer([3, 9, 1])
    obs, _ = buffer.sample_windows(60_000, 3, rng=np.random.default_rng(0))
    found, counts = np.unique(obs[:, 0], axis=0, return_counts=True)
    assert len(found) == 2 + 8
    std = np.sqrt(6_000 * 0.9)
    assert (np.abs(counts - 6_000) < 4.5 * std).all()


def test_gap_1_window_holds_the_true_action_of_its_last_row_where_there_is_one():
    obs, act = counting_buffer([5]).sample_windows(200, 2, rng=np.random.default_rng(0))
    inside = obs[:, 1, 1] < 5
    assert inside.any()
    assert not inside.all()
    assert (act[inside, 1] == obs[inside, 1]).all()
    assert (act[~inside, 1] == 0).all()


def test_oldest_episodes_go_first_beyond_capacity():
    buffer = counting_buffer([4] * 1000, capacity=10)
    assert [int(e.observations[0, 0]) for e in buffer.episodes()] == [998, 999]
    assert len(buffer) == 8
    assert buffer.observations.shape == (10, 2)
    assert len(buffer._obs) < 2000  # evicted rows give their room back


def test_transitions_skip_the_seams():
    s, a, following = counting_buffer([3, 1, 2]).transitions()
    assert len(s) == 6
    assert (following - s == [0, 1]).all()
    assert (a == s).all()


def test_saved_buffer_loads_as_it_was(tmp_path):
    buffer = RolloutBuffer(2, 1, capacity=100, periods=(2.0, 0.0))
    rng = np.random.default_rng(0)
    buffer.add_episode(rng.normal(size=(6, 2)), rng.normal(size=(5, 1)), rng.normal(size=5), terminated=True)
    buffer.add_episode(rng.normal(size=(3, 2)), rng.normal(size=(2, 1)))
    buffer.save(tmp_path / "data.npz")
    assert equal(RolloutBuffer.load(tmp_path / "data.npz"), buffer)
    assert [p.name for p in tmp_path.iterdir()] == ["data.npz"]
    RolloutBuffer(2, 1).save(tmp_path / "empty.npz")
    assert len(RolloutBuffer.load(tmp_path / "empty.npz")) == 0


@pytest.mark.parametrize("kept", [0.0, 0.4, 0.99])
def test_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "data.npz"
    counting_buffer([50, 60]).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=r"RolloutBuffer\.save"):
        RolloutBuffer.load(path)


def test_flipped_byte_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    counting_buffer([50, 60]).save(path)
    damaged = bytearray(path.read_bytes())
    at = damaged.index(np.full(8, 1.0).tobytes()[:8])
    damaged[at] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"RolloutBuffer\.save"):
        RolloutBuffer.load(path)
    np.savez(path, observations=np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"RolloutBuffer\.save"):
        RolloutBuffer.load(path)
    np.savez(path, format=np.array([{"pickled": True}], dtype=object))
    with pytest.raises(InputError, match=r"RolloutBuffer\.save"):
        RolloutBuffer.load(path)
    with pytest.raises(InputError, match="existing file"):
        RolloutBuffer.load(tmp_path / "none.npz")


def test_a_file_with_a_nan_is_refused_as_an_episode_with_one_is(tmp_path):
    path, message = (
        tmp_path / "data.npz",
        "observations: expected finite values only, got 1 non-finite, first nan",
    )
    buffer = counting_buffer([5, 5])
    observations = np.zeros((6, 2))
    observations[3, 1] = np.nan
    with pytest.raises(InputError, match=rf"{message} at index \(3, 1\)"):
        buffer.add_episode(observations, np.zeros((5, 2)))
    assert buffer.num_episodes == 2
    buffer.save(path)
    with np.load(path) as file:
        content = dict(file)
    content["observations"][3, 1] = np.nan
    np.savez(path, **content)
    with pytest.raises(InputError, match=rf"path: .*data\.npz.*{message} at index \(3, 1\)"):
        RolloutBuffer.load(path)


def another_method(raw):
    """The raw file with a method of compression of its first entry that zip does not know."""
    at = raw.index(b"PK\x01\x02") + 10
    return raw[:at] + b"\x07\x00" + raw[at + 2 :]


FLIPPED = {
    "a zip method that there is not": another_method,
    "a header that is no Python": lambda raw: raw.replace(b"(1102, 2), }", b"(1102, 2)))}"),
    "a header that does not end": lambda raw: raw.replace(b"(1102, 2), }", b"(1102, 2), ("),
    "a size of all memory": lambda raw: raw.replace(b"(1102, 2), }         ", b"(1102999999999, 2), }"),
    "a size below 0": lambda raw: raw.replace(b"(1102, 2), }", b"(-102, 2), }"),
}


@pytest.mark.parametrize("kind", FLIPPED)
def test_whatever_the_readers_of_a_damaged_file_raise_it_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / "data.npz"
    counting_buffer([500, 600]).save(path)  # so long that headers are read before checksums are compared
    before = path.read_bytes()
    path.write_bytes(FLIPPED[kind](before))
    assert path.read_bytes() != before
    with pytest.raises(InputError, match=r"^path: expected a file that RolloutBuffer\.save wrote") as error:
        RolloutBuffer.load(path)
    assert "\n" not in str(error.value)


NO_COUNTS = [0, -1, 1.5, 2.0, float("nan"), float("inf"), True, "three", [], -(2**70)]
NO_PERIODS = [
    None,
    0.5,
    "ab",
    np.array(["1", "2"]),
    np.zeros((1, 2)),
    (1.0,),
    (np.nan, 0.0),
    (-1.0, 0.0),
    [None, 1.0],
]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("obs_dim", "capacity", "n", "length", "gap") for value in NO_COUNTS]
    + [("act_dim", value) for value in NO_COUNTS if value != 0],  # 0 for states alone
    ids=repr,
)
def test_numbers_that_make_no_sense_are_refused_by_name(name, value):
    sizes, windows = {"obs_dim": 2, "act_dim": 1, "capacity": 10}, {"n": 2, "length": 2, "gap": 1}
    buffer, rng = counting_buffer([5, 6]), np.random.default_rng(0)
    call, given = (
        (RolloutBuffer, sizes) if name in sizes else (partial(buffer.sample_windows, rng=rng), windows)
    )
    with pytest.raises(InputError, match=rf"^{name}: expected a whole number of at least") as error:
        call(**given | {name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", NO_PERIODS, ids=repr)
def test_periods_that_make_no_sense_are_refused_by_name(value):
    for make in (
        lambda: RolloutBuffer(2, 1, periods=value),
        lambda: Normalizer.fit(np.zeros((3, 2)), np.zeros((3, 1)), value),
        lambda: Normalizer.identity(2, 1, value),
    ):
        with pytest.raises(InputError, match=r"^periods: expected \(\) or") as error:
            make()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value", [(0, 2), [0.0, 2.0], np.array([0, 2]), np.array([0.0, 2.0], ">f4"), torch.tensor([0, 2])]
)
def test_periods_of_any_form_are_the_same(value):
    assert RolloutBuffer(2, 1, periods=value).periods == (0.0, 2.0)
    assert Normalizer.identity(2, 1, value).periods == (0.0, 2.0)


def test_bad_episodes_are_refused_and_named():
    buffer = RolloutBuffer(2, 1, capacity=10)
    obs, act = np.zeros((4, 2)), np.zeros((3, 1))
    nan = obs.copy()
    nan[2, 1] = np.nan
    bad = [
        ((nan, act), r"observations.*nan.*\(2, 1\)"),
        ((obs, act, [0, np.inf, 0]), r"rewards.*inf.*\(1,\)"),
        ((obs[:3], act), r"observations.*\(4, 2\).*\(3, 2\)"),
        ((obs, np.zeros((3, 2))), r"actions.*\(any, 1\)"),
        ((obs, act, [0.0]), r"rewards.*\(3,\)"),
        ((obs, "no numbers"), "actions.*numbers"),
        ((obs[:1], act[:0]), "at least one"),
        ((np.zeros((12, 2)), np.zeros((11, 1))), "capacity, 10"),
    ]
    for arguments, message in bad:
        with pytest.raises(InputError, match=message):
            buffer.add_episode(*arguments)
    assert len(buffer) == 0
    with pytest.raises(InputError, match="longest episode has 0"):
        buffer.sample_windows(1, 2, rng=np.random.default_rng(0))


def test_equal_data_have_equal_digests_whatever_the_capacity_and_what_went_before(tmp_path):
    plain = counting_buffer([4, 3, 5])
    bounded = RolloutBuffer(2, 2, capacity=12)
    bounded.add_episode(np.full((8, 2), 7.0), np.full((7, 2), 7.0), np.zeros(7))
    for e in plain.episodes():
        bounded.add_episode(e.observations, e.actions, e.rewards, e.terminated)
    assert bounded.evicted == 7
    bounded.save(tmp_path / "b.npz")
    assert plain.digest() == bounded.digest() == RolloutBuffer.load(tmp_path / "b.npz").digest()
    assert RolloutBuffer(2, 2).digest() == RolloutBuffer(2, 2, 5, (0, 0)).digest()


@pytest.mark.parametrize(
    "change", ["observation", "action", "reward", "no rewards", "end", "cut", "order", "periods"]
)
def test_other_data_have_another_digest(change):
    base = counting_buffer([4, 4])
    episodes = [
        [e.observations.copy(), e.actions.copy(), e.rewards.copy(), e.terminated] for e in base.episodes()
    ]
    if change in ("observation", "action", "reward"):
        episodes[1][("observation", "action", "reward").index(change)].reshape(-1)[-1] += 1e-12
    elif change == "no rewards":
        episodes[1][2] = None
    elif change == "end":
        episodes[0][3] = False
    elif change == "cut":
        o, a, r, end = episodes[1]
        episodes[1:] = [[o[:3], a[:2], r[:2], False], [o[2:], a[2:], r[2:], end]]
    elif change == "order":
        episodes.reverse()
    other = RolloutBuffer(2, 2, periods=(0, 2) if change == "periods" else ())
    for e in episodes:
        other.add_episode(*e)
    assert other.digest() != base.digest()
    assert counting_buffer([4, 4]).digest() == base.digest()


READ = "read it with ebm_control.read(path)"
FOREIGN = {
    "D4RL": (["observations", "actions", "rewards", "terminals", "timeouts"], f", as d4rl has it; {READ}"),
    "OGBench": (["observations", "actions", "terminals", "qpos"], f", as ogbench has it; {READ}"),
    "Minari": (["episode_0", "episode_1"], ", as minari has it; Minari reads whole data sets: give the id"),
    "other": (["a", "b"], "; such files are not read: cut the arrays into episodes"),
}


@pytest.mark.parametrize("suffix", [".npz", ".hdf5", ".data"])
@pytest.mark.parametrize("kind_of_data", FOREIGN)
def test_files_of_others_are_named(tmp_path, kind_of_data, suffix):
    keys, words = FOREIGN[kind_of_data]
    path = tmp_path / f"found{suffix}"
    if suffix == ".npz":
        np.savez(path, **{key: np.zeros(3) for key in keys})
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for key in keys:
                file[key] = np.zeros(3)
    with pytest.raises(
        InputError, match=r"^path: expected a file that RolloutBuffer\.save wrote, got"
    ) as caught:
        RolloutBuffer.load(path)
    said = str(caught.value)
    kind, named = ("an npz", keys) if suffix == ".npz" else ("an HDF5", sorted(keys))
    assert f"{kind} file with the keys {named}" in said
    assert words in said
    advice = "add_episode(observations, actions, rewards, terminated)"
    assert (advice in said) == (kind_of_data == "other")
    assert "\n" not in said


def test_one_array_is_named_as_such(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 2)))
    with pytest.raises(InputError, match=r"got .*a\.npy, a \.npy file of one array; such files are not read"):
        RolloutBuffer.load(tmp_path / "a.npy")


def test_a_sum_holds_the_episodes_of_both_in_order():
    one, other = RolloutBuffer(2, 1, periods=(0.0, 3.0)), RolloutBuffer(2, 1, 10, periods=(0.0, 3.0))
    one.add_episode(np.zeros((3, 2)), np.zeros((2, 1)), [1.0, 2.0], terminated=True)
    other.add_episode(np.ones((4, 2)), np.ones((3, 1)))
    both = one + other
    assert (len(both), both.capacity, both.periods) == (5, None, (0.0, 3.0))
    first, second = both.episodes()
    assert first.rewards.tolist() == [1.0, 2.0]
    assert first.terminated
    assert second.rewards is None
    assert np.array_equal(second.observations, np.ones((4, 2)))
    assert (len(one), len(other)) == (2, 3)


@pytest.mark.parametrize(
    "other", [RolloutBuffer(3, 1), RolloutBuffer(2, 2), RolloutBuffer(2, 1, periods=(1, 0))]
)
def test_buffers_of_other_dimensions_or_periods_do_not_add(other):
    with pytest.raises(InputError, match=r"^buffer: expected 2 observation and 1 action coordinates"):
        RolloutBuffer(2, 1) + other
