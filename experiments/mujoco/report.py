"""The summary over seeds, the table for the terminal, and those of the page of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from experiments import tables
from experiments.mujoco.methods import Row
from experiments.mujoco.problems import PROBLEMS
from experiments.pages.sources import sources
from experiments.records import load

KEYS = ("part", "env", "method", "steps")
EMPTY: Row = {"success": None, "plan_ms_p50": None, "bar": None}


def summarised(rows: list[Row]) -> list[Row]:
    """One row per combination of `KEYS`; `return_mean` has the interval over seeds and the values of all seeds.

    A bar that is relative to the oracle's return is computed from its row, and None without one.
    """
    made = []
    for row in tables.summarised(
        rows, KEYS, ("return", "success", "policy_return", "planned", "data_return")
    ):
        made.append(EMPTY | row | {"return_mean": row["return"]})
        del made[-1]["return"]
    best = {row["env"]: row["return_mean"] for row in made if row["method"] == "oracle"}
    for row in made:
        if row["bar"] is None:
            row["bar"] = PROBLEMS[row["env"]].good(best.get(row["env"]))
    return made


def _bar(row: Row) -> str:
    problem = PROBLEMS.get(row["env"])
    if problem is not None and problem.success:
        return f"success {row['bar']:.2f}"
    found = "–" if row["bar"] is None else tables.significant(row["bar"])
    return found if problem is None or problem.within is None else f"{found} (oracle − {problem.within:.0%})"


COLUMNS = tables.Columns(
    "MuJoCo",
    {
        "part": "part",
        "environment": "env",
        "method": "method",
        "steps": lambda row: f"{row['steps']:,.0f}",
        "return": lambda row: tables.spread(row | {"return": row["return_mean"]}, "return"),
        "success": tables.cell("success"),
        "bar": _bar,
        "ms per action": lambda row: tables.spread({"ms": row["plan_ms_p50"]}, "ms"),
        "minutes": lambda row: f"{row['minutes']:.1f}",
        "seeds": "seeds",
    },
)


def table(rows: list[Row]) -> Table:
    """The table for the terminal, problem by problem."""
    place = {name: i for i, name in enumerate(PROBLEMS)}
    return COLUMNS.table(sorted(rows, key=lambda row: (row["part"], place.get(row["env"], len(place)))))


RECORD = "experiments/results/mujoco.json"
NONE = "No run is recorded yet."
MODEL_FREE = ("SAC", "SAC, 4 updates", "DQN", "SAC + HER")
LONGER = ("SAC 10x", "DQN 10x")
SAME_LOOP = ("energy", "energy, no tilt", "energy, executed only", "feed-forward", "ensemble", "PETS")
PARTS = ("planning", "policy", "model", "reward", "environment")
NOTHING = (
    "environment",
    "steps",
    "bar",
    "energy",
    "its policy alone",
    "model-free",
    "10 x the steps",
    "oracle",
    "seeds",
)
OTHERS = ("environment", "method", "return or success", "ms per action", "minutes", "seeds")
TIME = ("environment", "ms per action", "ms of a step", "steps per second", "minutes", *PARTS, "seeds")
DATA = (
    "environment",
    "method",
    "return or success",
    "planned return",
    "return of the data",
    "ms per action",
    "seeds",
)


def score(row: Row | None, name: str = "return_mean") -> str:
    """Text of a row's success rate where the problem has one, else of its return; "–" without a row."""
    if row is None:
        return "–"
    if name == "return_mean" and PROBLEMS[row["env"]].success:
        return tables.spread(row, "success", ".2f", ".2f")
    return tables.spread({**row, "shown": row.get(name)} | _spread_of(row, name), "shown")


def _spread_of(row: Row, name: str) -> Row:
    stem = "return" if name == "return_mean" else name
    return {f"shown_{end}": row.get(f"{stem}_{end}") for end in ("ci95", "by_seed")}


def from_nothing(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells by problem: the energy, its policy alone, and model-free methods at equal and at ten times the steps."""
    for name, problem in PROBLEMS.items():
        here = {row["method"]: row for row in rows if (row["part"], row["env"]) == ("online", name)}
        ours = here.get("energy")
        if ours is None:
            continue
        equal, longer = (
            [_named(here[method], ours["seeds"]) for method in methods if method in here]
            for methods in (MODEL_FREE, LONGER)
        )
        yield (
            name,
            f"{problem.steps:,}",
            _bar(ours),
            score(ours),
            score(ours, "policy_return") if ours.get("policy_return") is not None else "–",
            ", ".join(equal) or "–",
            ", ".join(longer) or "–",
            score(here.get("oracle")),
            str(ours["seeds"]),
        )


def _named(row: Row, seeds: int) -> str:
    """Score of another method, with its name, and with its number of seeds if that is another one."""
    name, count = row["method"].removesuffix(" 10x"), row["seeds"]
    fewer = (
        "" if count == seeds or count == 2 else f", {count} seed{'s' if count > 1 else ''}"
    )  # two are named anyway
    return f"{score(row)} ({name}{fewer})"


def same_loop(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells of all methods in the same loop, where an environment has more than one."""
    for name in PROBLEMS:
        here = {row["method"]: row for row in rows if (row["part"], row["env"]) == ("online", name)}
        found = [here[method] for method in SAME_LOOP if method in here]
        for row in found if len(found) > 1 else []:
            yield name, row["method"], score(row), _ms(row), f"{row['minutes']:.1f}", str(row["seeds"])


def times(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells of the time that learning with the energy takes, and of the shares of its parts."""
    for name in PROBLEMS:
        for row in rows:
            if (row["part"], row["env"], row["method"]) == ("online", name, "energy"):
                step = "–" if row.get("dt_ms") is None else f"{row['dt_ms']:.0f}"
                shares = [row.get(f"share_{part}") for part in PARTS]
                yield (
                    name,
                    _ms(row),
                    step,
                    f"{row['steps_per_second']:.0f}",
                    f"{row['minutes']:.1f}",
                    *("–" if share is None else f"{share:.0%}" for share in shares),
                    str(row["seeds"]),
                )


def from_data(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Cells of the offline part."""
    for name in PROBLEMS:
        for row in rows:
            if (row["part"], row["env"]) == ("offline", name):
                extra = [
                    score(row, key) if row.get(key) is not None else "–" for key in ("planned", "data_return")
                ]
                yield name, row["method"], score(row), *extra, _ms(row), str(row["seeds"])


def _ms(row: Row) -> str:
    return tables.spread({"ms": row["plan_ms_p50"]}, "ms")


def page_tables(root: Path) -> dict[str, str]:
    """The page's tables by slot."""
    rows = load(root / RECORD)["results"]["rows"]
    return {
        "nothing": tables.markdown(NOTHING, from_nothing(rows)),
        "loop": tables.markdown(OTHERS, same_loop(rows)) or NONE,
        "time": tables.markdown(TIME, times(rows)),
        "data": tables.markdown(DATA, from_data(rows)) or NONE,
        "sources": sources(root, (RECORD,)),
    }
