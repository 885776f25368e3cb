"""Minari datasets: nothing that they name is run, ids stay within their folder, and writing is all or nothing."""

import builtins
import json
import resource
import sys

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from minari.data_collector import EpisodeBuffer

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer, collect_mujoco, from_minari, to_minari
from tests.helpers import Forked

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Minari asks for an author and a code link
RECORDER = """
from pathlib import Path
import gymnasium as gym
import numpy as np

Path({marker!r}).write_text("imported")
gym.register("Named-v0", entry_point="recorder:Env")

class Env(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float64)

    def __init__(self, **given):
        Path({marker!r}).write_text("made")

class Wrapper(gym.Wrapper):
    def __init__(self, env, **given):
        super().__init__(env)
        Path({marker!r}).write_text("wrapped")
"""


class Plain(gym.Env):
    """Registered by the user in these tests."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float64)
    made: list = []  # noqa: RUF012  (what each was made with)

    def __init__(self, **given):
        Plain.made.append(given)


class Failing(Plain):
    """Cannot be made, or closed, in the way its registration names."""

    def __init__(self, error=None, closing=None):
        super().__init__()
        self._closing = closing
        self._raise(error)

    def close(self):
        self._raise(self._closing)

    def _raise(self, error):
        if error is not None:
            raise getattr(builtins, error)("two\nlines")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    root = tmp_path / "datasets"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    known = dict(gym.registry)
    Plain.made.clear()
    yield root
    gym.registry.clear()
    gym.registry.update(known)


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that module `recorder` writes when it is imported or anything of it is made."""
    marker = tmp_path / "marker"
    (tmp_path / "recorder.py").write_text(RECORDER.format(marker=str(marker)))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield marker
    sys.modules.pop("recorder", None)


def small() -> RolloutBuffer:
    buffer = RolloutBuffer(2, 1)
    rng = np.random.default_rng(0)
    buffer.add_episode(rng.uniform(-1, 1, (5, 2)), rng.uniform(-1, 1, (4, 1)), np.zeros(4))
    return buffer


def written(folder, spec: EnvSpec | str | None, name="some-v0", **changes) -> str:
    """A dataset whose metadata name `spec`, as whoever wrote it liked to."""
    to_minari(small(), name)
    file = folder / name / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata.pop("ebm_control")  # checksum
    text = spec.to_json() if isinstance(spec, EnvSpec) else spec
    metadata.update({"env_spec": text, **changes})
    file.write_text(json.dumps({k: v for k, v in metadata.items() if v is not None}))
    return name


def named(name="Named-v0", entry_point="recorder:Env", **given) -> EnvSpec:
    return EnvSpec(name, entry_point, **given)


def wrapped(name) -> EnvSpec:
    return EnvSpec(name, additional_wrappers=(WrapperSpec("Wrapper", "recorder:Wrapper", {}),))


def test_the_recorder_records(folder, marker):
    minari.load_dataset(written(folder, named())).recover_environment()
    assert marker.read_text() == "made"


@pytest.mark.parametrize(
    "spec",
    [
        named(),
        named(vector_entry_point="recorder:Env"),
        named("recorder:Named-v0"),
        named("recorder:Other-v3", None),
        named("Known-v0"),
        named("Known-v0", kwargs={"given": "by the dataset"}),
        wrapped("Known-v0"),
        wrapped("Named-v0"),
    ],
    ids=lambda spec: f"{spec.id}-{spec.entry_point}-{len(spec.additional_wrappers)}",
)
def test_nothing_that_a_dataset_names_is_imported_or_made(folder, marker, spec):
    gym.register("Known-v0", entry_point=Plain, kwargs={"own": 1})
    name = written(folder, spec, eval_env_spec=named().to_json())
    assert len(from_minari(name)) == 4
    assert len(from_minari(minari.load_dataset(name))) == 4
    assert not marker.exists()
    # What is registered here is made as it is registered here.
    assert Plain.made == ([{"own": 1}] * 2 if spec.id == "Known-v0" else [])


def test_missing_spaces_are_not_asked_of_an_environment(folder, marker):
    for i, missing in enumerate(("observation_space", "action_space")):
        name = written(folder, named(), f"lacking-v{i}", **{missing: None})
        with pytest.raises(InputError, match=f"both spaces in its metadata, got '{name}' without {missing}"):
            from_minari(name)
    assert not marker.exists()


