"""Baselines: dynamics models without an energy, planned with in the space of actions."""

from ebm_control.baselines.fit import Baseline, fit_ensemble, fit_feed_forward
from ebm_control.baselines.models import Ensemble, FeedForward, TrajectorySampling
from ebm_control.baselines.recipe import baseline_planner

__all__ = [
    "Baseline",
    "Ensemble",
    "FeedForward",
    "TrajectorySampling",
    "baseline_planner",
    "fit_ensemble",
    "fit_feed_forward",
]
