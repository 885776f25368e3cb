"""Control: planners and agents of trained models, energies and baselines alike."""

from ebm_control.control.planner import SAMPLERS, planner_for

__all__ = ["SAMPLERS", "planner_for"]
