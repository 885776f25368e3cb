"""Missing and spoilt pixels: what is kept, what is not read, and whose law the rest has."""

import math

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.images import (
    bottom_half,
    denoise,
    inpaint,
    random_pixels,
    restore,
    salt_and_pepper,
    suspects,
)
from ebm_control.samplers import image_sampler
from tests.helpers import seeded
from tests.images.helpers import (
    DEVIATION,
    SHAPE,
    annealed_std,
    bowls,
    gaussian,
    gaussians,
    greys,
    images,
    mirror,
)

pytestmark = pytest.mark.slow

UPPER = bottom_half(SHAPE)
KINDS = pytest.mark.parametrize("energy", [gaussian(), mirror()], ids=["noised", "plain"])


@KINDS
def test_known_pixels_come_back_to_the_bit(energy):
    given = images(3, *SHAPE)
    for known in (UPPER, random_pixels(3, SHAPE, 0.5, seeded(1))):
        filled = inpaint(energy, given, known, fills=2, generator=seeded())
        assert filled.shape == (3, 2, *SHAPE)
        mask = known.expand(3, *SHAPE)
        for fill in filled.unbind(1):
            assert torch.equal(fill[mask], given[mask])
            assert not (fill[~mask] == given[~mask]).all()
        assert filled.min() >= 0
        assert filled.max() <= 1


@KINDS
def test_unknown_pixels_are_not_read(energy):
    given = images(2, *SHAPE)
    spoilt = torch.where(UPPER, given, torch.nan)
    found = [inpaint(energy, x, UPPER, generator=seeded()) for x in (given, spoilt)]
    assert torch.equal(*found)
    assert torch.isfinite(found[1]).all()


