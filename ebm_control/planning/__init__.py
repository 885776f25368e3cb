"""Planning: trajectories sampled between a start and a goal, and control by replanning."""

from ebm_control.planning.agent import MPCAgent
from ebm_control.planning.coarse_to_fine import CoarseToFine
from ebm_control.planning.inverse_dynamics import (
    ClosedForm,
    InverseDynamics,
    LearnedInverse,
    RecursiveLeastSquares,
)
from ebm_control.planning.plan import Plan
from ebm_control.planning.planner import Planner

__all__ = [
    "ClosedForm",
    "CoarseToFine",
    "InverseDynamics",
    "LearnedInverse",
    "MPCAgent",
    "Plan",
    "Planner",
    "RecursiveLeastSquares",
]
