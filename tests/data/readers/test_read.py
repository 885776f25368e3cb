"""`read`: which format it takes, arguments that a format does not take, damaged files, links to other files."""

import os
import pickle
import warnings

import h5py
import numpy as np
import pytest

import ebm_control as ebm
from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer, to_minari
from ebm_control.data.foreign import recognised
from tests.data.readers.samples import (
    episodes,
    flat,
    of_steps,
    ogbench,
    write_flat,
    write_lerobot,
    write_robomimic,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
RECORDED = episodes(4, 1, 7)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write(kind, folder):
    """A sample of each format."""
    if kind == "lerobot":
        return write_lerobot(folder / kind, RECORDED)
    if kind == "robomimic":
        return write_robomimic(folder / kind, RECORDED)
    if kind == "ebm-control":
        of_steps(RECORDED).save(folder / "own.npz")
        return folder / "own.npz"
    arrays, suffix = (ogbench(RECORDED), ".npz") if kind == "ogbench" else (flat(RECORDED), ".hdf5")
    return write_flat(folder / kind, arrays, suffix)


KINDS = ["ebm-control", "d4rl", "ogbench", "robomimic", "lerobot"]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", KINDS)
def test_the_format_is_recognised_by_the_content(tmp_path, kind):
    path = write(kind, tmp_path)
    if path.is_file():
        path = path.rename(tmp_path / "without_a_suffix")
    for given in (path, str(path)):
        rollouts = ebm.read(given)
        assert rollouts.info.format == kind == recognised(path)
        assert f"{path}: read as {kind}; observation columns" in str(rollouts.info)
    assert ebm.read(path, kind).digest() == rollouts.digest()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ebm-control"])
def test_loading_own_files_points_to_read_for_others(tmp_path, kind):
    path = write(kind, tmp_path)
    if path.is_file():
        with pytest.raises(InputError, match=rf"as {kind} has it; read it with ebm_control\.read\(path\)"):
            RolloutBuffer.load(path)


def test_a_minari_id_is_read_by_minari(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    to_minari(of_steps(RECORDED), "some/data-v0")
    rollouts = ebm.read("some/data-v0")
    assert rollouts.digest() == of_steps(RECORDED).digest()
    assert (rollouts.info.format, rollouts.info.parts) == ("minari", {"observation": slice(0, 2)})
    with pytest.raises(InputError, match=r"Minari reads whole data sets: give the id"):
        ebm.read(tmp_path / "some" / "data-v0")
    with pytest.raises(
        InputError, match=r"keys: expected None for minari; d4rl, ogbench, robomimic, lerobot take it"
    ):
        ebm.read("some/data-v0", keys=("observation",))
    (main,) = (tmp_path / "some" / "data-v0" / "data").glob("*.hdf5")
    with pytest.raises(InputError, match=r"Minari reads whole data sets: give the id"):
        ebm.read(main)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("d4rl", {"split": "train"}, "split: expected None for d4rl; robomimic, lerobot take it, got 'train'"),
        ("ogbench", {"max_episode_steps": 9}, "max_episode_steps: expected None for ogbench; d4rl take it, got 9"),
        ("ebm-control", {"periods": ()}, r"periods: expected None for ebm-control"),
        ("ebm-control", {"keys": ("observations",)}, r"keys: expected None for ebm-control"),
        ("d4rl", {"keys": "observations"}, "keys: expected a sequence of different names"),
        ("d4rl", {"keys": ()}, "keys: expected a sequence of different names"),
        ("d4rl", {"keys": ("a", "a")}, "keys: expected a sequence of different names"),
        ("d4rl", {"keys": (3,)}, "keys: expected a sequence of different names"),
        ("d4rl", {"max_episode_steps": 0}, "max_episode_steps: expected a whole number of at least 1, got 0"),
        ("d4rl", {"format": "hdf5"}, "format: expected one of ebm-control, d4rl, .* got 'hdf5'"),
        ("d4rl", {"format": "robomimic"}, "data: expected an array of this name, got none; there are actions"),
        ("ogbench", {"format": "robomimic"}, "expected an HDF5 file with the group data"),
        ("robomimic", {"format": "d4rl"}, "observations: expected an array of this name, got none; there are data"),
        ("d4rl", {"format": "lerobot"}, "expected whole rollouts of lerobot"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(tmp_path, kind, given, words):
    with pytest.raises(InputError, match=words) as caught:
        ebm.read(write(kind, tmp_path), **given)
    assert "\n" not in str(caught.value)


def test_what_is_no_data_set_is_refused(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path / "none.hdf5"):
        with pytest.raises(InputError, match="which does not exist"):
            ebm.read(path)
    with pytest.raises(
        InputError, match=r"folder of a LeRobot data set with meta/info\.json, got .* another folder"
    ):
        ebm.read(tmp_path)
    with pytest.raises(InputError, match="path: expected a path or a Minari id, got 3"):
        ebm.read(3)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"an npz file with the keys \['a'\]; such files are not read: cut"):
        ebm.read(tmp_path / "other.npz")
    np.save(tmp_path / "one.npy", np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"a \.npy file of one array; such files are not read"):
        ebm.read(tmp_path / "one.npy")
    (tmp_path / "text.npz").write_text("observations")
    with pytest.raises(InputError, match=r"RolloutBuffer\.save"):
        ebm.read(tmp_path / "text.npz")


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.97])
@pytest.mark.parametrize("kind", ["d4rl", "ogbench", "robomimic"])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, kind, kept):
    path = write(kind, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError) as caught:
        ebm.read(path, kind)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_nothing_is_unpickled(tmp_path):
    marker = tmp_path / "marker"
    hidden = np.empty(12, dtype=object)
    hidden[:] = [Runs(marker)] * 12
    path = tmp_path / "a.npz"
    np.savez(path, **flat(RECORDED) | {"rewards": hidden})
    with pytest.raises(InputError, match="allow_pickle=False"):
        ebm.read(path)
    assert not marker.exists()
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        for name, value in flat(RECORDED).items():
            file[name] = value
        del file["rewards"]
        file["rewards"] = np.void(pickle.dumps(Runs(marker)))
    with pytest.raises(InputError, match="rewards: expected an array of real numbers"):
        ebm.read(tmp_path / "b.hdf5")
    assert not marker.exists()


