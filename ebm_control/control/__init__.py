"""Control: planners and agents of trained models, energies and baselines alike."""

from ebm_control.control.agent import make_agent
from ebm_control.control.planner import SAMPLERS, planner_for

__all__ = ["SAMPLERS", "make_agent", "planner_for"]
