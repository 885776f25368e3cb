"""Prediction: futures sampled from an energy, history fixed."""

from ebm_control.prediction.error import PredictionError, prediction_error
from ebm_control.prediction.predict import Prediction, predict, sampler_for

__all__ = ["Prediction", "PredictionError", "predict", "prediction_error", "sampler_for"]
