import errno
import json
import os
import shutil

import pytest

from ebm_control.checks import InputError
from ebm_control.locks import locked
from ebm_control.provenance import write_record
from experiments.records import load, merged, put_together
from experiments.runs import MethodRuns, Runs, chosen
from experiments.tables import lines, spread
from tests.experiments.helpers import carried_out, marks, program, run, summary


@pytest.fixture
def recorded(tmp_path):
    """A record of two runs, and its folder."""
    carried_out(MethodRuns(seeds=2, out=tmp_path, methods=("a",)), tmp_path)
    return tmp_path / "some.json"


def test_a_resumed_run_keeps_what_is_recorded_and_does_the_rest(recorded, tmp_path):
    first = load(recorded)["results"]
    assert [(row["job"], row["seed"]) for row in first["by_seed"]] == [("place: a", 0), ("place: a", 1)]
    second = carried_out(MethodRuns(seeds=2, out=tmp_path, resume=True), tmp_path)
    assert len(second["by_seed"]) == 4
    assert marks(tmp_path) == {"a-0": 1, "a-1": 1, "b-0": 1, "b-1": 1}
    by_method = {row["method"]: row for row in second["rows"]}
    assert by_method["b"]["figure"] == 0.5
    assert by_method["b"]["seeds"] == 2
    parts = json.loads(recorded.read_text())["provenance"]["parts"]
    assert [part["command"].partition("some ")[2] for part in parts] == [
        "--seeds 2 --methods 'a'",
        "--seeds 2 --resume",
    ]
    put_together([recorded] * 2, tmp_path / "all.json", ["a", "b"], summary)
    assert json.loads((tmp_path / "all.json").read_text())["provenance"]["parts"] == parts
    again = carried_out(MethodRuns(seeds=1, out=tmp_path / "other"), tmp_path)
    assert len(again["by_seed"]) == 2
    assert "parts" not in json.loads((tmp_path / "other" / "some.json").read_text())["provenance"]


