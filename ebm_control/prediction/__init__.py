"""Prediction: futures sampled from an energy, history fixed."""

from ebm_control.prediction.predict import Prediction, cold, predict, sampler_for

__all__ = ["Prediction", "cold", "predict", "sampler_for"]
