"""A run that is stopped by Ctrl-C or SIGTERM leaves a checkpoint, from which it is what it would have been."""

import os
import signal
import time
from pathlib import Path

import pytest

from ebm_control.checks import InputError
from ebm_control.data.images import load_images
from ebm_control.interrupts import termination_raises
from ebm_control.models import fit_images, fit_model
from ebm_control.training import Guard, latest_checkpoint, load_checkpoint
from ebm_control.training.checkpoint import number_of
from ebm_control.training.run_folder import folder_of_one
from tests.helpers import Forked, same
from tests.training.helpers import Resampled, linear_buffer, tiny, toy_trainer, two_modes

pytestmark = pytest.mark.slow

VICTIM = """
from ebm_control.models import fit_model
from tests.training.helpers import linear_buffer
from tests.training.test_interrupted import SETTINGS
fit_model(linear_buffer(), SETTINGS, folder={folder!r}, progress=False, resume=True)
"""
SETTINGS = tiny(updates=100, checkpoint_every=10)


class Stopping:
    """Batches of which one is drawn while a signal comes."""

    def __init__(self, batches, at, number=signal.SIGINT, times=1):
        self.batches, self.at, self.number, self.times, self.drawn = batches, at, number, times, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.drawn += 1
        if self.drawn == self.at:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        return next(self.batches)

    def state_dict(self):
        return self.batches.state_dict()

    def load_state_dict(self, state):
        self.batches.load_state_dict(state)


@pytest.fixture(scope="module")
def undisturbed():
    """A trainer of 25 updates, and its batches."""
    whole, batches = toy_trainer(), Resampled(two_modes())
    whole.fit(batches, 25)
    return whole, batches


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 7, 10, 24])
def test_a_stopped_trainer_is_resumed_to_the_same_state_to_the_bit(tmp_path, undisturbed, number, at):
    whole, batches = undisturbed
    stopped = toy_trainer(checkpoints=tmp_path, checkpoint_every=10)
    with termination_raises(), pytest.raises(KeyboardInterrupt) as stop:
        stopped.fit(Stopping(Resampled(two_modes()), at, number), 25)
    assert stopped.step == at  # the update under way was finished
    assert stop.value.__notes__ == [
        f"checkpoint of update {at} in {latest_checkpoint(tmp_path)}, to be resumed"
    ]
    resumed, others = toy_trainer(checkpoints=tmp_path, checkpoint_every=10), Resampled(two_modes(), seed=9)
    resumed.resume(latest_checkpoint(tmp_path), others)
    assert resumed.step == at
    resumed.fit(others, 25)
    assert same(whole.state_dict(), resumed.state_dict())
    assert same(batches.state_dict(), others.state_dict())


def test_a_second_signal_ends_an_update_at_once_and_nothing_half_done_is_saved(tmp_path):
    trainer = toy_trainer(checkpoints=tmp_path, checkpoint_every=5)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(Stopping(Resampled(two_modes()), 8, times=2), 25)
    assert trainer.step == 7
    assert number_of(latest_checkpoint(tmp_path)) == 5


def test_an_unsound_state_is_not_saved(tmp_path):
    trainer = toy_trainer(checkpoints=tmp_path, checkpoint_every=100, guard=Guard(max_gap=1e-12))
    with pytest.raises(KeyboardInterrupt) as stop:
        trainer.fit(Stopping(Resampled(two_modes()), 8), 25)
    assert "update 8 was not saved: gap is" in stop.value.__notes__[0]
    assert latest_checkpoint(tmp_path) is None


def test_a_checkpoint_that_cannot_be_written_does_not_hide_the_signal(tmp_path):
    trainer = toy_trainer(checkpoints=tmp_path / "run", checkpoint_every=100)
    batches = Stopping(Resampled(two_modes()), 3)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".draft_00000003_{os.getpid()}").write_text("a file where a folder has to be")
    with pytest.raises(KeyboardInterrupt) as stop:
        trainer.fit(batches, 25)
    assert "step_00000003: could not be written" in stop.value.__notes__[0]


def test_without_a_folder_a_stopped_run_leaves_nothing():
    with pytest.raises(KeyboardInterrupt) as stop:
        toy_trainer().fit(Stopping(Resampled(two_modes()), 3), 25)
    assert not hasattr(stop.value, "__notes__")


@pytest.mark.timeout(240)
def test_a_process_that_gets_ctrl_c_is_resumed_to_the_same_weights_to_the_bit(tmp_path):
    whole = fit_model(linear_buffer(), SETTINGS, folder=tmp_path / "whole", progress=False)
    folder = tmp_path / "stopped"
    victim = Forked(VICTIM.format(folder=str(folder)))
    deadline = time.monotonic() + 90
    while latest_checkpoint(folder / "checkpoints") is None:
        assert victim.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline, "no checkpoint within 90 s"
        time.sleep(0.005)
    victim.send_signal(signal.SIGINT)
    assert victim.communicate(timeout=60)[1].strip().endswith("to be resumed")
    done = load_checkpoint(folder / "checkpoints").state["step"]
    assert 0 < done < SETTINGS.updates
    resumed = fit_model(linear_buffer(), SETTINGS, folder=folder, progress=False, resume=True)
    outcome = resumed.training
    assert outcome.updates == SETTINGS.updates - done
    assert same(whole.energy.state_dict(), resumed.energy.state_dict())


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path):
    with folder_of_one(tmp_path):
        with pytest.raises(InputError, match=r"^folder: expected a folder that no other process writes to"):
            fit_model(linear_buffer(), tiny(), folder=tmp_path, progress=False)
        with pytest.raises(InputError, match=r"^folder: expected a folder that no other process writes to"):
            fit_images(load_images("digits").fewer(20), folder=tmp_path, progress=False)
    held = toy_trainer(checkpoints=tmp_path)
    other = toy_trainer(checkpoints=tmp_path)

    class Nested(Stopping):
        def __next__(self):
            with pytest.raises(InputError, match=r"^checkpoints: expected a folder that no other process"):
                other.fit(Resampled(two_modes()), 3)
            return next(self.batches)

    held.fit(Nested(Resampled(two_modes()), 0), 2)
    assert (held.step, other.step) == (2, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "step_00000002"]


def test_the_lock_of_a_killed_run_locks_nothing(tmp_path):
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom ebm_control.training.run_folder import folder_of_one\n"
        f"with folder_of_one(Path({str(tmp_path)!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = Forked(code)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert Path(tmp_path / "checkpoints" / ".run.lock").exists()
    with folder_of_one(tmp_path):
        pass