@pytest.mark.parametrize(
    "given", [{}, {"methods": ("b",)}, {"quick": True}, {"seeds": 7, "first": 3}], ids=str
)
def test_an_existing_record_is_refused_without_resume_before_any_run(recorded, tmp_path, given):
    before, ran = recorded.read_bytes(), marks(tmp_path)
    with pytest.raises(
        InputError, match=r"^out: expected --resume, .* or another --out, .*, got .*some\.json, which"
    ):
        carried_out(MethodRuns(out=tmp_path, **given), tmp_path)
    assert recorded.read_bytes() == before
    assert marks(tmp_path) == ran


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": ("typo",)}, "methods: expected some of 'a', 'b', got 'typo'"),
        ({"methods": ("a", "A", "")}, "methods: expected some of 'a', 'b', got 'A', ''"),
        ({"seeds": 0}, "seeds: expected a whole number of at least 1, got 0"),
        ({"seeds": -1}, "seeds: expected a whole number of at least 1, got -1"),
        ({"first": -1}, "first: expected a whole number of at least 0, got -1"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_wrong_choices_are_refused_before_anything(recorded, tmp_path, given, said, resume):
    before, ran = recorded.read_bytes(), marks(tmp_path)
    with pytest.raises(InputError) as error:
        carried_out(MethodRuns(out=tmp_path, resume=resume, **given), tmp_path)
    assert str(error.value) == said
    assert recorded.read_bytes() == before
    assert marks(tmp_path) == ran


def test_a_choice_without_runs_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^some: expected a choice that has runs, got none with --seeds 2"):
        carried_out(Runs(seeds=2, out=tmp_path / "new"), tmp_path, methods=())
    assert not (tmp_path / "new").exists()


def test_names_are_chosen_once_each():
    assert chosen("parts", ("b", "a", "b"), "abc") == ("b", "a")
    with pytest.raises(InputError, match=r"^parts: expected some of 'a', 'b', 'c', got none"):
        chosen("parts", (), "abc")


DAMAGED = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "binary": lambda text: "\0" * 100,
    "no text": lambda text: b"\xff\xfe\x00{",
    "another kind": lambda text: "[1, 2]",
    "null": lambda text: "null",
    "deep": lambda text: "[" * 100_000,
    "no rows": lambda text: text.replace('"by_seed"', '"by_sled"'),
    "no provenance": lambda text: text.replace('"provenance"', '"providence"'),
    "no command": lambda text: text.replace('"command"', '"comment"'),
    "no names of jobs": lambda text: text.replace('"job"', '"jab"'),
    "a seed that is a word": lambda text: text.replace('"seed": 1', '"seed": "1"'),
    "a figure that is a list": lambda text: text.replace('"figure": 1.0', '"figure": [{}]'),
    "another experiment": lambda text: text.replace("experiments.some ", "experiments.somewhere "),
    "parts without commands": lambda text: text.replace('"seeds": [', '"parts": [3], "seeds": ['),
    "another size": lambda text: text.replace("experiments.some ", "experiments.some --quick "),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_records_and_others_are_refused_in_one_line_and_left_alone(recorded, tmp_path, kind):
    earlier = load(recorded)  # in one file, as earlier records were
    text = DAMAGED[kind](json.dumps(earlier, indent=2) + "\n")  # a checksum would tell of all of them alike
    before, ran = text if isinstance(text, bytes) else text.encode(), marks(tmp_path)
    recorded.write_bytes(before)
    with pytest.raises(InputError, match=r"^resume: expected .*, got .*some\.json") as error:
        carried_out(MethodRuns(seeds=3, out=tmp_path, resume=True), tmp_path)
    assert "\n" not in str(error.value)
    assert recorded.read_bytes() == before
    assert marks(tmp_path) == ran


def as_arguments(record):
    return {"results": record["results"], "origin": record["provenance"]}


def changed(record, place, value):
    *path, last = place
    for name in path:
        record = record[name]
    record[last] = value


TAMPERED = [
    (("provenance", "seconds"), 1e9),
    (("sha256",), "0" * 64),
    (("sha256",), None),
    (("sha257",), "0" * 64),
]
IN_ONE = [
    (("results", "by_seed", 0, "figure"), 7.25),
    (("results", "by_seed", 1, "seed"), 2),
    (("results", "by_seed", 0, "job"), "place: b"),
    (("results", "rows", 0, "figure"), 7.25),
]
IN_TWO = [
    (("results", "rows", 0, "rows", 0, 2), 7.25),
    (("results", "rows", 0, "columns", 0), "way"),
    (("results", "by_seed", "sha256"), "0" * 64),
    (("results", "by_seed", "file"), "other.by-seed.json.xz"),
]


@pytest.mark.parametrize(
    ("in_one", "place", "value"),
    [(True, *case) for case in TAMPERED + IN_ONE] + [(False, *case) for case in TAMPERED + IN_TWO],
    ids=str,
)
def test_a_record_that_is_still_json_but_not_what_was_written_is_refused(
    recorded, tmp_path, in_one, place, value
):
    if in_one:
        write_record(recorded, **as_arguments(load(recorded)))
    record = json.loads(recorded.read_text())
    changed(record, place, value)
    recorded.write_text(json.dumps(record, indent=2))
    before, ran = recorded.read_bytes(), marks(tmp_path)
    with pytest.raises(InputError, match=r"^resume: expected a whole record of runs, got .*some\.json"):
        carried_out(MethodRuns(seeds=3, out=tmp_path, resume=True), tmp_path)
    with pytest.raises(InputError, match=r"^parts: expected a whole record of runs, got .*some\.json"):
        put_together([recorded], tmp_path / "all.json", ["a", "b"], summary)
    assert recorded.read_bytes() == before
    assert marks(tmp_path) == ran


def test_a_record_of_before_there_were_checksums_is_gone_on_with(recorded, tmp_path):
    recorded.write_text(json.dumps(load(recorded)))
    (tmp_path / "some.by-seed.json.xz").unlink()
    assert len(carried_out(MethodRuns(seeds=3, out=tmp_path, resume=True), tmp_path)["by_seed"]) == 6
    assert json.loads(recorded.read_text())["sha256"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_link_that_leads_back_to_itself_is_refused_before_any_run(tmp_path, resume):
    link = tmp_path / "some.json"
    link.symlink_to(link)
    with pytest.raises(InputError, match=r"^out: expected a file, .* got .*some\.json, a link that leads"):
        carried_out(MethodRuns(seeds=1, out=tmp_path, resume=resume), tmp_path)
    assert link.is_symlink()
    assert marks(tmp_path) == {}


def test_a_record_that_another_process_writes_is_refused_before_any_run(recorded, tmp_path):
    with (
        locked(tmp_path / ".some.json.lock", "out"),
        pytest.raises(InputError, match=rf"^out: expected a folder .* which process {os.getpid()} is using$"),
    ):
        carried_out(MethodRuns(seeds=3, out=tmp_path, resume=True), tmp_path)
    assert marks(tmp_path) == {"a-0": 1, "a-1": 1}
    assert len(carried_out(MethodRuns(seeds=3, out=tmp_path, resume=True), tmp_path)["by_seed"]) == 6
    assert not (tmp_path / ".some.json.lock").exists()


@pytest.mark.parametrize("fails", ["replace", "fsync"])
def test_a_failed_write_keeps_what_was_recorded_and_is_one_error(recorded, tmp_path, monkeypatch, fails):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = recorded.read_bytes()
    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match=r"record could not be written \(No space left"):
        carried_out(MethodRuns(seeds=2, out=tmp_path, resume=True), tmp_path)
    monkeypatch.undo()
    assert recorded.read_bytes() == before
    assert {path.name for path in tmp_path.glob("*.*")} == {"some.json", "some.by-seed.json.xz"}
    assert not list(tmp_path.glob(".*"))
    assert len(carried_out(MethodRuns(seeds=2, out=tmp_path, resume=True), tmp_path)["by_seed"]) == 4


def fails_at_b(job):
    if job.method == "b":
        raise ValueError("b is not for this")
    return run(job)


def test_what_fails_costs_nothing_but_itself_and_is_named_at_the_end(tmp_path):
    with pytest.raises(RuntimeError, match=r"^2 of 6 failed, all else is in .*some\.json; place: b, seed"):
        carried_out(Runs(seeds=2, out=tmp_path), tmp_path, "abc", run=fails_at_b)
    kept = load(tmp_path / "some.json")["results"]["by_seed"]
    assert [(row["method"], row["seed"]) for row in kept] == [("a", 0), ("c", 0), ("a", 1), ("c", 1)]


def test_where_all_fails_there_is_no_record(tmp_path):
    with pytest.raises(RuntimeError, match=r"^1 of 1 failed"):
        carried_out(Runs(seeds=1, out=tmp_path), tmp_path, "b", run=fails_at_b)
    assert list(tmp_path.iterdir()) == []


def with_times(rows, timing):
    return [row | {"clocks": len(timing)} for row in rows]


def test_what_is_timed_at_the_end_is_kept_until_it_is_timed_again(tmp_path):
    timed = {"timing": lambda: [{"ms": 1.0}, {"ms": 2.0}], "joined": with_times}
    first = carried_out(Runs(seeds=1, out=tmp_path), tmp_path, **timed)
    assert first["timing"] == [{"ms": 1.0}, {"ms": 2.0}]
    assert {row["clocks"] for row in first["rows"]} == {2}
    again = carried_out(Runs(seeds=2, out=tmp_path, resume=True), tmp_path, joined=with_times)
    assert again["timing"] == first["timing"]
    assert {row["clocks"] for row in again["rows"]} == {2}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"quick": True}, {}, "made without --quick, got .* made with --quick$"),
        ({}, {"quick": True}, "made with --quick, got .* made without --quick$"),
        ({"flags": " --held"}, {}, "made without --held, got .* made with --held$"),
        ({}, {"flags": " --held"}, "made with --held, got .* made without --held$"),
        ({"flags": " --of 5 --x 1"}, {"flags": " --of 50"}, "made with --of 50, got .* made with --of 5$"),
    ],
)
def test_runs_of_another_kind_do_not_go_into_one_record(tmp_path, before, after, said):
    def go(given, **more):
        settings = Runs(seeds=1, out=tmp_path, quick=given.get("quick", False), **more)
        flags = given.get("flags", "")
        return carried_out(settings, tmp_path, flags=flags, alike=("--held", "--of"))

    go(before)
    with pytest.raises(InputError, match=rf"^resume: expected a record {said}"):
        go(after, resume=True)
    assert len(go(before, first=1, resume=True)["by_seed"]) == 4
    with pytest.raises(InputError, match=rf"^resume: expected a record {said}"):
        go(after, resume=True)


