import json
import pickle
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.models import TrajectoryModel
from ebm_control.training import (
    Checkpoint,
    CheckpointError,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from tests.helpers import full_disk, same, small_disk
from tests.training.helpers import (
    Payload,
    Planted,
    Resampled,
    TiltedGaussian,
    resign,
    small_checkpoint,
    toy_trainer,
    two_modes,
)

pytestmark = pytest.mark.slow

FILES = ["weights.safetensors", "settings.json", "state.pt"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_is_what_is_loaded(tmp_path):
    path = save_checkpoint(tmp_path, 12, small_checkpoint())
    assert path == tmp_path / "step_00000012" == latest_checkpoint(tmp_path)
    for loaded in (load_checkpoint(path), load_checkpoint(str(tmp_path))):
        assert same(dict(loaded.weights), dict(small_checkpoint().weights))
        assert loaded.settings == small_checkpoint().settings
        assert same(dict(loaded.state), dict(small_checkpoint().state))
    assert names(path) == sorted([*FILES, "manifest.json"])


def test_tensors_that_share_memory_are_saved_and_views_come_back_whole(tmp_path):
    energy = TiltedGaussian()
    twice = energy + 0.5 * energy
    matrix = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path, 1, Checkpoint({**twice.state_dict(), "view": matrix.T}, {}, {}))
    weights = dict(load_checkpoint(tmp_path).weights)
    assert torch.equal(weights.pop("view"), matrix.T)
    other = TiltedGaussian(seed=1)
    rebuilt = other + 0.5 * other
    rebuilt.load_state_dict(weights)
    x = torch.randn(5, 2)
    assert torch.equal(rebuilt(x), twice(x))


def test_only_the_newest_are_kept(tmp_path):
    for step in (10, 20, 30, 40):
        save_checkpoint(tmp_path, step, small_checkpoint(step))
    assert names(tmp_path) == ["step_00000030", "step_00000040"]
    save_checkpoint(tmp_path, 50, small_checkpoint(), keep=1)
    assert names(tmp_path) == ["step_00000050"]
    with pytest.raises(InputError, match="keep: expected a whole number of at least 1, got 0"):
        save_checkpoint(tmp_path, 60, small_checkpoint(), keep=0)


def test_new_checkpoint_stays_though_later_ones_are_there(tmp_path):
    for step in (30, 40, 10):
        save_checkpoint(tmp_path, step, small_checkpoint(step))
    assert names(tmp_path) == ["step_00000010", "step_00000030", "step_00000040"]


def test_checkpoint_of_the_same_step_is_replaced(tmp_path):
    for value in (1.0, 2.0):
        save_checkpoint(tmp_path, 5, small_checkpoint(value))
    assert load_checkpoint(tmp_path).weights["w"][0, 0] == 2
    assert names(tmp_path) == ["step_00000005"]


def test_draft_of_a_crash_is_ignored_and_goes_with_the_next_save(tmp_path):
    save_checkpoint(tmp_path, 5, small_checkpoint(1.0))
    draft = tmp_path / ".draft_00000009_123"
    shutil.copytree(tmp_path / "step_00000005", draft)
    (draft / "state.pt").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) == tmp_path / "step_00000005"
    assert load_checkpoint(tmp_path).weights["w"][0, 0] == 1
    save_checkpoint(tmp_path, 10, small_checkpoint())
    assert names(tmp_path) == ["step_00000005", "step_00000010"]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_file_is_refused_by_name(tmp_path, name, kept):
    file = save_checkpoint(tmp_path, 1, small_checkpoint()) / name
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_anywhere_is_refused_by_name(tmp_path, name):
    file = save_checkpoint(tmp_path, 1, small_checkpoint()) / name
    content = file.read_bytes()
    for place in np.random.default_rng(0).integers(len(content), size=20):
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"{name}: truncated or changed"):
            load_checkpoint(tmp_path)
    file.write_bytes(content)
    load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(tmp_path, name):
    path = save_checkpoint(tmp_path, 1, small_checkpoint())
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        load_checkpoint(path)
    (path / name).mkdir()
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        load_checkpoint(path)


def test_no_checkpoint_and_other_formats_are_named(tmp_path):
    for empty in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match="expected a checkpoint folder or a folder of them"):
            load_checkpoint(empty)
    path = save_checkpoint(tmp_path, 1, small_checkpoint())
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(CheckpointError, match="expected format 1, got 99"):
        load_checkpoint(path)
    for nonsense in ("[]", "{}", "not json", '{"sha256": 3, "format": 1}'):
        (path / "manifest.json").write_text(nonsense)
        with pytest.raises(CheckpointError, match=r"manifest\.json: not a manifest"):
            load_checkpoint(path)


