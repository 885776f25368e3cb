"""Images drawn from energies: whose law they have, and what they are told."""

import math

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.images import accuracy, generate
from ebm_control.images.sampling import labelled, starts_for
from ebm_control.samplers import Langevin, image_sampler
from tests.helpers import seeded
from tests.images.helpers import (
    DEVIATION,
    NOISE,
    SHAPE,
    annealed_std,
    bowls,
    gaussian,
    gaussians,
    greys,
    images,
)


def test_images_of_a_gaussian_have_its_mean_and_deviation():
    mean = 0.2 + 0.6 * images(*SHAPE)
    drawn = generate(gaussian(mean), 400, generator=seeded()).x
    scores = (drawn.mean(dim=0) - mean) / DEVIATION * math.sqrt(400)
    assert scores.abs().max() < 4.5
    expected = annealed_std(image_sampler(gaussian(mean)))
    assert 0.85 * DEVIATION < expected < DEVIATION
    assert float((drawn - mean).square().mean().sqrt()) == pytest.approx(expected, rel=0.02)


def test_images_of_a_mixture_are_of_all_its_parts_and_of_no_other():
    means = 0.2 + 0.6 * images(1, 4, *SHAPE)
    drawn = generate(gaussians(means), 200, generator=seeded()).x
    apart = (drawn[:, None] - means[0]).square().mean(dim=(2, 3, 4)).sqrt()
    assert apart.min(dim=1).values.max() < 1.5 * DEVIATION
    shares = apart.argmin(dim=1).bincount(minlength=4) / 200
    assert (shares - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / 200)


def test_labels_say_row_by_row_what_is_drawn():
    energy, labels = gaussians(greys(0.2, 0.5, 0.8)), torch.tensor([2, 0, 1, 2])
    tones = generate(energy, 4, labels=labels, generator=seeded()).x.mean(dim=(1, 2, 3))
    assert torch.allclose(tones, torch.tensor([0.8, 0.2, 0.5, 0.8]), atol=5 * DEVIATION / 8)
    cold = bowls(greys(0.2, 0.5, 0.8)[:, 0])
    tones = generate(cold, 4, labels=labels, generator=seeded()).x.mean(dim=(1, 2, 3))
    assert torch.allclose(tones, torch.tensor([0.8, 0.2, 0.5, 0.8]), atol=0.01)


def test_digits_are_drawn_as_they_are_told(noised, classifier):
    labels = torch.arange(10).repeat(12)
    drawn = generate(noised, 120, labels=labels, sampler=image_sampler(noised, 30), generator=seeded()).x
    assert accuracy(classifier, drawn, labels) > 0.6
    assert accuracy(classifier, drawn, (labels + 1) % 10) < 0.2


def test_digits_of_no_label_are_of_most_classes(noised, classifier):
    drawn = generate(noised, 120, sampler=image_sampler(noised, 30), generator=seeded()).x
    shares = classifier(drawn).argmax(dim=1).bincount(minlength=10) / 120
    assert (shares > 0.01).sum() >= 8
    assert shares.max() < 0.5


@pytest.mark.parametrize("energy", [gaussian(), bowls(greys(0.5)[:, 0])], ids=["noised", "plain"])
def test_equal_seeds_draw_equal_images(energy):
    a, b, c = (generate(energy, 3, generator=seeded(seed)).x for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)
    fresh = [generate(energy, 3).x for _ in range(2)]
    assert not torch.equal(*fresh)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    generate(gaussian(), 2, generator=seeded())
    generate(gaussian(), 2)
    assert torch.equal(before, torch.get_rng_state())


def test_images_and_their_trace_are_put_into_the_range_of_pixels():
    chain = generate(gaussian(std=1.0), 20, generator=seeded(), trace=10)
    assert chain.trace.shape == (6, 20, *SHAPE)
    for kept in (chain.x, chain.trace):
        assert kept.min() == 0
        assert kept.max() == 1
    assert torch.equal(chain.trace[-1], chain.x)
    assert generate(gaussian(), 2, generator=seeded()).trace is None


def test_a_trace_leads_from_noise_to_images():
    mean = 0.2 + 0.6 * images(*SHAPE)
    trace = generate(gaussian(mean), 50, generator=seeded(), trace=10).trace
    away = (trace - mean).square().mean(dim=(1, 2, 3, 4))
    assert (away.diff() < 0).all()


def test_chains_start_where_they_are_told():
    start, resting = images(3, *SHAPE), Langevin(0)
    energy = bowls(greys(0.5)[:, 0])
    assert torch.equal(generate(energy, 3, sampler=resting, start=start).x, start)
    # By default from noise, or from the mean image, to which an annealed chain adds its noise.
    noise = generate(energy, 200, sampler=resting, generator=seeded()).x
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(noise.std()) == pytest.approx(1 / math.sqrt(12), abs=0.01)
    mean = images(*SHAPE)
    assert torch.equal(starts_for(gaussian(mean), 2, seeded()), mean.expand(2, -1, -1, -1))


def test_a_chain_that_starts_at_images_stays_near_them_for_few_steps():
    energy = bowls(greys(0.5)[:, 0])
    start = images(4, *SHAPE)
    near = generate(energy, 4, sampler=image_sampler(energy, 1), start=start, generator=seeded()).x
    assert (near - start).abs().max() < 0.1 + 5 * 0.005
    assert (near - 0.5).abs().mean() < (start - 0.5).abs().mean()


def test_samplers_fall_through_the_energy_s_noise_levels():
    sampler = image_sampler(gaussian(), 10, corrections=2)
    assert sampler.levels[0] == pytest.approx(NOISE[1])
    assert sampler.levels[-1] == pytest.approx(NOISE[0])
    assert len(sampler.levels) == 10
    assert len(sampler.step_parameters()) == 30
    assert image_sampler(gaussian(), 10, low=0.1).levels[-1] == pytest.approx(0.1)
    cold = image_sampler(bowls(greys(0.5)[:, 0]), 7)
    assert isinstance(cold, Langevin)
    assert cold.steps == 7


def test_what_does_not_fit_is_named():
    conditional = gaussians(greys(0.2, 0.8))
    with pytest.raises(InputError, match=r"^count: expected a whole number of at least 1, got 0"):
        generate(conditional, 0)
    with pytest.raises(InputError, match=r"^labels: expected shape \(3\), got shape \(2,\)"):
        generate(conditional, 3, labels=torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"^labels: expected classes 0 to 1, got \[0, 2\]"):
        generate(conditional, 2, labels=torch.tensor([0, 2]))
    with pytest.raises(InputError, match=r"^labels: expected classes 0 to 1, got \[-1\]"):
        labelled(conditional, torch.tensor([-1]), 1)
    with pytest.raises(InputError, match=r"^labels: expected None: the energy has no classes"):
        generate(gaussian(), 1, labels=torch.tensor([0]))
    with pytest.raises(InputError, match=r"^start: expected shape \(2, 1, 8, 8\), got shape \(3, 1, 8, 8\)"):
        generate(gaussian(), 2, start=images(3, *SHAPE))
