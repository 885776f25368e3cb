"""Baselines: dynamics models without an energy, planned with in the space of actions or asked for futures."""

from ebm_control.baselines.fit import Baseline, fit_ensemble, fit_feed_forward, fit_recurrent
from ebm_control.baselines.futures import futures
from ebm_control.baselines.models import Ensemble, FeedForward, TrajectorySampling
from ebm_control.baselines.recurrent import Recurrent

__all__ = [
    "Baseline",
    "Ensemble",
    "FeedForward",
    "Recurrent",
    "TrajectorySampling",
    "fit_ensemble",
    "fit_feed_forward",
    "fit_recurrent",
    "futures",
]