@pytest.mark.parametrize("name", ["state.pt", "weights.safetensors"])
@pytest.mark.parametrize("wrap", ["pickle", "torch"])
def test_pickle_posing_as_a_checkpoint_is_refused_and_never_runs(tmp_path, name, wrap):
    path, proof = save_checkpoint(tmp_path, 1, small_checkpoint()), tmp_path / "proof"
    with open(path / name, "wb") as file:
        if wrap == "torch":
            torch.save({"step": Payload(proof)}, file)
        else:
            pickle.dump({"step": Payload(proof)}, file, protocol=2)
    resign(path)
    with pytest.raises(CheckpointError, match=r"refused to load it|weights or settings are not readable"):
        load_checkpoint(path)
    assert not proof.exists()
    with open(path / name, "rb") as file:  # it would have worked on the careless
        torch.load(file, weights_only=False) if wrap == "torch" else pickle.load(file)
    assert proof.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"garbage" * 50, b"PK\x03\x04" + bytes(99), b"(dp0\nS'a'\n."]
)
def test_made_up_bytes_with_a_fitting_digest_are_refused(tmp_path, content):
    path = save_checkpoint(tmp_path, 1, small_checkpoint())
    for name in FILES:
        good = (path / name).read_bytes()
        (path / name).write_bytes(content)
        resign(path)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
        (path / name).write_bytes(good)
        resign(path)
    load_checkpoint(path)


def test_state_that_could_not_be_read_back_is_refused_when_it_is_saved(tmp_path):
    save_checkpoint(tmp_path, 1, small_checkpoint())
    with pytest.raises(CheckpointError, match=r"could not be written.*tensors and plain containers only"):
        save_checkpoint(tmp_path, 2, Checkpoint({}, {}, {"lr": np.float64(0.1), "path": tmp_path}))
    with pytest.raises(CheckpointError, match=r"could not be written.*JSON serializable"):
        save_checkpoint(tmp_path, 2, Checkpoint({}, {"scale": torch.ones(2)}, {}))
    assert names(tmp_path) == ["step_00000001"]


@pytest.mark.parametrize("kind", ["file size limit", "disk"])
def test_full_disk_is_said_and_the_last_checkpoint_survives(tmp_path, kind):
    folder = tmp_path / "disk"
    with small_disk(folder) if kind == "disk" else nullcontext():
        save_checkpoint(folder, 1, small_checkpoint(1.0))
        for room in (60_000, 20_000, 2_000):  # met in the state, in the weights, at once
            with full_disk(kind, folder, room), pytest.raises(CheckpointError) as caught:
                save_checkpoint(folder, 2, small_checkpoint(2.0))
            assert "step_00000002: could not be written" in str(caught.value)
            assert "earlier checkpoints are untouched" in str(caught.value)
            assert names(folder) == ["step_00000001"]
            assert load_checkpoint(folder).weights["w"][0, 0] == 1
        save_checkpoint(folder, 2, small_checkpoint(2.0))
        assert load_checkpoint(folder).weights["w"][0, 0] == 2


def scheduled(**given):
    energy = TiltedGaussian(seed=given.pop("weights", 0))
    optimizer = torch.optim.Adam(energy.parameters(), lr=given.pop("rate", 1e-3))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    return toy_trainer(energy, optimizer=optimizer, scheduler=schedule, **given)


def test_resumed_trainer_has_all_of_the_old_one_and_goes_on_to_the_bit(tmp_path):
    place = torch.tensor([2.0, -2.0])
    old = scheduled(checkpoints=tmp_path, checkpoint_every=10, extra_negatives=[Planted(place)])
    new = scheduled(weights=5, rate=0.3, seed=77, extra_negatives=[Planted(place, seed=5)])
    batches, others = Resampled(two_modes()), Resampled(two_modes(), seed=99)
    old.fit(batches, 20)
    new.resume(tmp_path, others)
    assert (old.step, new.step) == (20, 20)
    assert same(old.state_dict(), new.state_dict())
    parts = {"energy", "average", "buffer", "optimizer", "scheduler", "planned", "generator"}
    assert parts <= old.state_dict().keys()
    old.checkpoints = None
    old.fit(batches, 40)
    new.fit(others, 40)
    assert same(old.state_dict(), new.state_dict())
    assert same(batches.state_dict(), others.state_dict())


def test_weights_of_a_checkpoint_are_the_averaged_ones(tmp_path):
    trainer = toy_trainer(checkpoints=tmp_path, settings={"width": 32}, ema=0.5)
    trainer.fit(Resampled(two_modes()), 5)
    saved = load_checkpoint(tmp_path)
    assert same(dict(saved.weights), dict(trainer.averaged.state_dict()))
    assert saved.settings == {"width": 32}
    assert not same(dict(saved.weights), trainer.energy.state_dict())


def test_checkpoint_of_another_model_is_refused(tmp_path):
    toy_trainer(checkpoints=tmp_path).fit(Resampled(two_modes()), 2)
    with pytest.raises(InputError, match=r"(?s)path: expected a checkpoint of this model.*size mismatch"):
        toy_trainer(TiltedGaussian(width=16)).resume(tmp_path)
    with pytest.raises(InputError, match=r"path: expected a checkpoint of this model.*scheduler"):
        scheduled().resume(tmp_path)
    with pytest.raises(CheckpointError, match="not a checkpoint of a trajectory model"):
        TrajectoryModel.load(tmp_path)


def test_run_that_starts_over_is_kept_from_mixing_its_checkpoints_with_the_old(tmp_path):
    toy_trainer(checkpoints=tmp_path, checkpoint_every=5).fit(Resampled(two_modes()), 20)
    with pytest.raises(InputError, match=r"checkpoints: expected .* none beyond update 0.*step_00000020"):
        toy_trainer(checkpoints=tmp_path, checkpoint_every=5).fit(Resampled(two_modes()), 20)
    assert names(tmp_path) == ["step_00000015", "step_00000020"]
