"""Means over seeds, and tables in the terminal and in the documentation."""

import pytest

from experiments.tables import Columns, cell, summarised


def test_shares_weigh_all_trials_alike_and_trials_are_counted():
    rows = [
        {"method": "a", "seed": seed, "solved": share, "return": share, "trials": trials}
        for seed, (share, trials) in enumerate(((1.0, 30), (0.0, 10)))
    ]
    (found,) = summarised(rows, ("method",), ("return",), ("solved",), of="trials")
    assert found["solved"] == pytest.approx(0.75)
    assert found["return"] == pytest.approx(0.5)
    assert found["trials"] == 40
    (plain,) = summarised(rows, ("method",), ("return",))
    assert (plain["solved"], plain["trials"]) == (0.5, 20)


def test_a_table_says_the_same_in_the_terminal_and_in_the_documentation():
    columns = Columns("Some", {"method": "method", "return": cell("return"), "share": cell("share", ".1%")})
    rows = [{"method": "a", "return": 1.5, "return_ci95": 0.25, "share": 0.5}, {"method": "b", "return": 2.0}]
    assert columns.cells(rows) == [["a", "1.50 ± 0.25", "50.0%"], ["b", "2.00", "–"]]
    assert columns.markdown(rows[1:]) == "| method | return | share |\n|---|---|---|\n| b | 2.00 | – |"
    made = columns.table(rows)
    assert (made.title, made.row_count, [column.header for column in made.columns]) == (
        "Some",
        2,
        ["method", "return", "share"],
    )
    assert columns.markdown([]) == ""
    assert cell("return", None)({"return": 12345.678}) == "12,300"
