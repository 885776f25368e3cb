"""Continual learning: classes arrive one task at a time."""

from ebm_control.continual.discriminant import Discriminant
from ebm_control.continual.divergence import Divergence
from ebm_control.continual.evaluate import Outcome, learn
from ebm_control.continual.generative import ClassEnergies, Generative
from ebm_control.continual.learners import Contrastive, Learner, Softmax
from ebm_control.continual.memory import Memory
from ebm_control.continual.methods import METHODS, LearnerSettings, make_learner
from ebm_control.continual.networks import GatedEnergy, Perceptron
from ebm_control.continual.paired import Dreams, Paired
from ebm_control.continual.penalties import Consolidation, Distillation, Intelligence, Penalty

__all__ = [
    "METHODS",
    "ClassEnergies",
    "Consolidation",
    "Contrastive",
    "Discriminant",
    "Distillation",
    "Divergence",
    "Dreams",
    "GatedEnergy",
    "Generative",
    "Intelligence",
    "Learner",
    "LearnerSettings",
    "Memory",
    "Outcome",
    "Paired",
    "Penalty",
    "Perceptron",
    "Softmax",
    "learn",
    "make_learner",
]