def linked(path, other, kind):
    """Let `observations` of the file be that of another one."""
    with h5py.File(path, "r+") as file:
        shape = file["observations"].shape
        del file["observations"]
        if kind == "external":
            file["observations"] = h5py.ExternalLink(str(other), "/observations")
        elif kind == "soft":
            file["elsewhere"] = h5py.ExternalLink(str(other), "/")
            file["observations"] = h5py.SoftLink("/elsewhere/observations")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, np.float32)
            layout[:] = h5py.VirtualSource(str(other), "observations", shape)
            file.create_virtual_dataset("observations", layout)
        else:
            size = int(np.prod(shape)) * 4
            file.create_dataset("observations", shape, np.float32, external=[(str(other), 0, size)])
    return path


@pytest.mark.parametrize("kind", ["external", "soft", "virtual", "storage"])
def test_links_to_other_files_are_refused(tmp_path, kind):
    other = write_flat(tmp_path / "other", flat(RECORDED))
    path = linked(write_flat(tmp_path / "a", flat(RECORDED)), other, kind)
    with h5py.File(path, "r") as file:
        assert file["observations"].shape == (12, 2), "h5py itself follows it"
    with pytest.raises(
        InputError, match="observations: expected the data itself; copy the data sets into one file"
    ):
        ebm.read(path)


def test_links_within_robomimic_files_are_refused(tmp_path):
    other = write_robomimic(tmp_path / "other", RECORDED)
    path = write_robomimic(tmp_path / "a", RECORDED)
    for name in ("data/demo_1", "data/demo_1/obs/object", "data"):
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = h5py.ExternalLink(str(other), f"/{name}")
        with pytest.raises(InputError, match="got a link, ExternalLink"):
            ebm.read(path)
        with h5py.File(path, "r+") as file, h5py.File(other, "r") as source:
            del file[name]
            source.copy(name, file, name)


def test_one_warning_counts_what_is_left_out_and_points_to_the_caller(tmp_path):
    path = write("ogbench", tmp_path)
    with pytest.warns(UserWarning, match="3 of 15 actions left out") as caught:
        ebm.read(path)
    assert [warning.filename for warning in caught] == [__file__]