@pytest.mark.parametrize("spec", ["{", "[]", "3", '{"id": 3}', '{"id": ["a"]}', '{"id": null}', "{}", "\0"])
def test_a_spec_that_makes_no_sense_is_passed_over(folder, spec):
    assert len(from_minari(written(folder, spec))) == 4


@pytest.mark.parametrize("error", ["OSError", "AssertionError", "TypeError", "ValueError", "RuntimeError"])
@pytest.mark.parametrize("when", ["error", "closing"])
def test_data_of_an_environment_that_cannot_be_made_here_are_read(folder, error, when):
    gym.register("Failing-v0", entry_point="tests.data.test_minari_safety:Failing", kwargs={when: error})
    buffer = from_minari(written(folder, gym.spec("Failing-v0")))
    assert (len(buffer), buffer.periods) == (4, ())


def test_data_of_an_environment_that_is_not_installed_are_read(folder):
    gym.register("Gone-v0", entry_point="not_here:Env")
    assert len(from_minari(written(folder, gym.spec("Gone-v0")))) == 4


def test_periods_are_those_of_the_environment_registered_here_or_those_given(folder):
    buffer = collect_mujoco("ebm/Reacher-v0", 60)
    to_minari(buffer, "reacher-v0", "ebm/Reacher-v0")
    assert any(buffer.periods)
    assert from_minari("reacher-v0").periods == buffer.periods
    given = (1.5, *(0.0,) * (buffer.obs_dim - 1))
    assert from_minari("reacher-v0", periods=given).periods == given
    assert from_minari("reacher-v0", periods=()).periods == ()
    assert from_minari(minari.load_dataset("reacher-v0"), periods=given).periods == given
    with pytest.raises(InputError, match=r"^periods"):
        from_minari("reacher-v0", periods=(1.0,))
    # Of other dimensions, those of the environment are none of the data's.
    assert from_minari(written(folder, EnvSpec("ebm/Reacher-v0"))).periods == ()


BAD_IDS = [
    "..", "../out-v0", "a/../out-v0", "aa/../../out-v0", "/abs/out-v0", "aa\\out-v0", "..\\out-v0", "aa//out-v0", "aa/",
    "/", "", ".", ".hidden-v0", "aa/.hidden/out-v0", "plain", "aa/plain", "x/y-v0", "out-v0\n", "out-v", "out-v0/",
    "aa/data/out-v0", "data/out-v0", "~/out-v0", "aa bb-v0", "out-v0\0", "C:out-v0", 3, None, b"out-v0",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_IDS)
def test_ids_that_leave_their_folder_or_are_malformed_are_refused_both_ways(folder, tmp_path, name):
    to_minari(small(), "good/one-v0")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"^dataset_id: expected a Minari id"):
        to_minari(small(), name)
    with pytest.raises(InputError, match=r"^dataset: expected a Minari (dataset or its )?id"):
        from_minari(name)
    with pytest.raises(InputError, match=r"^dataset: expected a Minari (dataset or its )?id"):
        from_minari(name, download=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert list(minari.list_local_datasets()) == ["good/one-v0"]


def test_data_outside_the_folder_are_not_read(folder, tmp_path):
    to_minari(small(), "good-v0")
    (folder / "good-v0").rename(tmp_path / "out-v0")
    assert (folder / ".." / "out-v0" / "data").exists()
    with pytest.raises(InputError, match="Minari id"):
        from_minari("../out-v0")


def test_ids_in_use_and_ids_within_another_dataset_are_refused():
    to_minari(small(), "good/one-v0")
    for name, match in [("good/one-v0", "in use"), ("good/one-v0/two-v0", "within good/one-v0")]:
        with pytest.raises(InputError, match=rf"^dataset_id: .*{match}"):
            to_minari(small(), name)
    to_minari(small(), "good/sub/two-v0")
    assert list(minari.list_local_datasets()) == ["good/one-v0", "good/sub/two-v0"]
    assert set(minari.namespace.list_local_namespaces()) == {"good", "good/sub"}
    assert len(from_minari("good/sub/two-v0")) == 4


def policy_that(error):
    """Fails when half of the dataset's folder is there: Minari asks it for a score of reference."""

    def policy(observation):
        raise error

    return {"expert_policy": policy, "num_episodes_average_score": 1}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"data_format": "zip"}, InputError),
        ({"author": 3}, InputError),
        ({"no_such_thing": 3}, InputError),
        ({"description": object()}, InputError),
        ({"eval_env": 3}, InputError),
        ({**policy_that(KeyboardInterrupt())}, KeyboardInterrupt),
        ({**policy_that(OSError("no space left"))}, OSError),
        ({**policy_that(ZeroDivisionError())}, ZeroDivisionError),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else value.__name__,
)
@pytest.mark.parametrize("name", ["one-v0", "new/sub/one-v0"])
def test_a_failed_call_leaves_nothing(folder, given, error, name):
    data = RolloutBuffer(3, 1)
    data.add_episode(np.zeros((4, 3)), np.zeros((3, 1)))
    with pytest.raises(error) as caught:
        to_minari(data, name, "Pendulum-v1", **given)
    assert error is not InputError or "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []
    to_minari(data, name, "Pendulum-v1")
    assert list(minari.list_local_datasets()) == [name]


