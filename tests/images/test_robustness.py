"""Accuracy under attack: its rows, what they cannot exceed, and gradients that hide."""

import pytest
import torch

from ebm_control.images import Attack, accuracy, attacked, robustness, transferred, withstood
from tests.helpers import seeded
from tests.images.helpers import LinearLogits

pytestmark = pytest.mark.slow


@pytest.fixture
def some(digits):
    return digits.part("test", 80), digits.test_labels[:80]


@pytest.fixture(scope="module")
def rows(classifier, digits):
    return robustness(
        classifier,
        digits.part("test", 80),
        digits.test_labels[:80],
        (0, 0.05, 0.1, 0.2, 1.0),
        steps=8,
        generator=seeded(),
    )


def accuracies(rows, attack):
    return [row.accuracy for row in rows if row.attack == attack]


def test_there_is_a_row_for_no_attack_and_one_for_each_attack_and_radius(rows):
    told = [(row.attack, row.radius) for row in rows]
    radii = (0.05, 0.1, 0.2, 1.0)
    assert told == [("none", 0.0), *((name, radius) for radius in radii for name in ("pgd", "apgd"))]
    assert {row.norm for row in rows} == {"linf"}


def test_without_an_attack_it_is_plain_accuracy(rows, classifier, some):
    assert rows[0].accuracy == pytest.approx(accuracy(classifier, *some))


@pytest.mark.parametrize("attack", ["pgd", "apgd"])
def test_a_larger_radius_never_leaves_more_and_a_huge_one_nothing(rows, attack):
    found = [rows[0].accuracy, *accuracies(rows, attack)]
    assert found == sorted(found, reverse=True)
    assert found[1] < found[0]
    assert found[-1] == 0


def test_the_adaptive_attack_is_at_least_as_strong(rows):
    pairs = list(zip(accuracies(rows, "pgd"), accuracies(rows, "apgd"), strict=True))
    assert all(adaptive <= plain for plain, adaptive in pairs)


def test_balls_of_the_other_norm_are_smaller(classifier, some):
    found = robustness(classifier, *some, (0.1,), norm="l2", steps=8, generator=seeded())
    assert {row.norm for row in found} == {"l2"}
    within = robustness(classifier, *some, (0.1,), steps=8, generator=seeded())
    assert all(a.accuracy > b.accuracy for a, b in zip(found, within, strict=True))


def test_images_go_in_parts_of_any_size(classifier, some):
    whole, parts = (
        robustness(classifier, *some, (0, 0.1), steps=4, restarts=1, size=size) for size in (250, 30)
    )
    for a, b in zip(whole, parts, strict=True):
        assert a.accuracy == pytest.approx(b.accuracy, abs=1.5 / 80)


def test_what_is_told_wrong_anyway_withstands_nothing(classifier, some):
    x, labels = some
    wrong = classifier(x).argmax(dim=1) != labels
    assert wrong.any()
    held = withstood(classifier, x, labels, Attack(1e-4, 2))
    assert not held[wrong].any()
    assert held[~wrong].float().mean() > 0.95
    assert not withstood(classifier, x[wrong], labels[wrong], Attack(0.1, 2)).any()


def test_an_image_withstands_if_its_adversarial_example_is_told_right(classifier, some):
    x, labels = some
    attack = Attack(0.1, 6)
    right = classifier(x).argmax(dim=1) == labels
    told = classifier(attacked(classifier, x, labels, attack)).argmax(dim=1) == labels
    # Those that are told right are attacked in a batch of their own: a gradient of nearly 0 may have the other
    # sign there, and an image at the border be told otherwise.
    assert (withstood(classifier, x, labels, attack) != right & told).sum() <= 1


def test_an_adaptive_attack_climbs_the_ratio_of_logits_too():
    """A classifier so sure that its cross-entropy has no slope is misled all the same."""
    weight = 1e3 * torch.randn(3, 64, generator=seeded(3))
    logits, x = LinearLogits(weight, torch.tensor([2e3, 0.0, 0.0])), torch.full((1, 1, 8, 8), 0.5)
    labels = logits(x).argmax(dim=1)
    assert withstood(logits, x, labels, Attack(0.5, 10)).all()
    assert not withstood(logits, x, labels, Attack(0.5, 10, adaptive=True)).any()


def test_examples_of_one_classifier_mislead_another_less(classifier, hardened, some):
    x, labels = some
    attack = Attack(0.15, 8)
    own = transferred(classifier, classifier, x, labels, attack)
    assert own == pytest.approx(
        float((classifier(attacked(classifier, x, labels, attack)).argmax(dim=1) == labels).double().mean())
    )
    other = transferred(classifier, hardened, x, labels, attack, size=30)
    assert own < other < accuracy(hardened, x, labels)


def test_transfer_finds_gradients_that_were_hidden(classifier, some):
    x, labels = some

    def hidden(images):
        return classifier((images * 50).round() / 50)  # no slope anywhere

    attack = Attack(0.2, 8)
    seeming = withstood(hidden, x, labels, attack).double().mean()
    assert seeming == pytest.approx(accuracy(hidden, x, labels))
    assert transferred(classifier, hidden, x, labels, attack) < 0.3 * seeming
