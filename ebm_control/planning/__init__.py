"""Planning: trajectories sampled between a start and a goal, and model-predictive control."""

from ebm_control.planning.agent import MPCAgent
from ebm_control.planning.coarse_to_fine import CoarseToFine
from ebm_control.planning.episodes import Agent, Episodes, evaluate, run_episodes
from ebm_control.planning.guided import Guided, GuidedPlan
from ebm_control.planning.homotopy import side_of, winding
from ebm_control.planning.inverse_dynamics import (
    ClosedForm,
    InverseDynamics,
    LearnedInverse,
    RecursiveLeastSquares,
)
from ebm_control.planning.negatives import PlannedNegatives
from ebm_control.planning.plan import AnyPlanner, Plan
from ebm_control.planning.planner import Planner
from ebm_control.planning.roadmap import Guide, LineOfSight, PairEnergy, Roadmap, straightened
from ebm_control.planning.shooting import Dynamics, ExpectedDynamics, RolledOut

__all__ = [
    "Agent",
    "AnyPlanner",
    "ClosedForm",
    "CoarseToFine",
    "Dynamics",
    "Episodes",
    "ExpectedDynamics",
    "Guide",
    "Guided",
    "GuidedPlan",
    "InverseDynamics",
    "LearnedInverse",
    "LineOfSight",
    "MPCAgent",
    "PairEnergy",
    "Plan",
    "PlannedNegatives",
    "Planner",
    "RecursiveLeastSquares",
    "Roadmap",
    "RolledOut",
    "evaluate",
    "run_episodes",
    "side_of",
    "straightened",
    "winding",
]