def test_a_format_whose_package_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "minari.dataset._storages.arrow_storage", raising=False)
    with pytest.raises(InputError, match="pyarrow is not installed"):
        to_minari(small(), "one-v0", data_format="arrow")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("limit", [0, 500, 20_000])
def test_a_full_disk_leaves_nothing(folder, limit):
    data = small()
    data.add_episode(np.zeros((2001, 2)), np.zeros((2000, 1)))
    to_minari(small(), "good-v0")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(OSError, match="File too large"):
            to_minari(data, "new/one-v0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in folder.iterdir()] == ["good-v0"]
    to_minari(data, "new/one-v0")
    assert len(from_minari("new/one-v0")) == 2004


def test_a_killed_process_leaves_no_half_dataset(folder):
    script = """
import os, numpy as np
from ebm_control.data import RolloutBuffer, to_minari
data = RolloutBuffer(3, 1)
data.add_episode(np.zeros((4, 3)), np.zeros((3, 1)))
to_minari(data, "new/one-v0", "Pendulum-v1", num_episodes_average_score=1,
          expert_policy=lambda observation: os.kill(os.getpid(), 9))
"""
    killed = Forked(script)
    killed.communicate()
    assert killed.returncode == -9
    (left,) = folder.iterdir()
    assert left.name.startswith("unfinished-")
    assert "new/one-v0" not in minari.list_local_datasets()
    to_minari(small(), "new/one-v0")
    assert "new/one-v0" in minari.list_local_datasets()


@pytest.mark.parametrize(
    "given",
    [
        {"entry_point": Plain},
        {"entry_point": lambda **given: Plain(**given)},
        {"kwargs": {"array": np.zeros(3)}},
    ],
    ids=["class", "function", "arguments"],
)
def test_of_a_spec_that_json_cannot_hold_the_id_is_kept(folder, given):
    gym.register(
        "Known-v0", **{"entry_point": "tests.data.test_minari_safety:Plain", **given}, max_episode_steps=7
    )
    for i, env in enumerate(("Known-v0", gym.make("Known-v0"), gym.spec("Known-v0"))):
        to_minari(small(), f"some-v{i}", env)
        spec = minari.load_dataset(f"some-v{i}").env_spec
        assert (spec.id, spec.max_episode_steps, spec.entry_point) == ("Known-v0", 7, None)
        assert len(from_minari(f"some-v{i}")) == 4


def test_an_environment_within_a_wrapper_that_cannot_be_made_again_is_kept_and_the_data_are_read():
    monitor = pytest.importorskip("stable_baselines3.common.monitor").Monitor
    gym.register("Known-v0", entry_point="tests.data.test_minari_safety:Plain")
    to_minari(small(), "some-v0", monitor(gym.make("Known-v0")))
    assert minari.load_dataset("some-v0").env_spec.id == "Known-v0"
    assert len(from_minari("some-v0")) == 4


def test_an_environment_without_a_spec_is_not_named():
    to_minari(small(), "some-v0", Plain())
    assert minari.load_dataset("some-v0").env_spec is None
    assert len(from_minari("some-v0")) == 4


def test_episodes_may_be_added_by_minari_itself():
    dataset = to_minari(small(), "some-v0")
    more = EpisodeBuffer(
        observations=np.zeros((3, 2)), actions=np.zeros((2, 1)), rewards=[0.0] * 2,
        terminations=[False, True], truncations=[False] * 2,
    )  # fmt: skip
    dataset.update_dataset_from_buffer([more])
    assert [len(e) for e in from_minari("some-v0").episodes()] == [4, 2]
