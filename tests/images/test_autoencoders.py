"""Autoencoders: what they learn, what they are told, and what their scores tell apart."""

import pytest
import torch

from ebm_control.images import (
    Autoencoder,
    AutoencoderSettings,
    auroc,
    fit_autoencoder,
    nearest,
    outlier_sets,
    random_pixels,
)
from ebm_control.images.autoencoders import reconstruction_score, samples_of
from tests.helpers import seeded
from tests.images.helpers import SHAPE, images

pytestmark = pytest.mark.slow

SETTINGS = AutoencoderSettings(code=12, width=8, updates=250, batch_size=64, learning_rate=4e-3)


def mostly_known(x, generator):
    known = random_pixels(len(x), SHAPE, 0.75, generator)
    return torch.where(known, x, 0.5), known


@pytest.fixture(scope="module")
def plain(digits):
    return fit_autoencoder(digits, SETTINGS)


@pytest.fixture(scope="module")
def variational(digits):
    return fit_autoencoder(digits, SETTINGS, variational=True)


@pytest.fixture(scope="module")
def mending(digits):
    return fit_autoencoder(digits, SETTINGS, spoil=mostly_known)


@pytest.fixture
def held(digits):
    return digits.part("test", 200)


def test_digits_come_out_nearer_than_the_mean_image(plain, variational, digits, held):
    error = (digits.part("train").mean(dim=0) - held).square().mean()
    assert (plain(held) - held).square().mean() < 0.5 * error
    assert (variational(held) - held).square().mean() < 0.8 * error


def test_a_longer_code_keeps_more(digits, held, plain):
    short = fit_autoencoder(digits, AutoencoderSettings(1, 8, 120, 64, 4e-3))
    errors = [(model(held) - held).square().mean() for model in (plain, short)]
    assert errors[0] < 0.8 * errors[1]


def test_what_comes_out_is_in_the_range_of_pixels():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Autoencoder((3, 12, 8), 5, 4)
    found = model(images(4, 3, 12, 8))
    assert found.shape == (4, 3, 12, 8)
    assert 0 <= found.min() < found.max() <= 1


def test_samples_are_nearer_to_digits_than_noise_and_differ(variational, digits):
    drawn = samples_of(variational, 50, seeded())
    train = digits.part("train")

    def away(x):
        return (x - train[nearest(x, train)]).square().mean()

    assert away(drawn) < 0.5 * away(images(50, *SHAPE))
    assert drawn.std(dim=0).mean() > 0.05
    assert torch.equal(drawn, samples_of(variational, 50, seeded()))
    assert not torch.equal(drawn, samples_of(variational, 50, seeded(1)))


def test_codes_of_a_variational_one_have_a_standard_normal_law_in_the_whole(variational, plain, digits):
    code, log_variance = variational.encoded(digits.part("train", 500))
    second = code.square().mean() + log_variance.exp().mean()
    assert float(second) == pytest.approx(1, abs=0.35)
    assert plain.encoded(digits.part("train", 5))[1] is None


def test_a_heavier_divergence_leaves_less_in_the_code(digits):
    def told(beta):
        settings = AutoencoderSettings(8, 4, 80, 32, 4e-3, beta)
        code, log_variance = fit_autoencoder(digits, settings, variational=True).encoded(
            digits.part("train", 200)
        )
        return (code.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()

    assert told(20.0) < 0.2 * told(0.1)


def test_unknown_pixels_are_mended_better_than_by_the_mean(mending, digits, held):
    _, known = mostly_known(held, seeded(5))
    found = mending(held, known)
    error, plain = (
        (guess - held)[~known].square().mean() for guess in (found, digits.part("train").mean(dim=0))
    )
    assert error < 0.8 * plain


def test_unknown_pixels_are_not_read_and_the_mask_is(mending, held):
    spoilt, known = mostly_known(held, seeded(5))
    assert torch.equal(mending(spoilt, known), mending(held, known))
    assert not torch.allclose(mending(spoilt, known), mending(spoilt))
    everything = torch.ones(SHAPE, dtype=torch.bool)
    assert torch.equal(mending(spoilt), mending(spoilt, everything))


def test_scores_are_errors_and_tell_noise_from_digits(plain, held):
    score = reconstruction_score(plain)
    by_hand = (plain(held) - held).square().mean(dim=(1, 2, 3))
    assert torch.allclose(score(held), by_hand)
    assert auroc(score(held), score(outlier_sets(held, seeded())["uniform"])) > 0.98


def test_equal_seeds_train_equal_autoencoders(digits, held):
    before = torch.get_rng_state()
    for given in ({}, {"variational": True}, {"spoil": mostly_known}):
        a, b, c = (
            fit_autoencoder(digits, AutoencoderSettings(2, 2, 5, 8, seed=seed), **given)(held)
            for seed in (1, 1, 2)
        )
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())
