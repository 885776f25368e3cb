"""The pages of results: equal to what the records say, and readable."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from ebm_control.checks import InputError
from ebm_control.provenance import provenance, write_record
from experiments import report
from experiments.planning.report import table_rows, trained
from experiments.records import load
from experiments.report import PAGES, ROOT, TEMPLATES, page

WRITTEN = ROOT / "docs" / "results"


def tables_of(text: str) -> list[list[str]]:
    """Lines of each table."""
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_records_say(name: str) -> None:
    expected = "equal: run `python -m experiments.report` after a record or a template has changed"
    assert (WRITTEN / f"{name}.md").read_text(encoding="utf-8") == page(name), expected


def test_there_is_no_page_that_nothing_writes() -> None:
    assert {file.stem for file in WRITTEN.glob("*.md")} == set(PAGES)
    assert {file.stem for file in TEMPLATES.glob("*.md")} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_whole_and_repeat_nothing(name: str) -> None:
    found = tables_of(page(name))
    assert len(found) >= 4
    for header, rule, *rows in found:
        assert set(rule) == {"|", "-"}
        assert rows
        assert len(set(rows)) == len(rows)
        assert header not in rows
        assert {line.count(" | ") for line in (header, *rows)} == {header.count(" | ")}


@pytest.mark.parametrize("name", PAGES)
def test_numbers_have_a_leading_zero_and_two_seeds_have_no_interval(name: str) -> None:
    text = page(name)
    assert not re.search(r"(?<![\w.])[-−]?\.\d", text)
    for header, _, *rows in tables_of(text):
        columns = [cell.strip() for cell in header.strip("| ").split(" | ")]
        if "seeds" in columns:
            cells = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows]
            two = [row[: columns.index("seeds")] for row in cells if row[columns.index("seeds")] == "2"]
            assert not [cell for row in two for cell in row if "±" in cell]


@pytest.mark.parametrize("name", PAGES)
def test_a_template_holds_no_results_and_its_links_lead_somewhere(name: str) -> None:
    template = (TEMPLATES / f"{name}.md").read_text(encoding="utf-8")
    assert "±" not in template
    assert not re.search(r"\d\.\d", template)
    for place in re.findall(r"\]\(([^)#]+)", page(name)):
        assert (WRITTEN / place).exists(), place


def test_intervals_that_are_too_narrow_are_marked_in_the_table_they_are_of() -> None:
    text = page("prediction")
    for case, narrow in (
        ("fork, actions given", True),
        ("hopper-random, actions given", True),
        ("reacher, actions given", False),
    ):
        first_line = text.partition(f"### {case}\n\n")[2].splitlines()[0]
        assert ("**Intervals are too narrow**" in first_line) == narrow
    for name in ("planning", "online", "prediction"):
        assert "**Shared streams.**" in page(name)


def test_reinforcement_learning_is_grouped_by_problem_learner_and_steps() -> None:
    results = ROOT / "experiments" / "results"
    runs, rows = trained(results), table_rows(results)
    assert sum(row["seeds"] for row in rows if row["method"] in ("SAC", "PPO")) == len(runs)
    [ppo] = [row for row in rows if (row["env"], row["method"]) == ("Reacher", "PPO")]
    own = [run for run in runs if (run["problem"], run["method"]) == ("reacher", "ppo")]
    assert ppo["return_by_seed"] == [run["return_mean"] for run in own]
    [ours] = [row for row in rows if (row["env"], row["method"]) == ("Reacher", "EBM")]
    assert ppo["oracle"] == ours["oracle"]


def test_the_command_writes_the_pages_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", "--out", str(tmp_path / "new"), "--pages", "speed", "online"])
    report.main()
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"speed.md", "online.md"}
    assert (tmp_path / "new" / "speed.md").read_text(encoding="utf-8") == page("speed")
    monkeypatch.setattr(sys, "argv", ["report", "--out", str(tmp_path / "none"), "--pages", "sped"])
    with pytest.raises(InputError, match=r"^pages: expected some of 'planning', .*, got 'sped'$"):
        report.main()
    assert not (tmp_path / "none").exists()


def test_a_damaged_record_makes_no_page(tmp_path: Path) -> None:
    for place in ("experiments/results", "benchmarks/results"):
        shutil.copytree(ROOT / place, tmp_path / place)
    assert page("online", tmp_path) == page("online")
    data = tmp_path / "experiments" / "results" / "online.by-seed.json.xz"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(
        InputError, match=r"^record: expected a whole record of runs, got .*online\.json, whose rows"
    ):
        page("online", tmp_path)


def test_a_benchmark_has_a_section_on_the_speed_page_once_it_has_a_record(tmp_path: Path) -> None:
    for place in ("experiments/results", "benchmarks/results"):
        shutil.copytree(ROOT / place, tmp_path / place)
    quartiles = {"median_ms": 2.0, "lower_quartile_ms": 1.5, "upper_quartile_ms": 2.5}
    records = {
        "training": ("## Contrastive updates", {"updates": {"written out": quartiles}}),
        "gpu": (
            "## On a GPU",
            {
                "chains": [{"chains": 64, "loop": "graph", "ms_per_step": 0.25}],
                "plans": [{"starts": 4096, "planner": "default", "ms": 8.0, "plans_per_second": 512_000.0}],
                "updates": [{"ms": 4.0, "updates_per_second": 250.0}],
            },
        ),
    }
    files = {name: tmp_path / "benchmarks" / "results" / f"{name}.json" for name in records}
    for name, file in files.items():
        file.unlink(missing_ok=True)
        assert records[name][0] not in page("speed", tmp_path)
    assert "\n\n\n" not in page("speed", tmp_path)
    for name, (heading, results) in records.items():
        write_record(files[name], results, provenance(f"python -m benchmarks.{name}", [0], 1.0))
        text = page("speed", tmp_path)
        assert f"\n\n{heading}\n\n" in text
        assert f"`python -m benchmarks.{name}`" in text
    assert "| written out | 2.0 | 1.5 to 2.5 |" in text
    assert "| 4,096 | default | 8 | 512,000 |" in text


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments" / "results").rglob("*.json")), ids=lambda path: path.stem
)
def test_every_committed_record_is_whole(path: Path) -> None:
    if path.stem.startswith("policy-"):
        pytest.skip("settings of a policy, no record of runs")
    record = load(path)
    assert record["provenance"]["command"]
    assert record["results"]
