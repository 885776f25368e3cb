"""Baselines: dynamics models without an energy, for planning over actions and for prediction."""

from ebm_control.baselines.baseline import Baseline
from ebm_control.baselines.fit import fit_baseline
from ebm_control.baselines.futures import futures
from ebm_control.baselines.models import DisplacementModel, Ensemble, FeedForward, TrajectorySampling
from ebm_control.baselines.recurrent import Recurrent
from ebm_control.baselines.settings import BaselineSettings

__all__ = [
    "Baseline",
    "BaselineSettings",
    "DisplacementModel",
    "Ensemble",
    "FeedForward",
    "Recurrent",
    "TrajectorySampling",
    "fit_baseline",
    "futures",
]
