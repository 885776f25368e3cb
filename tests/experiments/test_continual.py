"""The experiment of continual learning: what is run, and what its tables say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.continual import make_learner
from ebm_control.continual.figures import draw_landscape
from ebm_control.continual.methods import NEED_BOUNDARIES
from experiments.continual import jobs as jobs_module
from experiments.continual.jobs import (
    COMPARED,
    QUICK_STREAMS,
    STEADIED,
    STREAMS,
    Compared,
    Job,
    held_out,
    jobs_of,
    joined,
    run,
    stream_of,
)
from experiments.continual.report import cells, matrices, of_stream, summarised


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A few dozen updates a task are enough to tell methods apart on digits."""
    for name, updates in (("UPDATES", 600), ("UPDATES_FREE", 300), ("UPDATES_PERMUTED", 200)):
        monkeypatch.setattr(jobs_module, name, updates)


def test_every_method_is_run_on_every_stream_with_and_without_boundaries():
    jobs = list(jobs_of(STREAMS, range(2), quick=False))
    names = {(job.stream, job.free, job.method, job.seed) for job in jobs}
    assert len(names) == len(jobs)
    for stream in STREAMS:
        known = {job.method for job in jobs if job.stream == stream and not job.free}
        unknown = {job.method for job in jobs if job.stream == stream and job.free}
        assert len(known) == len(COMPARED)
        assert known - unknown == {*NEED_BOUNDARIES, "joint"}
    assert len({job.name for job in jobs if job.seed == 0}) == len(jobs) / 2


@pytest.mark.parametrize("free", [False, True])
def test_a_job_gives_one_row_with_all_that_tables_and_figures_need(free, tmp_path):
    [row] = run(Job(QUICK_STREAMS[0], free, Compared("ebm", 200), 0, True))
    assert row["boundaries"] == ("unknown" if free else "known")
    assert row["method"] == "ebm, 200 kept"
    assert 0.35 < row["accuracy"] <= 1
    assert len(row["matrix"]) == 5
    rows = [row | {"seed": seed, "accuracy": row["accuracy"] - 0.1 * seed} for seed in range(3)]
    text = of_stream(summarised(rows), row["stream"])
    assert f"| {100 * row['accuracy'] - 10:.2f} ± 25 |" in text
    scores = np.array(row["scores"], dtype=float)
    assert draw_landscape(tmp_path / "landscape.png", scores).stat().st_size > 1000
    if not free:
        methods = ("ebm, 200 kept",)
        assert matrices([row], row["stream"], methods, tmp_path / "m.png").stat().st_size > 1000
        with pytest.raises(InputError, match=r"^methods: expected some of \['ebm, 200 kept'\], got ewc"):
            matrices([row], row["stream"], ("ewc",), tmp_path / "n.png")


def test_all_at_once_is_the_ceiling():
    [alone] = run(Job("split-digits", False, Compared("softmax"), 0, True))
    [joint] = run(Job("split-digits", False, Compared("joint"), 0, True))
    assert joint["accuracy"] > 0.85
    assert alone["accuracy"] < 0.3


def test_all_at_once_is_asked_for_every_task():
    [joint] = run(Job("permuted-digits", False, Compared("joint"), 0, True))
    assert len(joint["matrix"][0]) == 10
    assert 0.3 < joint["accuracy"] == pytest.approx(sum(joint["matrix"][0]) / 10, abs=1e-3)
    assert joint["test"] == 200


def test_a_rate_of_its_own_is_part_of_the_name():
    assert Compared("softmax-seen", rate=1e-4).name == "softmax-seen, rate 0.0001"
    [slow] = run(Job("split-digits", False, Compared("softmax-seen", rate=1e-6), 0, True))
    assert slow["accuracy"] < 0.3


def test_steadied_learners_hide_pixels_and_average_their_weights(monkeypatch):
    made = []
    monkeypatch.setattr(
        jobs_module, "make_learner", lambda method, kind: made.append(kind) or make_learner(method, kind)
    )
    compared = Compared("softmax-seen", 200, steadied=True)
    assert compared.name == "softmax-seen, 200 kept, steadied"
    [row] = run(Job("split-digits", False, compared, 0, True))
    assert 0.5 < row["accuracy"] <= 1
    monkeypatch.setattr(jobs_module, "UPDATES", 10)
    run(Job("split-digits", False, Compared("softmax-seen"), 0, True))
    assert [(kind.dropout, kind.averaging) for kind in made] == [tuple(STEADIED.values()), (0, 0)]
    assert (row["dropout"], row["averaging"]) == tuple(STEADIED.values())


def test_joined_tasks_are_the_set():
    stream = stream_of("split-digits", 0)
    whole = joined(stream)
    assert len(whole.images) == sum(len(task.images) for task in stream.tasks)
    assert whole.labels.unique().tolist() == list(range(10))


def test_held_out_images_are_of_the_training_set_and_not_trained_on():
    stream = stream_of("split-digits", 0)
    for task, part in zip(stream.tasks, held_out(stream).tasks, strict=True):
        assert len(part.test_labels) == len(task.labels) // 10
        both = torch.cat([part.images, part.test_images]).flatten(1)
        assert torch.equal(both.unique(dim=0), task.images.flatten(1).unique(dim=0))
        assert len(both) == len(task.labels)


def test_permutations_differ_between_seeds():
    a, b = (stream_of("permuted-digits", seed).tasks[1].images for seed in (0, 1))
    assert (a != b).any()


def test_accuracies_are_told_in_percent():
    row = {
        "stream": "s", "boundaries": "known", "method": "m", "seeds": 2, "accuracy": 0.5, "accuracy_ci95": 0.01,
        "forgetting": 0.25, "forward_transfer": 0.0, "minutes": 1.5,
    }  # fmt: skip
    assert cells(row) == ["s", "known", "m", "50.00 ± 1", "25.00", "0.00", "1.5", "2"]


def test_a_set_without_files_is_asked_for_by_name():
    with pytest.raises(ValueError, match="idx files"):
        stream_of("split-mnist", 0, Path("nowhere"))
