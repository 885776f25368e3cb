"""Image tasks with energies: generation, restoration, outlier detection, robustness, composition."""

from ebm_control.images.attacks import Attack, attacked
from ebm_control.images.autoencoders import Autoencoder, AutoencoderSettings, fit_autoencoder
from ebm_control.images.classify import (
    Classifier,
    accuracy,
    energy_logits,
    fit_classifier,
    refined_logits,
)
from ebm_control.images.compose import all_of, anything, compose, has
from ebm_control.images.detect import (
    EnergyProfile,
    auroc,
    energy_score,
    gradient_norm_score,
    outlier_sets,
)
from ebm_control.images.metrics import feature_distance, feature_frechet, nearest, precision_recall
from ebm_control.images.restore import (
    bottom_half,
    denoise,
    inpaint,
    random_pixels,
    restore,
    salt_and_pepper,
    suspects,
)
from ebm_control.images.robustness import Robustness, robustness, transferred, withstood
from ebm_control.images.sampling import generate

__all__ = [
    "Attack",
    "Autoencoder",
    "AutoencoderSettings",
    "Classifier",
    "EnergyProfile",
    "Robustness",
    "accuracy",
    "all_of",
    "anything",
    "attacked",
    "auroc",
    "bottom_half",
    "compose",
    "denoise",
    "energy_logits",
    "energy_score",
    "feature_distance",
    "feature_frechet",
    "fit_autoencoder",
    "fit_classifier",
    "generate",
    "gradient_norm_score",
    "has",
    "inpaint",
    "nearest",
    "outlier_sets",
    "precision_recall",
    "random_pixels",
    "refined_logits",
    "restore",
    "robustness",
    "salt_and_pepper",
    "suspects",
    "transferred",
    "withstood",
]
