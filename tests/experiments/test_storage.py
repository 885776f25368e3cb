"""Records on the disk: what people read as JSON, and all results in one compressed file beside it."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebm_control.checks import InputError
from ebm_control.provenance import checksum, write_record
from experiments.records import claimed, load, read
from experiments.storage import by_seed_path, compressed, write

ORIGIN = {"command": "python -m experiments.some --seeds 2", "seeds": [0, 1]}


def results(seeds: int = 2) -> dict[str, Any]:
    """Rows of two methods, with numbers that five digits do not hold."""
    by_seed = [
        {"job": method, "seed": seed, "return": -seed / 7, "matrix": [[0.1, 1 / 3]], "note": None}
        for method in ("a", "b")
        for seed in range(seeds)
    ]
    rows = [
        {
            "method": method,
            "return": -1 / 7,
            "return_ci95": 2 / 3,
            "return_by_seed": [0.0, -1 / 7],
            "n": 10**7,
        }
        for method in ("a", "b")
    ]
    return {"rows": rows, "timing": [{"ms": 1e-17}, {"ms": 2.0, "starts": 64}], "by_seed": by_seed}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "some.json", results(), ORIGIN)
    return tmp_path / "some.json"


def test_what_is_read_is_what_was_written_to_the_last_digit(path: Path) -> None:
    assert load(path) == read(path, "record") == {"results": results(), "provenance": ORIGIN}
    assert {file.name for file in path.parent.iterdir()} == {"some.json", "some.by-seed.json.xz"}


def test_people_read_means_and_intervals_of_five_digits_a_row_a_line(path: Path) -> None:
    text = path.read_text()
    record = json.loads(text)
    assert record["results"]["rows"] == [
        {
            "columns": ["method", "return", "return_ci95", "n"],
            "rows": [["a", -0.14286, 0.66667, 10**7], ["b", -0.14286, 0.66667, 10**7]],
        }
    ]
    assert record["results"]["timing"] == [
        {"columns": ["ms"], "rows": [[1e-17]]},
        {"columns": ["ms", "starts"], "rows": [[2.0, 64]]},
    ]
    assert record["results"]["by_seed"]["rows"] == 4
    assert '\n     ["a", -0.14286, 0.66667, 10000000],\n' in text
    assert record["sha256"] == checksum(record)


def test_equal_results_make_equal_bytes(path: Path) -> None:
    assert by_seed_path(path).read_bytes() == compressed(results())
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    write(path, results(), ORIGIN)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize(
    "earlier", [results(), {"returns": [1.5, 2.5], "env": "x"}, [{"seed": 0, "return": 1 / 3}]]
)
@pytest.mark.parametrize("checked", [True, False])
def test_records_in_one_file_are_read_too(tmp_path: Path, earlier: Any, checked: bool) -> None:
    path = tmp_path / "earlier.json"
    write_record(path, earlier, ORIGIN)
    if not checked:
        record = json.loads(path.read_text())
        path.write_text(json.dumps({"results": record["results"], "provenance": ORIGIN}, indent=2))
    assert load(path) == {"results": earlier, "provenance": ORIGIN}


def test_a_record_of_one_run_has_no_second_file(tmp_path: Path) -> None:
    write(tmp_path / "one.json", {"returns": [1 / 3, 2 / 3]}, ORIGIN)
    assert load(tmp_path / "one.json")["results"] == {"returns": [1 / 3, 2 / 3]}
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"]


def recompressed(content: bytes) -> bytes:
    found = json.loads(lzma.decompress(content))
    found["by_seed"][0]["return"] = 7.25
    return compressed(found)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "a bit": lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    "longer": lambda content: content + b"\0",
    "not compressed": lzma.decompress,
    "another figure": recompressed,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_compressed_file_is_one_clear_message(path: Path, kind: str) -> None:
    data = by_seed_path(path)
    data.write_bytes(DAMAGED[kind](data.read_bytes()))
    before = data.read_bytes()
    said = r"^resume: .* got .*some\.json, whose rows of single seeds, some\.by-seed\.json\.xz .*, were changed since"
    for function in (load, read):
        with pytest.raises(InputError, match=said) as error:
            function(path, "resume")
        assert "\n" not in str(error.value)
    assert data.read_bytes() == before


def test_a_missing_compressed_file_is_one_clear_message(path: Path) -> None:
    by_seed_path(path).unlink()
    with pytest.raises(InputError, match=r"^record: .* some\.by-seed\.json\.xz beside it, are missing$"):
        load(path)


def test_a_compressed_file_that_is_no_results_is_one_clear_message(path: Path) -> None:
    record = json.loads(path.read_text())
    by_seed_path(path).write_bytes(lzma.compress(b"no JSON"))
    record["results"]["by_seed"]["sha256"] = hashlib.sha256(lzma.compress(b"no JSON")).hexdigest()
    record["sha256"] = checksum(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"^record: .*some\.by-seed\.json\.xz beside it, cannot be read \("):
        load(path)


@pytest.mark.parametrize("name", ["../some.by-seed.json.xz", "some.json", "", 3, None])
def test_a_record_names_no_file_but_one_beside_it(path: Path, name: Any) -> None:
    record = json.loads(path.read_text())
    record["results"]["by_seed"]["file"] = name
    record["sha256"] = checksum(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"which does not say where its rows of single seeds are$"):
        load(path)


def test_rows_whose_record_is_gone_are_not_written_over(path: Path) -> None:
    path.unlink()
    for resume in (True, False):
        with (
            pytest.raises(InputError, match=r"^out: .* got .*xz, whose record some\.json is missing$"),
            claimed(path, resume=resume),
        ):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that ends at once is forked")
@pytest.mark.parametrize(("step", "kept"), [(1, 2), (2, 2), (3, 3)])
def test_a_writer_that_is_killed_leaves_a_whole_record(path: Path, step: int, kept: int) -> None:
    # Three exchanges of files make a write: the process ends just before one of them.
    child = os.fork()
    if child == 0:
        calls, replace = iter(range(1, 9)), os.replace
        os.replace = lambda *names: os._exit(9) if next(calls) == step else replace(*names)
        write(path, results(3), ORIGIN)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert load(path)["results"] == results(kept)
    with pytest.raises(TypeError):
        write(path, {"by_seed": [object()]}, ORIGIN)
    assert load(path)["results"] == results(kept)
    write(path, results(4), ORIGIN)
    assert load(path)["results"] == results(4)
    assert not list(path.parent.glob("*.next"))


def test_a_record_behind_a_link_has_its_rows_beside_the_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.json"
    link.symlink_to(path)
    assert load(link)["results"] == results()
    write(link, results(3), ORIGIN)
    assert load(link) == load(path)
    assert load(path)["results"] == results(3)
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["link.json"]


def test_a_copy_is_read_and_written_without_touching_the_first(path: Path) -> None:
    copy = path.with_name("copy.json")
    shutil.copy(path, copy)
    assert load(copy) == load(path)
    write(copy, results(3), ORIGIN)
    assert load(path)["results"] == results()
    assert load(copy)["results"] == results(3)
