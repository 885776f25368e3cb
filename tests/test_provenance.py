import errno
import json
import os

import pytest

from ebm_control.provenance import checksum, provenance, usable_cores, write_record
from tests.helpers import Forked


def test_record_holds_results_and_where_they_come_from(tmp_path):
    origin = provenance("python -m benchmarks.collection", seeds=[0, 1], seconds=1.23456)
    assert origin["seeds"] == [0, 1]
    assert origin["seconds"] == 1.235
    assert origin["cpu"]
    assert origin["cores"] == usable_cores() >= 1
    assert origin["versions"]["torch"]
    path = tmp_path / "new" / "record.json"
    write_record(path, {"figure": 1.5}, origin)
    record = json.loads(path.read_text())
    assert {name: record[name] for name in ("results", "provenance")} == {
        "results": {"figure": 1.5},
        "provenance": origin,
    }
    assert record["sha256"] == checksum(record)


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_write_leaves_the_record_of_before_and_nothing_else(tmp_path, monkeypatch, fails):
    path = tmp_path / "record.json"
    write_record(path, {"figure": 1}, {})
    before = path.read_bytes()
    monkeypatch.setattr(os, fails, full)
    with pytest.raises(
        OSError, match=r"record could not be written \(No space left.*untouched: .*record\.json"
    ):
        write_record(path, {"figure": 2}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


WRITES = """
import resource, sys
from ebm_control.provenance import write_record
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
write_record(sys.argv[1], {"figures": list(range(100_000))}, {})
"""


def test_a_file_that_gets_too_large_for_the_system_leaves_the_record_of_before(tmp_path):
    path = tmp_path / "record.json"
    write_record(path, {"figure": 1}, {})
    before = path.read_bytes()
    assert (
        Forked(WRITES, str(path))
        .communicate()[1]
        .splitlines()[-1]
        .startswith("OSError: [Errno 27] the record could not be written (File too")
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("result", [object(), {1, 2}, b"bytes"])
def test_what_has_no_form_in_json_touches_nothing(tmp_path, result):
    path = tmp_path / "record.json"
    write_record(path, {"figure": 1}, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_record(path, {"rows": list(range(10_000)), "figure": result}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "record.json", tmp_path / "file" / "deeper" / "record.json", tmp_path):
        with pytest.raises(OSError, match="the record could not be written"):
            write_record(path, {}, {})
    assert (tmp_path / "file").read_text() == "mine"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "record.json")
    write_record(tmp_path / "link.json", {"figure": 1}, {})
    write_record(tmp_path / "link.json", {"figure": 2}, {})
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "record.json").read_text())["results"] == {"figure": 2}


@pytest.mark.parametrize(
    "results",
    [{1: 0.1, "10": 2, 2: [True, None]}, {"Müller ✓": 1e-300}, {"nan": float("nan"), "t": (1, 2)}],
    ids=str,
)
def test_the_checksum_is_that_of_what_is_read_back_whatever_its_layout(tmp_path, results):
    path = tmp_path / "record.json"
    write_record(path, results, {"command": "a"})
    record = json.loads(path.read_text())
    assert record["sha256"] == checksum(record)
    backwards = {name: record[name] for name in reversed(record)}
    assert checksum(json.loads(json.dumps(backwards, indent=7))) == record["sha256"]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["results"].update(figure=2.5),
        lambda record: record["results"].update(figure="1.5"),
        lambda record: record["results"].update(another=None),
        lambda record: record["results"].pop("figure"),
        lambda record: record["provenance"].update(command="b"),
    ],
)
def test_other_figures_or_another_origin_have_another_checksum(tmp_path, change):
    path = tmp_path / "record.json"
    write_record(path, {"figure": 1.5}, {"command": "a"})
    record = json.loads(path.read_text())
    change(record)
    assert record["sha256"] != checksum(record)


def links(folder, kind):
    names = {"itself": ["a.json"], "two": ["a.json", "b.json"], "three": ["a.json", "b.json", "c.json"]}[kind]
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        (folder / name).symlink_to(folder / other)
    return folder / "a.json"


@pytest.mark.parametrize("kind", ["itself", "two", "three"])
def test_a_link_that_leads_back_to_itself_is_one_clear_error(tmp_path, kind):
    path = links(tmp_path, kind)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="the record could not be written"):
        write_record(path, {"figure": 1}, {})
    assert sorted(tmp_path.iterdir()) == before
    assert path.is_symlink()