@KINDS
def test_fills_of_an_image_differ_and_repeat_with_the_seed(energy):
    a, b, c = (inpaint(energy, images(2, *SHAPE), UPPER, fills=3, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.allclose(a[:, 0], a[:, 1])
    assert not torch.allclose(a[0, :, :, 4:], a[1, :, :, 4:])


def test_unknown_pixels_of_a_gaussian_have_its_mean_and_deviation():
    """Its pixels are independent: those that are known, however far from their mean, say nothing of the others."""
    mean = 0.2 + 0.6 * images(*SHAPE)
    filled = inpaint(gaussian(mean), images(1, *SHAPE, seed=1), UPPER, fills=200, generator=seeded())[0]
    away = (filled - mean)[:, ~UPPER]
    expected = annealed_std(image_sampler(gaussian(mean), 40, corrections=2))
    assert (away.mean(dim=0) / DEVIATION * math.sqrt(200)).abs().max() < 4.5
    assert float(away.square().mean().sqrt()) == pytest.approx(expected, rel=0.03)


def test_known_pixels_tell_which_part_of_a_mixture_the_others_are_of():
    means = 0.2 + 0.6 * images(1, 3, *SHAPE)
    given = means[0] + DEVIATION * torch.randn(3, *SHAPE, generator=seeded())
    filled = inpaint(gaussians(means), given.clamp(0, 1), UPPER, fills=8, generator=seeded())
    away = (filled - means[0][:, None])[..., 4:, :].square().mean(dim=(2, 3, 4)).sqrt()
    assert away.max() < 1.6 * DEVIATION


def test_a_plain_energy_fills_as_the_known_pixels_ask():
    given = images(3, *SHAPE)
    filled = inpaint(mirror(), given, UPPER, generator=seeded())[:, 0]
    assert (filled - filled.flip(2)).abs().max() < 0.05


@pytest.mark.parametrize("energy", [gaussians(greys(0.3, 0.7)), bowls(greys(0.3, 0.7)[:, 0])])
def test_labels_say_what_each_image_is_filled_with(energy):
    given = torch.full((2, *SHAPE), 0.5)
    filled = inpaint(energy, given, UPPER, fills=3, labels=torch.tensor([1, 0]), generator=seeded())
    tones = filled[..., 4:, :].mean(dim=(2, 3, 4))
    expected = torch.tensor([[0.7], [0.3]]).expand(2, 3)
    assert torch.allclose(tones, expected, atol=0.06)


def test_unknown_pixels_of_digits_are_filled_better_than_by_the_mean_image(noised, digits):
    given = digits.part("test", 40)
    known = random_pixels(40, SHAPE, 0.5, seeded(1))
    sampler = image_sampler(noised, 20, corrections=1)
    filled = inpaint(noised, given, known, fills=4, sampler=sampler, generator=seeded()).mean(dim=1)
    error, plain = ((guess - given)[~known].square().mean() for guess in (filled, noised.mean))
    assert error < 0.9 * plain


@pytest.mark.parametrize("level", [0.02, 0.1, 0.5, 4.0])
def test_denoised_images_of_a_gaussian_are_the_posterior_mean(level):
    mean = 0.2 + 0.6 * images(*SHAPE)
    noisy = mean + 0.1 * torch.randn(5, *SHAPE, generator=seeded())
    share = 0.2**2 / (0.2**2 + level**2)
    expected = (mean + share * (noisy - mean)).clamp(0, 1)
    assert torch.allclose(denoise(gaussian(mean, std=0.2), noisy, level), expected, atol=1e-5)


def test_denoising_a_mixture_weighs_its_parts():
    """Two tones and noise that hides them: the posterior mean is between, by how likely each is."""
    energy = gaussians(greys(0.4, 0.6, shape=(1, 2, 2)))
    noisy, level = torch.full((1, 1, 2, 2), 0.53), 0.3
    variance = DEVIATION**2 + level**2
    odds = math.exp(4 * ((0.53 - 0.4) ** 2 - (0.53 - 0.6) ** 2) / (2 * variance))
    means = [tone + DEVIATION**2 / variance * (0.53 - tone) for tone in (0.4, 0.6)]
    expected = (means[0] + odds * means[1]) / (1 + odds)
    assert torch.allclose(denoise(energy, noisy, level), torch.tensor(expected), atol=1e-5)
    told = denoise(energy, noisy, level, labels=torch.tensor([0]))
    assert torch.allclose(told, torch.tensor(means[0]), atol=1e-5)


def test_digits_are_denoised(noised, digits):
    clean = digits.part("test", 100)
    noisy = clean + 0.3 * torch.randn(clean.shape, generator=seeded())
    found = denoise(noised, noisy, 0.3)
    assert (found - clean).square().mean() < 0.6 * (noisy.clamp(0, 1) - clean).square().mean()
    # Better than all that a Gaussian of the data could do.
    plain = gaussian(noised.mean, float(noised.std))
    assert (found - clean).square().mean() < 0.8 * (denoise(plain, noisy, 0.3) - clean).square().mean()


def test_a_plain_energy_denoises_and_restores_downhill():
    target = images(1, *SHAPE)
    energy, noisy = bowls(target), target + 0.3 * torch.randn(2, *SHAPE, generator=seeded())
    assert (denoise(energy, noisy, 0.3) - target).abs().max() < 1e-3
    assert (restore(energy, noisy.clamp(0, 1)) - target).abs().max() < 1e-3
    few = denoise(energy, noisy, 0.3, steps=1)
    assert (few - noisy.clamp(0, 1)).abs().max() <= 0.1 + 1e-6
    assert (energy(few) < energy(noisy.clamp(0, 1))).all()


def test_suspect_are_pixels_that_denoising_moves_far():
    """By σ² / (d² + σ²) of their distance from the mean."""
    energy = gaussian(0.5, std=0.1)
    x = torch.linspace(0, 1, 64).reshape(1, *SHAPE)
    reach = 0.15 * (0.1**2 + 0.2**2) / 0.2**2
    assert torch.equal(suspects(energy, x), (x - 0.5).abs() > reach)
    assert torch.equal(suspects(energy, x, beyond=0.3), (x - 0.5).abs() > 2 * reach)
    wider = 0.15 * (0.1**2 + 0.1**2) / 0.1**2
    assert torch.equal(suspects(energy, x, level=0.1), (x - 0.5).abs() > wider)


def test_restoring_fills_suspect_pixels_and_leaves_the_others():
    energy, x = gaussian(0.5), torch.full((2, *SHAPE), 0.45)
    x[:, :, 2, 3], x[:, :, 5, 5] = 0.9, 0.1
    found = restore(energy, x, generator=seeded())
    spoilt = (x - 0.45).abs() > 0.1
    assert torch.allclose(found[~spoilt], x[~spoilt])
    assert (found[spoilt] - 0.5).abs().max() < 4 * DEVIATION / math.sqrt(4)


def test_restored_digits_are_nearer_to_what_they_were(noised, digits):
    clean = digits.part("test", 32)
    spoilt = salt_and_pepper(clean, seeded(1), fraction=0.05)
    found = restore(noised, spoilt, fills=2, generator=seeded())
    assert (found - clean).square().mean() < 0.7 * (spoilt - clean).square().mean()


def test_salt_and_pepper_spoil_their_shares_in_all_channels():
    x = torch.full((50, 3, 20, 20), 0.5)
    spoilt = salt_and_pepper(x, seeded(), fraction=0.1, dark=0.0, bright=1.0)
    assert torch.equal(spoilt, spoilt[:, :1].expand_as(x))
    error = math.sqrt(0.1 * 0.9 / (50 * 400))
    for tone in (0.0, 1.0):
        assert abs(float((spoilt == tone).float().mean()) - 0.1) < 4 * error
    assert float((spoilt == 0.5).float().mean()) == pytest.approx(0.8, abs=8 * error)
    assert torch.equal(x, torch.full_like(x, 0.5))
    assert not torch.equal(spoilt, salt_and_pepper(x, seeded(1), fraction=0.1, dark=0.0, bright=1.0))


def test_masks_know_the_upper_half_or_a_share_of_the_pixels():
    half = bottom_half((2, 5, 3))
    assert half[:, :2].all()
    assert not half[:, 2:].any()
    mask = random_pixels(40, (3, 16, 16), 0.3, seeded())
    assert torch.equal(mask[:, 0], mask[:, 2])
    assert float(mask.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / (40 * 256)))
    assert not torch.equal(mask[0], mask[1])


def test_what_does_not_fit_is_named():
    energy, x = gaussian(), images(2, *SHAPE)
    for std in (0.01, 4.5):
        with pytest.raises(InputError, match=r"^std: expected a number from 0.02 to 4"):
            denoise(energy, x, std)
    with pytest.raises(InputError, match=r"^level: expected a number from"):
        restore(energy, x, level=5.0)
    with pytest.raises(InputError, match=r"^std: expected a number above 0"):
        denoise(mirror(), x, 0.0)
    with pytest.raises(InputError, match=r"^known: expected a boolean mask"):
        inpaint(energy, x, UPPER.float())
    with pytest.raises(InputError, match=r"^known: expected \(2, 1, 8, 8\) or one mask for all"):
        inpaint(energy, x, UPPER[:, :4])
    with pytest.raises(InputError, match=r"^images: expected shape \(any, 1, 8, 8\)"):
        inpaint(energy, images(2, 1, 8, 9), UPPER)
    with pytest.raises(InputError, match=r"^fills: expected a whole number of at least 1"):
        inpaint(energy, x, UPPER, fills=0)
    x[1, 0, 2, 2] = torch.nan
    with pytest.raises(InputError, match=r"^images: expected finite values only"):
        inpaint(energy, x, UPPER)


NO_IMAGES = {
    "none": None,
    "text": "values",
    "number": 0.5,
    "booleans": torch.ones(2, *SHAPE, dtype=torch.bool),
    "bytes": torch.ones(2, *SHAPE, dtype=torch.uint8),
    "array of bytes": np.ones((2, *SHAPE), np.uint8),
    "ragged": [[0.1], [0.2, 0.3]],
    "an axis less": torch.zeros(*SHAPE),
    "nan": torch.full((2, *SHAPE), torch.nan),
    "infinite": np.full((2, *SHAPE), np.inf),
}


@pytest.mark.parametrize("given", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_refused_by_every_task(given):
    everything = torch.ones(SHAPE, dtype=torch.bool)
    for energy in (gaussian(), mirror()):
        for task in (
            lambda x, e=energy: inpaint(e, x, everything),
            lambda x, e=energy: denoise(e, x, 0.3),
            lambda x, e=energy: restore(e, x),
            lambda x, e=energy: suspects(e, x),
            lambda x: salt_and_pepper(x, seeded()),
        ):
            with pytest.raises(InputError, match=r"^images: expected") as caught:
                task(given)
            assert "\n" not in str(caught.value)


@KINDS
def test_arrays_and_lists_of_images_are_taken_as_tensors_are(energy):
    given = images(2, *SHAPE)
    for task in (
        lambda x: inpaint(energy, x, UPPER, generator=seeded()),
        lambda x: denoise(energy, x, 0.3),
        lambda x: restore(energy, x, generator=seeded()),
        lambda x: salt_and_pepper(x, seeded()),
    ):
        expected = task(given)
        assert torch.equal(task(given.numpy()[::-1][::-1]), expected)
        assert torch.equal(task(given.tolist()), expected)


@pytest.mark.parametrize(
    "known", [None, "upper", 0.5, [True, False], np.ones(SHAPE, bool), torch.ones(SHAPE)]
)
def test_a_mask_that_is_none_is_refused(known):
    with pytest.raises(InputError, match=r"^known: expected"):
        inpaint(gaussian(), images(2, *SHAPE), known)


@pytest.mark.parametrize("labels", [3, "a", [0, 1], torch.zeros(3, dtype=torch.long), torch.zeros(2)])
def test_labels_that_are_none_are_refused(labels):
    with pytest.raises(InputError, match=r"^labels: expected"):
        inpaint(gaussian(), images(2, *SHAPE), UPPER, fills=2, labels=labels)


@KINDS
@pytest.mark.parametrize("steps", [-1, 1.5, math.nan, math.inf, "three", None, [], True, 2**70])
def test_steps_are_looked_at_whatever_the_energy(energy, steps):
    for task in (denoise, restore):
        further = (0.3,) if task is denoise else ()
        with pytest.raises(InputError, match=r"^steps: expected a whole number of at least 0"):
            task(energy, images(2, *SHAPE), *further, steps=steps)


@KINDS
def test_known_pixels_beyond_the_range_of_pixels_are_refused(energy):
    given = images(2, *SHAPE)
    given[0, 0, 0, 0], given[1, 0, -1, -1] = 1e12, -3.0
    with pytest.raises(
        InputError, match=r"^images: expected known pixels in \[0, 1\], got known ones from 0"
    ):
        inpaint(energy, given, UPPER)
    assert inpaint(energy, given[1:], UPPER).max() <= 1  # what is unknown is not read
