"""A run that is killed, at any moment, and goes on as if nothing had happened."""

import signal
import time
from pathlib import Path

import pytest
import torch

from ebm_control.models import TrajectoryModel, fit_model
from ebm_control.training import latest_checkpoint, load_checkpoint
from tests.helpers import Forked, same
from tests.training.helpers import linear_buffer, tiny

pytestmark = pytest.mark.slow

SETTINGS = tiny(updates=150, checkpoint_every=10)
VICTIM = """
from ebm_control.models import fit_model
from tests.training.helpers import linear_buffer
from tests.training.test_kill import SETTINGS
fit_model(linear_buffer(), SETTINGS, folder={folder!r}, progress=False, resume=True)
"""


def killed_run(folder: Path, at: int, share: float) -> None:
    """Start a run in a process of its own and kill it after update `at`.

    It dies a `share` of the way from one checkpoint to the next at its own pace, so that a fast and a slow
    machine kill at the same point, far from the end.
    """
    victim = Forked(VICTIM.format(folder=str(folder)))
    try:
        began, first = when_reached(1, folder, victim)
        now, step = when_reached(at, folder, victim)
        time.sleep(share * (now - began) / max(step - first, 1) * SETTINGS.checkpoint_every)
    finally:
        victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL, "the run ended before it was killed"


def when_reached(at: int, folder: Path, victim: Forked) -> tuple[float, int]:
    """Time at which a checkpoint of update `at` or a later one is there, and its update."""
    while True:
        newest = latest_checkpoint(folder / "checkpoints")
        step = 0 if newest is None else int(newest.name.removeprefix("step_"))
        if step >= at:
            return time.monotonic(), step
        assert victim.poll() is None, f"the run ended before update {at}"
        time.sleep(0.005)


def test_killed_run_is_resumed_to_the_same_weights_to_the_bit(tmp_path):
    whole = fit_model(linear_buffer(), SETTINGS, folder=tmp_path / "whole", progress=False)
    killed_run(tmp_path / "killed", at=30, share=0.5)
    found = latest_checkpoint(tmp_path / "killed" / "checkpoints")
    assert found is not None
    done = load_checkpoint(found).state["step"]
    assert 30 <= done < 150
    resumed = fit_model(linear_buffer(), SETTINGS, folder=tmp_path / "killed", progress=False, resume=True)
    outcome = resumed.training
    assert outcome.updates == 150 - done
    assert same(whole.energy.state_dict(), resumed.energy.state_dict())
    ends = [load_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "killed")]
    assert ends[0].state["step"] == 150
    assert same(dict(ends[0].state), dict(ends[1].state))


@pytest.mark.parametrize(
    "kind",
    [
        {"base": "none"},
        {"base": "gaussian", "gaps": (1, 4)},
        {"kind": "window", "window": 6},
        {"states_only": True},
    ],
    ids=["none", "gaps", "window", "states"],
)
def test_resumed_run_of_every_kind_ends_with_the_same_weights(tmp_path, kind):
    settings = tiny(updates=20, checkpoint_every=10, **kind)
    whole = fit_model(linear_buffer(), settings, folder=tmp_path, progress=False)
    last = latest_checkpoint(tmp_path / "checkpoints")
    assert last is not None
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    resumed = fit_model(linear_buffer(), settings, folder=tmp_path, progress=False, resume=True)
    outcome = resumed.training
    assert outcome.updates == 10
    assert same(whole.energy.state_dict(), resumed.energy.state_dict())


def test_finished_run_is_taken_up_without_an_update(tmp_path):
    settings = tiny(updates=10)
    whole = fit_model(linear_buffer(), settings, folder=tmp_path, progress=False)
    again = fit_model(linear_buffer(), settings, folder=tmp_path, progress=False, resume=True)
    outcome = again.training
    assert outcome.updates == 0
    loaded = TrajectoryModel.load(tmp_path / "checkpoints")
    x = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole.energy(x), again.energy(x))
    assert torch.equal(whole.energy(x), loaded.energy(x))
