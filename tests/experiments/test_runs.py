import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.table import Table

from ebm_control.checks import InputError
from experiments.runs import Runs, carry_out, merged, put_together
from experiments.tables import lines, spread, summarised


@dataclass(frozen=True)
class Job:
    method: str
    seed: int
    folder: Path

    @property
    def name(self):
        return f"place: {self.method}"


def run(job):
    """Leaves a mark, so that a test sees how often it was called."""
    marks = job.folder / f"{job.method}-{job.seed}"
    marks.write_text(marks.read_text() + "x" if marks.exists() else "x")
    return [{"method": job.method, "seed": job.seed, "figure": float(job.seed)}]


def summary(rows):
    return summarised(rows, ("method",), ("figure",))


def table(rows):
    return Table("figure")


def carried_out(settings, folder, methods=("a", "b")):
    jobs = [Job(method, seed, folder) for seed in settings.seed_range for method in methods]
    carry_out(settings, "some", jobs, run, summary, table)
    return json.loads((settings.out / "some.json").read_text())["results"]


def test_a_resumed_run_keeps_what_is_recorded_and_does_the_rest(tmp_path):
    first = carried_out(Runs(seeds=2, out=tmp_path, methods=("a",)), tmp_path)
    assert [(row["job"], row["seed"]) for row in first["by_seed"]] == [("place: a", 0), ("place: a", 1)]
    second = carried_out(Runs(seeds=2, out=tmp_path, resume=True), tmp_path)
    assert len(second["by_seed"]) == 4
    assert all((tmp_path / f"{method}-{seed}").read_text() == "x" for method in "ab" for seed in (0, 1))
    by_method = {row["method"]: row for row in second["rows"]}
    assert by_method["b"]["figure"] == 0.5
    assert by_method["b"]["seeds"] == 2
    parts = json.loads((tmp_path / "some.json").read_text())["provenance"]["parts"]
    assert [part["command"].partition("some ")[2] for part in parts] == [
        "--seeds 2 --methods 'a'",
        "--seeds 2 --resume",
    ]
    put_together([tmp_path / "some.json"] * 2, tmp_path / "all.json", ["a", "b"], summary)
    assert json.loads((tmp_path / "all.json").read_text())["provenance"]["parts"] == parts
    again = carried_out(Runs(seeds=1, out=tmp_path), tmp_path)
    assert len(again["by_seed"]) == 2
    assert "parts" not in json.loads((tmp_path / "some.json").read_text())["provenance"]


def fails_at_b(job):
    if job.method == "b":
        raise ValueError("b is not for this")
    return run(job)


def test_what_fails_costs_nothing_but_itself_and_is_named_at_the_end(tmp_path):
    jobs = [Job(method, seed, tmp_path) for method in "abc" for seed in (0, 1)]
    with pytest.raises(RuntimeError, match=r"^2 of 6 failed, all else is in .*some\.json; place: b, seed"):
        carry_out(Runs(seeds=2, out=tmp_path), "some", jobs, fails_at_b, summary, table)
    kept = json.loads((tmp_path / "some.json").read_text())["results"]["by_seed"]
    assert [(row["method"], row["seed"]) for row in kept] == [("a", 0), ("a", 1), ("c", 0), ("c", 1)]


def test_a_full_run_does_not_go_on_from_a_quick_one(tmp_path):
    carried_out(Runs(seeds=1, out=tmp_path, quick=True), tmp_path)
    with pytest.raises(
        InputError, match=r"^resume: expected the record of a run of the same size, got .*quick"
    ):
        carried_out(Runs(seeds=1, out=tmp_path, resume=True), tmp_path)
    carried_out(Runs(seeds=2, out=tmp_path, quick=True, resume=True), tmp_path)


def test_records_are_put_together_and_the_later_run_counts(tmp_path):
    for name, figure, jobs in (("old", 1.0, ("b", "a")), ("new", 2.0, ("b", "c"))):
        rows = [{"job": job, "seed": 0, "horizon": h, "figure": figure} for job in jobs for h in (1, 2)]
        (tmp_path / name).write_text(
            json.dumps({"results": {"by_seed": rows}, "provenance": {"command": name}})
        )
    parts = [tmp_path / "old", tmp_path / "new"]
    put_together(parts, tmp_path / "all.json", ["a", "b", "c"], list)
    record = json.loads((tmp_path / "all.json").read_text())
    assert [part["command"] for part in record["provenance"]["parts"]] == ["old", "new"]
    assert record["provenance"]["seeds"] == [0]
    rows = merged(parts, ["a", "b", "c"])
    assert record["results"]["by_seed"] == rows
    assert [(row["job"], row["figure"]) for row in rows] == [
        ("a", 1.0),
        ("a", 1.0),
        ("b", 2.0),
        ("b", 2.0),
        ("c", 2.0),
        ("c", 2.0),
    ]


def test_a_spread_of_one_seed_has_no_interval():
    one, two = (
        summary([{"method": "a", "seed": 0, "figure": 1.0}]),
        summary([{"method": "a", "seed": seed, "figure": float(seed)} for seed in (0, 1)]),
    )
    assert spread(one[0], "figure") == "1"
    assert spread(two[0], "figure") == "0.5 ± 6.4"
    assert spread(two[0], "missing") == "–"
    assert spread({"figure": 81.2, "figure_ci95": 4e-14}, "figure") == "81.2 ± 0"
    assert lines(("a", "b"), [("1", "2")]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]
