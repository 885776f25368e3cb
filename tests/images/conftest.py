"""Models of digits that are trained once, for seconds, and shared."""

import pytest

from ebm_control.data import load_images
from ebm_control.images import Attack, attacked, fit_classifier
from ebm_control.models import ImageModelSettings, ImageTrainSettings, fit_images


@pytest.fixture(scope="session")
def digits():
    return load_images("digits")


@pytest.fixture(scope="session")
def classifier(digits):
    return fit_classifier(digits, width=8, batch_size=64, updates=200)


@pytest.fixture(scope="session")
def hardened(digits):
    """The same, trained on its own adversarial examples."""
    weak = Attack(0.15, 2, step_size=0.7)
    return fit_classifier(
        digits, width=8, batch_size=64, updates=200, perturb=lambda f, x, y: attacked(f, x, y, weak)
    )


@pytest.fixture(scope="session")
def noised(digits):
    """A class-conditional energy of noised digits."""
    settings = ImageTrainSettings(
        ImageModelSettings(conditional=True, width=8),
        updates=400,
        batch_size=64,
        learning_rate=2e-3,
        ema=0.98,
    )
    return fit_images(digits, settings, progress=False).energy
