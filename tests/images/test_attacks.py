"""Adversarial examples: where the best is known they reach it, and they never leave the ball or the pixels' range."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid

from ebm_control.checks import InputError
from ebm_control.images import Attack, attacked
from ebm_control.images.attacks import AttackEnergy, _checkpoints, _within_ball
from tests.helpers import seeded
from tests.images.helpers import SHAPE, LinearLogits, images

pytestmark = pytest.mark.slow

PIXELS = math.prod(SHAPE)
KINDS = pytest.mark.parametrize("adaptive", [False, True], ids=["pgd", "apgd"])
NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def attack(radius, norm="linf", adaptive=False, steps=20):
    return Attack(radius, steps, norm, 1.0 if adaptive else 0.125, adaptive)


def linear(seed=0):
    weight = torch.randn(2, PIXELS, generator=seeded(seed))
    return LinearLogits(weight), (weight[1] - weight[0]).reshape(SHAPE)  # and what favours class 1


def losses(logits, x, labels):
    return cross_entropy(logits(x), labels, reduction="none")


@KINDS
@NORMS
def test_a_linear_classifier_is_misled_as_far_as_can_be(adaptive, norm):
    logits, up = linear()
    x, labels = torch.full((6, *SHAPE), 0.5), torch.tensor([0, 1] * 3)
    found = attacked(logits, x, labels, attack(0.1, norm, adaptive))
    gain = 0.1 * (up.abs().sum() if norm == "linf" else up.norm())
    before = logits(x).diff(dim=1).squeeze(1)
    margin = torch.where(labels == 0, -before - gain, before - gain)
    assert torch.allclose(losses(logits, found, labels), -logsigmoid(margin), rtol=1e-4)
    signs = 1.0 - 2.0 * labels.reshape(-1, 1, 1, 1)
    best = 0.1 * (up.sign() if norm == "linf" else up / up.norm())
    assert torch.allclose(found - x, signs * best, atol=1e-5)


@KINDS
def test_a_linear_classifier_is_misled_as_far_as_pixels_go(adaptive):
    logits, up = linear()
    x, labels = images(5, *SHAPE), torch.zeros(5, dtype=torch.long)
    found = attacked(logits, x, labels, attack(0.4, adaptive=adaptive))
    assert torch.allclose(found, (x + 0.4 * up.sign()).clamp(0, 1), atol=1e-5)


@KINDS
def test_what_a_ball_loses_at_the_edge_of_the_range_is_spent_elsewhere(adaptive):
    """The best in the ball and the range is `clamp(t up)` with the t that fills the ball: found by halving."""
    logits, up = linear()
    x, labels = images(4, *SHAPE).round(), torch.zeros(4, dtype=torch.long)
    found = attacked(logits, x, labels, attack(1.5, "l2", adaptive, steps=60))
    low, high = torch.zeros(4, 1, 1, 1), torch.full((4, 1, 1, 1), 100.0)
    for _ in range(60):
        middle = (low + high) / 2
        inside = ((x + middle * up).clamp(0, 1) - x).flatten(1).norm(dim=1) < 1.5
        inside = inside.reshape(-1, 1, 1, 1)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    gains = [((y - x) * up).sum(dim=(1, 2, 3)) for y in (found, (x + low * up).clamp(0, 1))]
    assert (gains[0] > 0.98 * gains[1]).all()
    assert (gains[0] < 1.001 * gains[1]).all()


@KINDS
@NORMS
@pytest.mark.parametrize("radius", [0.05, 0.3, 2.0])
def test_perturbations_stay_in_the_ball_and_in_the_range_of_pixels(
    adaptive, norm, radius, classifier, digits
):
    x, labels = digits.part("test", 30), digits.test_labels[:30]
    found = attacked(classifier, x, labels, attack(radius, norm, adaptive, 8), restarts=2, generator=seeded())
    delta = (found - x).flatten(1)
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
    assert size.max() <= radius * (1 + 1e-6) + 1e-6
    assert size.max() > 0.9 * min(radius, 1.0)
    assert found.min() >= 0
    assert found.max() <= 1


@NORMS
def test_restarts_begin_within_the_ball_and_the_range(norm):
    x = images(20, *SHAPE).round()
    delta = _within_ball(x, attack(0.3, norm), seeded(1))
    size = delta.flatten(1).abs().amax(dim=1) if norm == "linf" else delta.flatten(1).norm(dim=1)
    assert size.max() <= 0.3 + 1e-6
    assert size.min() > 0.1
    assert (x + delta).min() >= 0
    assert (x + delta).max() <= 1
    # Away from the edges of the range they reach the surface of the ball and not beyond.
    free = _within_ball(torch.full_like(x, 0.5), attack(0.3, norm), seeded(1)).flatten(1)
    size = free.abs().amax(dim=1) if norm == "linf" else free.norm(dim=1)
    assert 0.27 < size.min() <= size.max() <= 0.3 + 1e-6


class Waves:
    """A loss with many hills along the first pixel."""

    def __call__(self, x):
        height = torch.sin(60 * x[:, 0, 0, 0])
        return torch.stack([0 * height, height], dim=1)


@KINDS
def test_the_best_perturbation_of_all_steps_is_handed_back(adaptive):
    x, labels = images(20, *SHAPE), torch.zeros(20, dtype=torch.long)
    energy = AttackEnergy(Waves(), x, labels, "cross-entropy")
    chain = attack(0.3, adaptive=adaptive)(energy, torch.zeros_like(x), trace=1)
    energies = torch.stack([energy(torch.zeros_like(x)), *(energy(delta) for delta in chain.trace)])
    assert torch.allclose(chain.energy, energies.min(dim=0).values)
    assert torch.allclose(energy(chain.x), chain.energy)
    assert (energies.diff(dim=0) > 0.01).any()
    assert adaptive or (energies[-1] > chain.energy + 0.01).any()


def test_adaptive_steps_close_in_on_a_top_that_fixed_ones_step_over():
    top = 0.5 + 0.0613 * (2 * images(1, *SHAPE) - 1)

    def logits(x):
        peak = -100 * (x - top).square().sum(dim=(1, 2, 3))
        return torch.stack([0 * peak, peak], dim=1)

    x, labels = torch.full((1, *SHAPE), 0.5), torch.zeros(1, dtype=torch.long)
    fixed, adaptive = (attacked(logits, x, labels, attack(0.1, adaptive=kind)) for kind in (False, True))
    assert (adaptive - top).norm() < 0.5 * (fixed - top).norm()


@pytest.mark.parametrize("steps", [7, 20, 100, 250])
def test_checkpoints_come_closer_down_to_a_sixteenth_of_the_steps(steps):
    found = _checkpoints(steps)
    assert found[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    gaps = [(at - before) / steps for before, at in found]
    assert sum(gaps) <= 1
    assert found[-1][1] + max(1, round(0.06 * steps)) >= steps
    assert gaps[0] == pytest.approx(0.22, abs=0.5 / steps)
    rows = attack(1.0, adaptive=True, steps=steps).step_parameters()
    assert rows[:, 0].sum() == found[-1][1]
    assert [i + 1 for i, row in enumerate(rows) if row[0]] == [at for _, at in found]
    assert rows[0, 1] == 1
    assert (rows[1:, 1] == 0.75).all()


def test_checkpoints_of_a_hundred_steps_are_those_of_the_paper():
    assert [at for _, at in _checkpoints(100)] == [22, 41, 57, 70, 80, 87, 93, 99]


def test_the_ratio_of_logits_is_of_the_class_and_its_strongest_rival():
    given = torch.tensor([[3.0, 1.0, 0.0, -2.0], [1.0, 3.0, 0.0, -2.0], [3.0, 3.0, 1.0, 0.0]])
    energy = AttackEnergy(lambda x: given, torch.zeros(3, *SHAPE), torch.zeros(3, dtype=torch.long), "dlr")
    expected = torch.tensor([(3 - 1) / (3 - 0), (1 - 3) / (3 - 0), 0.0])
    assert torch.allclose(energy(torch.zeros(3, *SHAPE)), expected)


def test_the_ratio_of_logits_does_not_vanish_where_the_classifier_is_sure():
    weight = 1e3 * torch.randn(3, PIXELS, generator=seeded(3))
    logits, x = LinearLogits(weight, torch.tensor([2e3, 0.0, 0.0])), torch.full((1, *SHAPE), 0.5)
    labels = logits(x).argmax(dim=1)
    assert losses(logits, x, labels) == 0
    plain = attacked(logits, x, labels, attack(0.5))
    ratio = attacked(logits, x, labels, attack(0.5), loss="dlr")
    assert torch.equal(plain, x)
    assert logits(ratio).argmax(dim=1) != labels


@NORMS
def test_restarts_leave_a_place_without_a_slope(norm):
    x, labels = torch.full((8, *SHAPE), 0.5), torch.zeros(8, dtype=torch.long)

    def logits(y):
        bowl = 100 * (y - 0.5).square().sum(dim=(1, 2, 3)) - 0.5
        return torch.stack([0 * bowl, bowl], dim=1)

    once, twice = (attacked(logits, x, labels, attack(0.2, norm), restarts=n) for n in (1, 2))
    assert torch.equal(once, x)
    assert (logits(twice).argmax(dim=1) == 1).all()


def test_more_restarts_mislead_at_least_as_often_and_keep_what_misled(classifier, digits):
    x, labels = digits.part("test", 60), digits.test_labels[:60]
    few, many = (
        attacked(classifier, x, labels, attack(0.1, steps=5), restarts=n, generator=seeded()) for n in (1, 4)
    )
    wrong_few, wrong_many = (classifier(found).argmax(dim=1) != labels for found in (few, many))
    assert (wrong_many | ~wrong_few).all()
    assert torch.equal(many[wrong_few], few[wrong_few])
    assert 0 < wrong_few.sum() < 60


def test_equal_seeds_give_equal_examples_and_leave_the_global_generator_alone(hardened, digits):
    x, labels = digits.part("test", 20), digits.test_labels[:20]
    before = torch.get_rng_state()
    a, b, c = (
        attacked(hardened, x, labels, attack(0.05, steps=3), restarts=2, generator=seeded(s))
        for s in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_a_classifier_in_training_is_not_touched_by_an_attack():
    layer = torch.nn.Linear(PIXELS, 3)
    attacked(lambda x: layer(x.flatten(1)), images(4, *SHAPE), torch.tensor([0, 1, 2, 0]), attack(0.1))
    assert layer.weight.requires_grad
    assert layer.weight.grad is None


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"radius": 0.0}, "radius"),
        ({"steps": 0}, "steps"),
        ({"norm": "l1"}, "norm"),
        ({"step_size": 0.0}, "step"),
    ],
)
def test_settings_that_make_no_attack_are_named(given, named):
    with pytest.raises(InputError, match=f"^{named}"):
        Attack(**{"radius": 0.1} | given)


def test_what_does_not_fit_is_named():
    logits, x = linear()[0], images(3, *SHAPE)
    with pytest.raises(InputError, match=r"^labels: expected shape \(3\)"):
        attacked(logits, x, torch.zeros(2, dtype=torch.long), attack(0.1))
    with pytest.raises(InputError, match=r"^restarts: expected a whole number of at least 1, got 0"):
        attacked(logits, x, torch.zeros(3, dtype=torch.long), attack(0.1), restarts=0)
