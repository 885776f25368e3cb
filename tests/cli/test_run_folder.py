"""A run folder is one process's at a time, and what others wrote there stays as it is."""

import pytest

from ebm_control.checks import InputError
from ebm_control.cli.commands import Predict
from ebm_control.cli.plan import Plan
from ebm_control.cli.run_folder import RunFolder, whole_file
from ebm_control.training import save_checkpoint
from ebm_control.training.logger import SUFFIX, Logger
from tests.cli.helpers import read, refused
from tests.helpers import ROOT, Forked
from tests.training.helpers import small_checkpoint

pytestmark = pytest.mark.slow

COMMAND = Predict(ROOT, "data.npz")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_second_process_on_a_run_folder_is_refused(tmp_path):
    with RunFolder(tmp_path, COMMAND):
        code = (
            "from pathlib import Path\nfrom ebm_control.cli.run_folder import RunFolder\n"
            "from ebm_control.cli.commands import Predict\n"
            f"RunFolder({str(tmp_path)!r}, Predict(Path(), 'data.npz')).__enter__()"
        )
        said = Forked(code).communicate()[1]
        assert "InputError: out: expected a folder that no other process writes to" in said
    with RunFolder(tmp_path, COMMAND):
        pass
    assert set(files(tmp_path)) == {"settings.json"}


@pytest.mark.parametrize(
    "command", ["train", "collect", "online", "continual", "demo", "predict", "plan", "images train"]
)
def test_every_command_is_refused_a_folder_in_use(runs, tmp_path, command, capfd):
    data, model = str(runs / "data" / "data.npz"), str(runs / "train")
    given = {
        "train": ["--data", data],
        "collect": ["--env", "ebm/Particle-v0", "--steps", "90"],
        "online": ["--env", "ebm/Particle-v0"],
        "predict": ["--data", data, "--checkpoint", model],
        "plan": ["--env", "ebm/Particle-v0", "--checkpoint", model],
    }.get(command, [])
    run = tmp_path / "run"
    out = run / "data.npz" if command == "collect" else run
    with RunFolder(run, COMMAND):
        before = files(run)
        said = refused([*command.split(), *given, "--out", str(out)], capfd)
        assert said.startswith("error: out: expected a folder that no other process writes to")
        assert files(run) == before


def test_files_of_the_user_survive_a_run_and_another_one(tmp_path):
    mine = {"checkpoints/mine.txt", "checkpoints/step_best/weights.pt", "checkpoints/step_3/manifest.json",
            "events/mine.txt", "events/events.out.tfevents.123.host", "events/base/mine.log", "figures/mine.png",
            "notes.md", "experience/mine.npz", "experience/step_00000001/mine.npz"}  # fmt: skip
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    before = files(tmp_path)
    for _ in range(2):  # the second time there is something of ours to be removed
        with RunFolder(tmp_path, COMMAND) as folder:
            folder.clear()
            assert {name for name in files(tmp_path) if "tfevents" in name} == {
                "events/events.out.tfevents.123.host"
            }
            save_checkpoint(tmp_path / "checkpoints", 7, small_checkpoint())
            for place in ("events", "events/base"):
                with Logger(tmp_path / place, progress=False) as logger:
                    logger.start(3)
                    logger.metrics(1, {"loss": 1.0})
    left = files(tmp_path)
    assert {name: left[name] for name in before} == before
    assert len([name for name in left if name.endswith(SUFFIX)]) == 2
    assert "checkpoints/step_00000007/manifest.json" in left


def test_clearing_removes_folders_that_are_empty_then(tmp_path):
    with RunFolder(tmp_path, COMMAND) as folder:
        save_checkpoint(tmp_path / "checkpoints", 7, small_checkpoint())
        with Logger(tmp_path / "events" / "base", progress=False) as logger:
            logger.start(3)
        folder.clear()
        assert set(files(tmp_path)) == {"settings.json", ".lock"}
        assert not (tmp_path / "events").exists()
        assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("settings.json", '{"editor": "mine"}'), ("settings.json", "[1, 2]"), ("summary.json", '{"mine": true}'),
     ("settings.json", '{"command": "Plan", "out": "x"}')],
)  # fmt: skip
def test_settings_and_summaries_of_something_else_are_not_overwritten(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=r"^out: expected a new folder or one of an earlier run"):
        RunFolder(tmp_path, COMMAND).__enter__()
    assert files(tmp_path) == {name: content.encode()}


@pytest.mark.parametrize("content", ["", "{", '{"out": ', "\x00\x01", "[" * 100_000])
def test_damaged_settings_are_said_in_one_line(tmp_path, content, capfd):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(
        InputError, match=r"^out: expected settings of an earlier run in .*settings\.json, got what"
    ):
        RunFolder(tmp_path, COMMAND).__enter__()
    said = refused(["continual", "--out", str(tmp_path)], capfd)
    assert "restore it, or choose another folder" in said


def test_a_folder_of_the_same_command_is_taken_again(tmp_path):
    for count in (3, 4):
        with RunFolder(tmp_path, Plan(ROOT, "env", episodes=count)) as folder:
            folder.summarise({"mean": float("nan")})
    assert read(tmp_path, "settings.json")["episodes"] == 4
    assert read(tmp_path) == {"mean": None}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, ValueError])
def test_a_file_is_whole_or_as_it_was(tmp_path, error):
    path = tmp_path / "summary.json"
    path.write_text("before")

    def failing():
        with whole_file(path) as draft:
            assert draft.suffix == path.suffix
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        failing()
    assert files(tmp_path) == {"summary.json": b"before"}
    with whole_file(path) as draft:
        draft.write_text("whole")
    assert files(tmp_path) == {"summary.json": b"whole"}
