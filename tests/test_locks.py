import multiprocessing
import os
import signal
import time

import pytest

from ebm_control.checks import InputError
from ebm_control.locks import locked
from tests.helpers import Forked

pytest.importorskip("fcntl")

HOLDER = """
import sys, time
from pathlib import Path
from ebm_control.locks import locked
with locked(Path(sys.argv[1]), "out"):
    print("held", flush=True)
    time.sleep(60)
"""
PARENT = """
import multiprocessing, sys, time
from pathlib import Path
from ebm_control.locks import locked
with locked(Path(sys.argv[1]), "out"):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def started(code, path):
    process = Forked(code, str(path))
    while not process.read()[0].endswith("\n"):
        assert process.poll() is None, process.read()[1]
        time.sleep(0.01)
    return process, process.read()[0].strip()


def test_a_second_process_is_refused_while_the_first_lives_and_not_after_it_was_killed(tmp_path):
    path = tmp_path / "run" / ".lock"
    holder, _ = started(HOLDER, path)
    with (
        pytest.raises(
            InputError,
            match=rf"^out: expected a folder that no .*, got {path.parent}, which process {holder.pid} is",
        ),
        locked(path, "out"),
    ):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with locked(path, "out"):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_forked_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path):
    parent, child = started(PARENT, tmp_path / ".lock")
    try:
        time.sleep(0.2)
        os.kill(parent.pid, signal.SIGKILL)
        parent.communicate()
        os.kill(int(child), 0)  # it lives
        with locked(tmp_path / ".lock", "out"):
            pass
    finally:
        os.kill(int(child), signal.SIGKILL)


def hold_if_free(path, entered, together):
    for _ in range(300):
        try:
            with locked(path, "out"):
                entered.value += 1
                together.value = max(together.value, entered.value)
                time.sleep(0.0005)
                entered.value -= 1
        except InputError:
            pass


def test_no_two_processes_are_inside_at_once_though_the_file_is_removed_each_time(tmp_path):
    context = multiprocessing.get_context("fork")
    entered, together = context.Value("i", 0), context.Value("i", 0)
    arguments = (tmp_path / ".lock", entered, together)
    workers = [context.Process(target=hold_if_free, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert together.value == 1


def test_the_lock_holds_within_one_process_and_ends_with_the_block_however_that_ends(tmp_path):
    path = tmp_path / ".lock"

    def fail_inside():
        with locked(path, "out"):
            with pytest.raises(InputError, match=f"process {os.getpid()} is using$"), locked(path, "out"):
                pass
            assert path.exists()
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert not path.exists()
    with locked(path, "out"):
        pass


def test_a_file_that_holds_no_number_locks_nothing(tmp_path):
    (tmp_path / ".lock").write_text("not a process\n")
    with locked(tmp_path / ".lock", "out"):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_an_error_of_the_system(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError), locked(tmp_path / ".lock", "out"):
        pass
