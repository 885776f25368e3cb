import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from experiments.records import load
from experiments.runs import Runs
from tests.experiments.helpers import PROGRAM, carried_out, marks, program


def wait_for(true, seconds=60):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def children(pid):
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(child) for child in listed.stdout.split()]


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists() or shutil.which("ps") is None, reason="asks Linux")
@pytest.mark.parametrize(
    ("number", "to_all", "status"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGKILL, False, -9),
    ],
)
def test_a_signal_ends_every_process_and_keeps_the_runs_that_are_done(tmp_path, number, to_all, status):
    process = program(tmp_path)
    record = tmp_path / "some.json"
    wait_for(lambda: record.exists() and list(tmp_path.glob("begun-*")))
    workers = children(process.pid)
    assert workers
    (os.killpg if to_all else os.kill)(process.pid, number)  # a terminal's Ctrl-C is for all
    said = process.communicate(timeout=30)[1]
    assert process.returncode == status
    wait_for(lambda: not any(lives(worker) for worker in workers), 15)
    rows = load(record)["results"]["by_seed"]
    assert {row["job"] for row in rows} == {"place: a"}
    if number == signal.SIGKILL:
        assert said == ""
    else:
        assert len(said.splitlines()) == 1
        assert said.startswith(
            f"stopped: {len(rows)} of 6 runs were done; {record} has them, and --resume goes on"
        )
        assert not list(tmp_path.glob(".*"))
    again = carried_out(Runs(seeds=3, out=tmp_path, resume=True), tmp_path)
    assert len(again["by_seed"]) == 6
    assert all(marks(tmp_path)[f"a-{row['seed']}"] == 1 for row in rows)


SAVES = PROGRAM.replace("import as_program", "import as_program, stopping").replace(
    "run=slow", "run=slow, patience=60"
)
SAVES = SAVES.replace(
    "time.sleep(120)",
    """while not stopping():
            time.sleep(0.01)
        (job.folder / f"saved-{job.seed}").touch()
        return []""",
)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_has_its_time_to_save_what_it_has_and_is_not_recorded(tmp_path, number, status):
    process = program(tmp_path, text=SAVES)
    wait_for(lambda: list(tmp_path.glob("begun-*")))
    os.killpg(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == status, said
    assert {f"saved-{path.name[-1]}" for path in tmp_path.glob("begun-*")} == {
        path.name for path in tmp_path.glob("saved-*")
    }
    record = tmp_path / "some.json"
    rows = load(record)["results"]["by_seed"] if record.exists() else []
    assert {row["job"] for row in rows} <= {"place: a"}
    assert len(carried_out(Runs(seeds=3, out=tmp_path, resume=record.exists()), tmp_path)["by_seed"]) == 6


FORK = """
import os, signal

def send():
    if sent:
        os.kill(os.getpid(), sent.pop())

sent = [int(sys.argv[2])]
os.register_at_fork(after_in_parent=send)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or torch.accelerator.is_available(), reason="workers are spawned")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_while_a_worker_is_forked_is_not_ignored(tmp_path, number, status):
    head, tail = PROGRAM.split("out = Path")
    process = program(tmp_path, str(int(number)), text=f"{head}{FORK}\nout = Path{tail}")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == status, said
    assert len(said.splitlines()) == 1
    assert said.startswith("stopped")