def test_a_program_that_is_refused_says_so_in_one_line(recorded, tmp_path):
    refused = program(tmp_path)
    said = refused.communicate(timeout=60)[1]
    assert refused.returncode == 2
    assert len(said.splitlines()) == 1
    assert said.startswith("error: out: expected --resume")


def test_records_that_are_put_together_do_not_replace_another(recorded, tmp_path):
    other = tmp_path / "other.json"
    shutil.copy(recorded, other)
    before = load(recorded)
    for part, said in ((recorded, r"^record: expected another --record, or the old"), (other, None)):
        if said is None:
            put_together([part], other, ["a"], summary)
        else:
            before = other.read_bytes()
            with pytest.raises(InputError, match=said):
                put_together([part], other, ["a"], summary)
            assert other.read_bytes() == before


def test_records_are_put_together_and_the_later_run_counts(tmp_path):
    for name, figure, jobs in (("old", 1.0, ("b", "a")), ("new", 2.0, ("b", "c"))):
        rows = [{"job": job, "seed": 0, "horizon": h, "figure": figure} for job in jobs for h in (1, 2)]
        (tmp_path / name).write_text(
            json.dumps({"results": {"by_seed": rows}, "provenance": {"command": name}})
        )
    parts = [tmp_path / "old", tmp_path / "new"]
    put_together(parts, tmp_path / "all.json", ["a", "b", "c"], list)
    record = load(tmp_path / "all.json")
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


def test_a_spread_of_one_seed_has_no_interval_and_of_two_both_values():
    one, two, three = (
        summary([{"method": "a", "seed": seed, "figure": float(seed)} for seed in seeds])
        for seeds in ((1,), (0, 1), (0, 1, 2))
    )
    assert spread(one[0], "figure") == "1"
    assert spread(two[0], "figure") == "0 and 1 (2 seeds)"
    assert spread(two[0] | {"figure_by_seed": [1.0, 1.001]}, "figure") == "1 (2 seeds)"
    assert spread(three[0], "figure") == "1 ± 2.5"
    assert spread(three[0] | {"figure": 1234.5, "figure_ci95": 234.0}, "figure") == "1,230 ± 230"
    assert spread(three[0], "figure", ".2f", ".1f") == "1.00 ± 2.5"
    assert spread(two[0], "missing") == "–"
    assert spread({"figure": 81.2, "figure_ci95": 4e-14}, "figure") == "81.2 ± 0"
    assert lines(("a", "b"), [("1", "2")]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]
