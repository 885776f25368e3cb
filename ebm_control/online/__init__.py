"""Online learning: plan, act and learn from scratch, without a data set."""

from ebm_control.online.actor_critic import ActorCritic
from ebm_control.online.cloned import ClonedPolicy
from ebm_control.online.experience import Experience
from ebm_control.online.exploration import FrontierGoals, Goals
from ebm_control.online.learner import BaselineLearner, EnergyLearner, Learner, PlannedWindows
from ebm_control.online.loop import OnlineLearning
from ebm_control.online.offline import learn_offline, pretrain
from ebm_control.online.planner import OnlinePlanner
from ebm_control.online.policy import PlanPolicy
from ebm_control.online.presets import PRESETS, OnlinePreset, learn_online, prepare_online, preset_of
from ebm_control.online.progress import EpisodeEnd
from ebm_control.online.recipe import make_learner
from ebm_control.online.regimes import Regime
from ebm_control.online.reward import LearnedReward
from ebm_control.online.settings import OnlineSettings
from ebm_control.online.units import bounded_normalizer

__all__ = [
    "PRESETS",
    "ActorCritic",
    "BaselineLearner",
    "ClonedPolicy",
    "EnergyLearner",
    "EpisodeEnd",
    "Experience",
    "FrontierGoals",
    "Goals",
    "LearnedReward",
    "Learner",
    "OnlineLearning",
    "OnlinePlanner",
    "OnlinePreset",
    "OnlineSettings",
    "PlanPolicy",
    "PlannedWindows",
    "Regime",
    "bounded_normalizer",
    "learn_offline",
    "learn_online",
    "make_learner",
    "prepare_online",
    "preset_of",
    "pretrain",
]
