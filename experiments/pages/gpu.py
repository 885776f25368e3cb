"""Tables of the record of `python -m benchmarks.gpu`, for its terminal and for the speed page."""

from __future__ import annotations

from experiments.tables import Columns, significant

TABLES = {
    "chains": Columns(
        "Langevin steps",
        {
            "chains": lambda row: f"{row['chains']:,}",
            "loop": "loop",
            "ms a step": lambda row: significant(row["ms_per_step"]),
        },
    ),
    "plans": Columns(
        "Plans on Reacher",
        {
            "start states": lambda row: f"{row['starts']:,}",
            "planner": "planner",
            "median, ms": lambda row: significant(row["ms"]),
            "plans/s": lambda row: significant(row["plans_per_second"]),
        },
    ),
    "updates": Columns(
        "Contrastive updates",
        {
            "median, ms": lambda row: significant(row["ms"]),
            "updates/s": lambda row: significant(row["updates_per_second"]),
        },
    ),
}
