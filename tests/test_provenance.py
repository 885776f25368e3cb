import json

from ebm_control.provenance import provenance, usable_cores, write_record


def test_record_holds_results_and_where_they_come_from(tmp_path):
    origin = provenance("python -m benchmarks.collection", seeds=[0, 1], seconds=1.23456)
    assert origin["seeds"] == [0, 1]
    assert origin["seconds"] == 1.235
    assert origin["cpu"]
    assert origin["cores"] == usable_cores() >= 1
    assert origin["versions"]["torch"]
    path = tmp_path / "new" / "record.json"
    write_record(path, {"figure": 1.5}, origin)
    assert json.loads(path.read_text()) == {"results": {"figure": 1.5}, "provenance": origin}
