"""Control: planners and agents from trained models, both energies and baselines."""

from ebm_control.control.agent import make_agent
from ebm_control.control.guide import FittedGuide, GuideSettings, fit_guide
from ebm_control.control.planner import planner_for
from ebm_control.control.presets import SAMPLERS

__all__ = ["SAMPLERS", "FittedGuide", "GuideSettings", "fit_guide", "make_agent", "planner_for"]
