"""What goes wrong around a command ends in one line: disks, pipes, memory, files of others."""

import json
import os

import gymnasium as gym
import numpy as np
import pytest

from ebm_control.cli import main
from ebm_control.data import RolloutBuffer
from ebm_envs.particle import ParticleEnv
from tests.cli.helpers import SMALL, process, read, refused
from tests.helpers import full_disk

pytestmark = pytest.mark.slow

LONG = [*SMALL, "--train.updates", "300"]
COMMANDS = {
    "collect": "collect --env ebm/Particle-v0 --steps 600 --out {out}/data.npz",
    "train": f"train --data {{data}} --out {{out}} {' '.join(SMALL)}",
    "train, events": f"train --data {{data}} --out {{out}} {' '.join(LONG)}",
    "predict": "predict --checkpoint {run}/train --data {data} --out {out} --horizon 3 --windows 4 --langevin-steps 2",
    "plan": "plan --checkpoint {run}/train --env ebm/Particle-v0 --out {out} --episodes 1 --horizon 2 --sampler cem "
    "--max-episode-steps 10",
    "continual": "continual --updates 2 --method softmax --out {out}",
    "generate": "images generate --checkpoint {run}/digits --out {out} --steps 2 --judge-updates 1 --count 8",
}


def command(name, runs, out):
    places = {"run": runs, "data": runs / "data" / "data.npz", "out": out}
    return [part.format(**places) for part in COMMANDS[name].split()]


ROOMS = {
    "collect": 20_000,
    "train": 14_000,
    "train, events": 6000,
    "predict": 3000,
    "plan": 9000,
    "continual": 9000,
    "generate": 5000,
}


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_said_and_nothing_half_written_is_left(runs, tmp_path, name, share, capfd):
    with full_disk("file size limit", tmp_path, round(share * ROOMS[name])):
        said = refused(command(name, runs, tmp_path / "run"), capfd)
    assert "File too large" in said or "could not be written" in said
    assert str(tmp_path / "run") in said
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [file for file in left if "draft" in file or "lock" in file or file.endswith("tmp")]
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text())


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("place", ["run", "run/figures"])
def test_a_file_where_a_folder_has_to_be_is_said_before_the_work(runs, tmp_path, name, place, capfd):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("mine")
    said = refused(command(name, runs, tmp_path / "run"), capfd)
    assert f"out: expected a folder, got {tmp_path / place}" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / place]


@pytest.mark.parametrize("name", ["predict", "plan", "generate"])
def test_a_folder_where_a_file_has_to_be_is_said_before_the_work(runs, tmp_path, name, capfd):
    (tmp_path / "run" / "settings.json").mkdir(parents=True)
    assert "out: " in refused(command(name, runs, tmp_path / "run"), capfd)


def test_a_folder_where_rollouts_have_to_be_is_said_before_the_work(tmp_path, capfd):
    (tmp_path / "run" / "data.npz").mkdir(parents=True)
    assert "out: expected a file" in refused(command("collect", tmp_path, tmp_path / "run"), capfd)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_no_permission_is_said(runs, tmp_path, capfd):
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused(command("predict", runs, tmp_path / "run"), capfd)


def test_a_terminal_that_takes_no_more_is_said(runs, tmp_path):
    with open("/dev/full", "w") as full:
        found = process(command("plan", runs, tmp_path / "run"), stdout=full)
        lines = found.communicate(timeout=200)[1].strip().splitlines()
    assert (found.returncode, lines) == (2, ["error: No space left on device"])
    assert read(tmp_path / "run")["returns"]


@pytest.mark.parametrize("name", ["help", "plan"])
def test_a_reader_that_has_gone_is_no_error_to_speak_of(runs, tmp_path, name):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["--help"] if name == "help" else command(name, runs, tmp_path / "run")
    found = process(arguments, stdout=writer)
    os.close(writer)
    assert found.communicate(timeout=200)[1] == ""
    assert found.returncode != 0


def test_too_little_memory_is_said(runs, tmp_path, capfd):
    arguments = [*command("predict", runs, tmp_path / "run"), "--samples", "1000000000000"]
    assert "memory: expected enough of it" in refused(arguments, capfd)


class Breaking(ParticleEnv):
    """Fails at its fortieth step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            raise RuntimeError("joint torn off")
        return super().step(action)


def test_rollouts_of_an_environment_that_fails_are_saved(tmp_path, capfd):
    gym.register("test/Breaking-v0", entry_point=Breaking, max_episode_steps=25)
    out = tmp_path / "data.npz"
    arguments = [
        "collect",
        "--env",
        "test/Breaking-v0",
        "--num-envs",
        "2",
        "--steps",
        "900",
        "--out",
        str(out),
    ]
    said = refused(arguments, capfd)
    del gym.registry["test/Breaking-v0"]
    saved = RolloutBuffer.load(tmp_path / "data.partial.npz")
    assert "joint torn off" in said
    assert (
        f"{len(saved)} transitions, {saved.num_episodes} episodes, are in {tmp_path / 'data.partial.npz'}"
        in said
    )
    assert 50 <= len(saved) <= 80
    assert not out.exists()


@pytest.fixture
def policy(tmp_path):
    """A zip of a policy for Pendulum, not trained."""
    from stable_baselines3 import SAC

    path = tmp_path / "policy.zip"
    SAC("MlpPolicy", gym.make("Pendulum-v1"), policy_kwargs={"net_arch": [4]}).save(path)
    return path


def test_a_policy_is_used_with_a_warning_that_it_may_run_code(tmp_path, policy, capfd):
    out = tmp_path / "run" / "data.npz"
    main(["collect", "--env", "Pendulum-v1", "--steps", "300", "--policy", str(policy), "--out", str(out)])
    warning = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:")]
    assert warning == [f"warning: --policy unpickles {policy}, which may run code: load only files you trust"]
    assert len(RolloutBuffer.load(out)) == 300
    with pytest.raises(SystemExit):
        main(["collect", "--help"])
    assert "may run code" in " ".join(capfd.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("damage", ["text", "cut", "empty", "npz", "other class", "no class"])
def test_a_zip_that_is_no_policy_is_said_in_one_line(tmp_path, policy, damage, capfd):
    content = policy.read_bytes()
    if damage == "npz":
        np.savez(tmp_path / "other.npz", a=np.ones(3))
        content = (tmp_path / "other.npz").read_bytes()
    policy.write_bytes(
        {"text": b"not a zip", "cut": content[: len(content) // 2], "empty": b""}.get(damage, content)
    )
    more = {"other class": ["--algorithm", "DQN"], "no class": ["--algorithm", "HerReplayBuffer"]}.get(
        damage, []
    )
    out = tmp_path / "run" / "data.npz"
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["collect", "--env", "Pendulum-v1", "--policy", str(policy), "--out", str(out), *more])
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("warning:")]
    assert stop.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith(
        "error: algorithm: " if damage == "no class" else "error: policy: expected a zip that"
    )
    assert not out.parent.exists()


def test_without_its_zip_a_policy_is_refused(tmp_path, capfd):
    arguments = [
        "collect",
        "--env",
        "Pendulum-v1",
        "--policy",
        str(tmp_path),
        "--out",
        str(tmp_path / "a.npz"),
    ]
    assert "policy: expected a zip of a policy, got" in refused(arguments, capfd)
