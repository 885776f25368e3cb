"""`ebm-control continual`."""

import json

import pytest

from ebm_control.cli import main

pytestmark = pytest.mark.slow


def run(tmp_path, *arguments):
    main(["continual", "--out", str(tmp_path), *map(str, arguments)])
    return json.loads((tmp_path / "summary.json").read_text())


def test_a_learner_sees_a_stream_and_what_it_knew_is_written_down(tmp_path, capsys):
    summary = run(tmp_path, "--method", "softmax", "--updates", 100, "--width", 50, "--seed", 3)
    assert len(summary["accuracies"]) == 5
    assert summary["accuracies"][-1][-1] > 0.5
    assert summary["forgetting"] > 0.5
    assert summary["accuracy"] == pytest.approx(sum(summary["accuracies"][-1]) / 5)
    assert json.loads(capsys.readouterr().out)["accuracy"] == summary["accuracy"]
    assert json.loads((tmp_path / "settings.json").read_text())["method"] == "softmax"
    assert summary["untrained"] == [0] * 5
    assert summary["parameters"] > 1000
    assert summary["backward_transfer"] < -0.5
    for name in ("accuracies", "landscape"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000


@pytest.mark.parametrize(("method", "updates"), [("ebm", 100), ("generative", 30)])
def test_energies_learn_from_the_command_line(tmp_path, method, updates):
    summary = run(tmp_path, "--method", method, "--updates", updates, "--width", 100, "--no-boundaries")
    # Who forgets all but the last task has a fifth.
    assert summary["accuracy"] > 0.3


def test_a_permuted_stream_has_as_many_tasks_as_asked_for(tmp_path):
    given = (
        "--stream",
        "permuted-digits",
        "--tasks",
        3,
        "--updates",
        3,
        "--memory-size",
        20,
        "--averaging",
        0.9,
    )
    assert len(run(tmp_path, *given)["accuracies"]) == 3
    assert not (tmp_path / "figures" / "landscape.png").exists()


def test_a_split_stream_has_as_many_classes_a_task_as_asked_for(tmp_path):
    given = ("--per-task", 5, "--updates", 3, "--method", "si", "--penalty", 2)
    assert len(run(tmp_path, *given)["accuracies"]) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--stream", "shuffled-digits"), "stream: expected one of"),
        (("--stream", "split-letters"), "stream: expected one of"),
        (("--method", "magic"), "method: expected one of"),
        (("--method", "ewc", "--no-boundaries"), "method: expected one that does not need boundaries"),
        (("--method", "generative", "--memory-size", "5"), "memory_size: expected 0"),
        (("--seed", "-1"), "seed: expected a whole number from 0 to"),
        (("--per-task", "3"), "per_task: expected a divisor of 10, got 3"),
        (("--stream", "split-mnist", "--data-dir", "nowhere"), "folder: expected the four idx files"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as stopped:
        main(["continual", "--out", str(tmp_path / "run"), *arguments])
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
