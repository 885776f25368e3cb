"""Classes beside the density: the cross-entropy is added, over what has a label, at every noise level."""

import math

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.data import load_images
from ebm_control.data.batch import Batch
from ebm_control.energies import ImageEnergy, SmallCNN
from ebm_control.models import ImageModelSettings, ImageTrainSettings, fit_images
from ebm_control.training import Classified, LossTerms
from ebm_control.training.objectives.score_matching import DenoisingScoreMatching
from tests.helpers import same
from tests.training.helpers import TiltedGaussian

pytestmark = pytest.mark.slow

SHAPE, CLASSES = (1, 8, 8), 4
NOISE = (0.1, 2.0)


class MeanEnergy:
    """An objective that draws nothing: the mean energy of the data."""

    uses_chains = False

    def of_batch(self, energy, batch, source):
        tilt = energy.split(batch.x, batch.context)[1]
        return LossTerms(tilt.mean(), tilt.detach(), tilt.new_zeros(0), tilt.detach()), None


class Source:
    """All that an objective without chains asks for."""

    fixed = None

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)


class Watched(ImageEnergy):
    """Keeps what it was asked to tell apart."""

    def of_classes(self, x, level=None):
        self.asked = x.detach(), level
        return super().of_classes(x, level)


def energy(noise=None, kind=ImageEnergy):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallCNN(SHAPE, CLASSES, 4, condition_dim=int(noise is not None))
    return kind(network, SHAPE, classes=CLASSES, noise=noise)


def batch(count=12, seed=0):
    """Every third row has no label."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, *SHAPE, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    labelled = torch.arange(count) % 3 > 0
    context = torch.nn.functional.one_hot(labels, CLASSES).float() * labelled[:, None]
    return Batch(x, context), labels, labelled


def gradients(loss, trained):
    return torch.autograd.grad(loss, list(trained.parameters()))


def test_the_cross_entropy_adds_its_gradient():
    trained, (data, labels, labelled) = energy(), batch()
    terms, chain = Classified(MeanEnergy(), 3.0).of_batch(trained, data, Source())
    alone, _ = MeanEnergy().of_batch(trained, data, Source())
    assert chain is None
    assert same(terms[1:], alone[1:])
    likelihood = torch.softmax(-trained.of_classes(data.x), dim=1)[torch.arange(12), labels]
    entropy = -likelihood.log()[labelled].mean()
    assert terms.total.item() == pytest.approx((alone.total + 3 * entropy).item(), rel=1e-5)
    for both, one, other in zip(
        gradients(terms.total, trained),
        gradients(alone.total, trained),
        gradients(entropy, trained),
        strict=True,
    ):
        torch.testing.assert_close(both, one + 3 * other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("noise", [None, NOISE])
def test_images_without_a_label_do_not_count(noise):
    trained, (data, _, labelled) = energy(noise), batch()

    def entropy_of(x, context):
        objective = DenoisingScoreMatching(*NOISE) if noise else MeanEnergy()
        source, other = Source(), Source()
        whole = Classified(objective, 1.0).of_batch(trained, Batch(x, context), source)[0].total
        return (whole - objective.of_batch(trained, Batch(x, context), other)[0].total).item()

    changed = torch.where(labelled[:, None, None, None], data.x, 1 - data.x)
    assert entropy_of(changed, data.context) == pytest.approx(entropy_of(data.x, data.context), abs=1e-5)
    seen = torch.where(labelled[:, None, None, None], 1 - data.x, data.x)
    assert entropy_of(seen, data.context) != pytest.approx(entropy_of(data.x, data.context), abs=1e-5)
    assert entropy_of(data.x, torch.zeros_like(data.context)) == 0


def test_a_batch_without_labels_trains_the_density_alone():
    trained, (data, _, _) = energy(NOISE), batch()
    data = data._replace(context=torch.zeros(12, CLASSES))
    objective = DenoisingScoreMatching(*NOISE)
    with_classes = Classified(objective, 5.0).of_batch(trained, data, Source())[0].total
    without = objective.of_batch(trained, data, Source())[0].total
    # The read-out's bias has no part in a score.
    for a, b in zip(
        gradients(with_classes, trained),
        torch.autograd.grad(without, list(trained.parameters()), materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_noised_images_are_told_apart_at_all_levels_and_told_theirs():
    watched = energy(NOISE, Watched)
    data = Batch(torch.full((4000, *SHAPE), 0.5), torch.eye(CLASSES).repeat(1000, 1))

    class Nothing(MeanEnergy):
        def of_batch(self, energy, batch, source):
            return LossTerms(*[torch.zeros(())] * 4), None

    Classified(Nothing()).of_batch(watched, data, Source())
    x, level = watched.asked
    assert ((level >= NOISE[0]) & (level <= NOISE[1])).all()
    place = (level / NOISE[0]).log() / math.log(NOISE[1] / NOISE[0])  # uniform between 0 and 1
    quantiles = torch.quantile(place, torch.tensor([0.1, 0.5, 0.9]))
    assert (quantiles - torch.tensor([0.1, 0.5, 0.9])).abs().max() < 0.04
    noise = ((x - 0.5) / level[:, None, None, None]).flatten(1)
    for part in (level < 0.3, level > 1.0):
        assert noise[part].std() == pytest.approx(1, abs=0.02)
        assert abs(noise[part].mean()) < 0.02


def test_images_without_noise_levels_are_told_apart_as_they_are():
    watched, (data, _, _) = energy(kind=Watched), batch()
    Classified(MeanEnergy()).of_batch(watched, data, Source())
    assert torch.equal(watched.asked[0], data.x)
    assert watched.asked[1] is None


def test_it_uses_chains_as_its_objective_does():
    assert not Classified(DenoisingScoreMatching()).uses_chains
    settings = ImageTrainSettings(ImageModelSettings(conditional=True), "cd", 1, classify=1.0, batch_size=4)
    assert settings.classify == 1.0
    outcome = fit_images(load_images("digits"), settings, progress=False).training
    assert "energy_samples" in outcome.metrics


@pytest.mark.parametrize("loss", ["dsm", "cd"])
def test_a_classified_energy_reads_digits(loss):
    digits = load_images("digits")
    settings = ImageTrainSettings(
        ImageModelSettings(width=8, conditional=True),
        loss,
        100 if loss == "dsm" else 60,
        batch_size=32,
        classify=1.0,
        ema=0.9,
        learning_rate=3e-3,
        langevin_steps=4,
    )
    model = fit_images(digits, settings, progress=False)
    x = digits.part("test")
    levels = (0.05, 0.2) if loss == "dsm" else (None,)
    for level in levels:
        read = model.energy.of_classes(x, level).argmin(dim=1)
        assert (read == digits.test_labels).float().mean() > 0.6


def test_an_energy_without_classes_and_a_batch_without_labels_are_refused():
    data, _, _ = batch()
    for given, seen in ((TiltedGaussian(), data), (energy(), Batch(data.x))):
        with pytest.raises(InputError, match=r"^energy: expected a conditional image energy, with labelled"):
            Classified(MeanEnergy()).of_batch(given, seen, Source())
