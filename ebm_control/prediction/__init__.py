"""Prediction: futures sampled from an energy with a fixed history, and metrics to score them."""

from ebm_control.prediction.metrics import (
    ModeCoverage,
    calibration_error,
    energy_distance,
    finite_and_in_range,
    frechet_distance,
    mode_coverage,
    rank_histogram,
    rmse_best_of,
    rmse_of_mean,
    rmse_of_sample,
    segment_features,
)
from ebm_control.prediction.predict import Prediction, predict

__all__ = [
    "ModeCoverage",
    "Prediction",
    "calibration_error",
    "energy_distance",
    "finite_and_in_range",
    "frechet_distance",
    "mode_coverage",
    "predict",
    "rank_histogram",
    "rmse_best_of",
    "rmse_of_mean",
    "rmse_of_sample",
    "segment_features",
]
