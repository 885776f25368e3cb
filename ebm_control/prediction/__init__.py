"""Prediction: futures sampled from an energy, history fixed."""

from ebm_control.prediction.error import PredictionError, prediction_error
from ebm_control.prediction.predict import Prediction, cold, predict, sampler_for

__all__ = ["Prediction", "PredictionError", "cold", "predict", "prediction_error", "sampler_for"]
