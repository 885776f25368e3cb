"""Exploration: goals at the frontier of visited states, and costs of novelty and of disagreement."""

from ebm_control.online.exploration.disagreement import DisagreementCost
from ebm_control.online.exploration.frontier import FrontierGoals, Goals
from ebm_control.online.exploration.novelty import NoveltyCost
from ebm_control.online.exploration.occupancy import Occupancy
from ebm_control.online.exploration.ways import Ways

__all__ = ["DisagreementCost", "FrontierGoals", "Goals", "NoveltyCost", "Occupancy", "Ways"]
