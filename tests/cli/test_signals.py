"""Ctrl-C and SIGTERM at every command: one line, the status of shells, and nothing half written."""

import signal
import time

import pytest

from ebm_control.data import RolloutBuffer
from ebm_control.models import ImageModel, TrajectoryModel
from ebm_control.training import latest_checkpoint
from ebm_control.training.checkpoint import number_of
from tests.cli.helpers import PROGRAM, SMALL, process, read
from tests.helpers import Forked

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize(
    ("number", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
# Environments that say so at their hundredth step, and then go on slowly.
SLOW = """
import sys, time
from pathlib import Path
ready = Path(sys.argv.pop())
import gymnasium as gym
from ebm_envs.particle import ParticleEnv
class Slow(ParticleEnv):
    steps = 0
    def step(self, action):
        Slow.steps += 1
        if Slow.steps == 100:
            ready.touch()
        if Slow.steps > 100:
            time.sleep(0.02)
        return super().step(action)
gym.register("test/Slow-v0", entry_point=Slow, max_episode_steps=40)
from ebm_control.cli import main
main(sys.argv[1:])
"""

# A signal while the commands are imported, which takes seconds: here as soon as torch is looked for.
AT_ONCE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Finder())
from ebm_control.cli import main
main(["collect", "--help"])
"""


def stopped(arguments, number, ready, program=PROGRAM, wait=0.0):
    """Status and lines of a command that gets a signal once `ready()`."""
    victim = Forked(program, *arguments)
    deadline = time.monotonic() + 200
    while not ready():
        assert victim.poll() is None, victim.communicate()[1]
        assert time.monotonic() < deadline, "not under way after 200 s"
        time.sleep(0.01)
    time.sleep(wait)
    victim.send_signal(number)
    lines = victim.communicate(timeout=120)[1].strip().splitlines()
    return victim.returncode, [line for line in lines if line.strip()]


@BOTH
def test_a_signal_during_the_imports_leaves_one_line(number, status, name):
    victim = process([str(int(number))], AT_ONCE)
    out, err = victim.communicate(timeout=120)
    assert (victim.returncode, out, err) == (status, "", f"stopped by {name}\n")


@BOTH
def test_a_stopped_training_leaves_a_checkpoint_to_go_on_from(runs, tmp_path, number, status, name):
    out, data = tmp_path / "run", str(runs / "data" / "data.npz")
    arguments = ["train", "--data", data, "--out", str(out), *SMALL]
    arguments[arguments.index("--train.updates") + 1] = "100000"
    found = stopped(
        [*arguments, "--train.checkpoint-every", "5"], number, lambda: latest_checkpoint(out / "checkpoints")
    )
    newest = latest_checkpoint(out / "checkpoints")
    last = f"checkpoint of update {number_of(newest)} in {newest}, to be resumed"
    assert found == (status, [f"stopped by {name}; {last}"])
    TrajectoryModel.load(newest)
    assert sorted(path.name for path in out.iterdir()) == ["checkpoints", "events", "settings.json"]
    assert all(path.name.startswith("step_") for path in (out / "checkpoints").iterdir())


@BOTH
def test_a_stopped_training_on_images_leaves_a_checkpoint(tmp_path, number, status, name):
    out = tmp_path / "run"
    small = ["--train.batch-size", "8", "--train.model.width", "4", "--train.updates", "100000"]
    found = stopped(
        ["images", "train", "--out", str(out), *small, "--train.checkpoint-every", "3"],
        number,
        lambda: latest_checkpoint(out / "checkpoints"),
    )
    newest = latest_checkpoint(out / "checkpoints")
    last = f"checkpoint of update {number_of(newest)} in {newest}, to be resumed"
    assert found == (status, [f"stopped by {name}; {last}"])
    ImageModel.load(newest)


@BOTH
def test_a_stopped_collection_saves_what_is_whole(tmp_path, number, status, name):
    out, ready = tmp_path / "run" / "data.npz", tmp_path / "ready"
    arguments = ["collect", "--env", "test/Slow-v0", "--out", str(out), "--num-envs", "2", "--steps", "5000"]
    found, lines = stopped([*arguments, str(ready)], number, ready.exists, SLOW)
    partial = out.with_name("data.partial.npz")
    saved = RolloutBuffer.load(partial)
    assert 80 <= len(saved) < 5000
    said = f"{len(saved)} transitions, {saved.num_episodes} episodes, are in {partial}"
    assert (found, lines) == (status, [f"stopped by {name}; {said}"])
    assert sorted(path.name for path in out.parent.iterdir()) == ["data.partial.npz", "settings.json"]


@BOTH
def test_a_stopped_stream_keeps_the_tasks_that_were_done(tmp_path, number, status, name):
    out = tmp_path / "run"
    arguments = [
        "continual",
        "--stream",
        "permuted-digits",
        "--tasks",
        "40",
        "--updates",
        "60",
        "--out",
        str(out),
    ]
    found, lines = stopped(arguments, number, (out / "summary.json").exists)
    summary = read(out)
    assert summary["finished"] is False
    assert 1 <= summary["tasks"] == len(summary["accuracies"]) < 40
    assert (found, len(lines)) == (status, 1)
    assert lines[0].startswith(f"stopped by {name}; tasks that were done are in {out / 'summary.json'}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "command",
    [
        "predict --checkpoint {run}/train --data {run}/data/data.npz --langevin-steps 1000000",
        "plan --checkpoint {run}/train --env ebm/Particle-v0 --episodes 20 --horizon 40",
        "demo --train.updates 1000000 --train.base-updates 10",
        "images generate --checkpoint {run}/digits --steps 1000000",
    ],
)
def test_a_stopped_command_leaves_its_settings_and_nothing_half_written(runs, tmp_path, command, number):
    out = tmp_path / "run"
    arguments = [*command.format(run=runs).split(), "--out", str(out)]
    found, lines = stopped(arguments, number, (out / "settings.json").exists, wait=0.3)
    assert found == 128 + number
    assert len(lines) == 1
    assert lines[0].startswith("stopped by ")
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert not {name for name in left if "draft" in name or name.endswith("lock")}
    assert "summary.json" not in left
