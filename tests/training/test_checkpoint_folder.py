"""Which checkpoint of a folder is the newest, and whose files are removed."""

import json
import shutil

import pytest

from ebm_control.checks import InputError
from ebm_control.models import ImageModel, TrajectoryModel, fit_model
from ebm_control.training import CheckpointError, latest_checkpoint, load_checkpoint, save_checkpoint
from ebm_control.training.checkpoint import number_of, remove_checkpoints
from tests.helpers import same
from tests.training.helpers import linear_buffer, resign, small_checkpoint, tiny
from tests.training.test_checkpoint import names


@pytest.mark.parametrize("steps", [(5, 100_000_000), (99_999_999, 100_000_000), (2, 123_456_789_012)])
def test_the_newest_is_the_one_of_the_highest_number_whatever_its_digits(tmp_path, steps):
    for step in reversed(steps):
        save_checkpoint(tmp_path, step, small_checkpoint(step))
    assert number_of(latest_checkpoint(tmp_path)) == steps[1]
    assert load_checkpoint(tmp_path).weights["w"][0, 0] == steps[1]
    save_checkpoint(tmp_path, steps[1] + 1, small_checkpoint(), keep=1)
    assert [number_of(path) for path in tmp_path.iterdir()] == [steps[1] + 1]


@pytest.mark.parametrize(
    "name", ["step_best", "step_00000002_backup", "step_", "step_9e9", "step_-0000001", "latest"]
)
def test_other_names_are_not_checkpoints_and_stay(tmp_path, name):
    save_checkpoint(tmp_path, 1, small_checkpoint(1.0))
    shutil.copytree(tmp_path / "step_00000001", tmp_path / name)
    (tmp_path / "step_00000099").write_text("a file, not a folder")
    assert latest_checkpoint(tmp_path) == tmp_path / "step_00000001"
    for step in (2, 3, 4):
        save_checkpoint(tmp_path, step, small_checkpoint(), keep=1)
    assert names(tmp_path) == sorted([name, "step_00000004", "step_00000099"])
    assert same(dict(load_checkpoint(tmp_path / name).weights), dict(small_checkpoint(1.0).weights))


def test_a_newest_without_manifest_is_said_instead_of_passed_over(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, small_checkpoint())
    (tmp_path / "step_00000002" / "manifest.json").unlink()
    for look in (latest_checkpoint, load_checkpoint):
        with pytest.raises(CheckpointError, match=r"step_00000002: expected .*to go on from step_00000001$"):
            look(tmp_path)
    shutil.rmtree(tmp_path / "step_00000001")
    with pytest.raises(CheckpointError, match=r"step_00000002: expected .*to begin anew$"):
        latest_checkpoint(tmp_path)


def test_only_what_was_written_here_is_removed(tmp_path):
    save_checkpoint(tmp_path, 1, small_checkpoint())
    (tmp_path / "step_00000001" / "notes.txt").write_text("mine")
    mine = tmp_path / "step_00000000"
    mine.mkdir()
    (mine / "manifest.json").write_text(json.dumps({"name": "of another tool"}))
    (tmp_path / ".draft_of_my_paper").mkdir()
    (tmp_path / ".draft_of_my_paper" / "manifest.json").write_text("mine")
    for step in (2, 3):
        save_checkpoint(tmp_path, step, small_checkpoint(), keep=1)
    kept = {"step_00000000/manifest.json", "step_00000001/notes.txt", ".draft_of_my_paper/manifest.json"}

    def files():
        return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}

    assert {name for name in files() if not name.startswith("step_00000003/")} == kept
    remove_checkpoints(tmp_path)
    assert files() == kept


def test_a_folder_of_nothing_but_checkpoints_is_removed_with_them(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path / "checkpoints", step, small_checkpoint())
    remove_checkpoints(tmp_path / "checkpoints")
    remove_checkpoints(tmp_path / "none")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "settings",
    ["[]", "3", "null", "[" * 100_000, '{"model": 3}', '{"model": {"hidden": "wide"}}',
     '{"model": {"hidden": [1000000000000]}, "normalizer": {}}', '{"image_model": {"width": 1e99}, "shape": "abc"}',
     '{"image_model": {}, "shape": [1, -2, 3], "classes": "many", "data": 3}'],
)  # fmt: skip
def test_models_are_not_made_of_settings_of_something_else(tmp_path, settings):
    path = save_checkpoint(tmp_path, 1, small_checkpoint())
    (path / "settings.json").write_text(settings)
    resign(path)
    for kind in (TrajectoryModel, ImageModel):
        with pytest.raises(CheckpointError) as caught:
            kind.load(tmp_path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("change", ["others", "more", "fewer", "order", "one number"])
def test_a_run_is_not_resumed_with_other_data(tmp_path, change):
    data = linear_buffer(episodes=6)
    changed = {
        "others": linear_buffer(episodes=6, seed=1),
        "more": linear_buffer(episodes=7),
        "fewer": linear_buffer(episodes=5),
        "order": rebuilt(data, reverse=True),
        "one number": rebuilt(data, nudge=1e-9),
    }[change]
    fit_model(data, tiny(updates=2), folder=tmp_path, progress=False)
    with pytest.raises(
        InputError, match=r"^buffer: expected the data .*\(360 transitions in 6 episodes, digest "
    ):
        fit_model(changed, tiny(updates=2), folder=tmp_path, resume=True, progress=False)
    fit_model(rebuilt(data), tiny(updates=2), folder=tmp_path, resume=True, progress=False)


def rebuilt(buffer, reverse=False, nudge=0.0):
    """The same episodes in a buffer of their own."""
    made = type(buffer)(buffer.obs_dim, buffer.act_dim)
    episodes = list(buffer.episodes())
    for episode in reversed(episodes) if reverse else episodes:
        made.add_episode(episode.observations + nudge, episode.actions)
        nudge = 0.0
    return made


def test_checkpoints_without_a_digest_are_told_by_their_units(tmp_path):
    data = linear_buffer(episodes=6)
    fit_model(data, tiny(updates=2), folder=tmp_path, progress=False)
    path = latest_checkpoint(tmp_path / "checkpoints")
    settings = json.loads((path / "settings.json").read_text())
    del settings["learned_from"]
    (path / "settings.json").write_text(json.dumps(settings))
    resign(path)
    with pytest.raises(InputError, match=r"^buffer: expected the data .*known by their normalizer"):
        fit_model(
            linear_buffer(episodes=6, seed=1), tiny(updates=2), folder=tmp_path, resume=True, progress=False
        )
    # The same data in another order have the same units up to rounding.
    fit_model(rebuilt(data, reverse=True), tiny(updates=2), folder=tmp_path, resume=True, progress=False)


def test_a_checkpoint_of_another_kind_of_run_is_not_resumed(tmp_path):
    save_checkpoint(tmp_path / "checkpoints", 1, small_checkpoint())
    with pytest.raises(CheckpointError, match="expected a checkpoint of this kind of training"):
        fit_model(linear_buffer(), tiny(updates=2), folder=tmp_path, resume=True, progress=False)
