import math

import pytest
import torch
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.energies import Energy
from ebm_control.training import ContrastiveDivergence, InfoNCE, LogSumExp, Softplus

LOSSES = [ContrastiveDivergence, Softplus, LogSumExp, InfoNCE]


class Read(Energy):
    """Sample `(base, tilt)` has just these energies, the context (where given) added to the tilt."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        base, tilt = self.split(x, context)
        return base + tilt

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x[:, 0], x[:, 1] + (0 if context is None else context[:, 0])


def sample(base: list[float], tilt: list[float]) -> Tensor:
    return torch.tensor([base, tilt], dtype=torch.float64).T.clone().requires_grad_()


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


POSITIVE, NEGATIVE = [0.5, -1.0], [0.3, 2.0, -0.7, 1.1]
BY_HAND = {
    ContrastiveDivergence: (0.5 - 1) / 2 - (0.3 + 2 - 0.7 + 1.1) / 4,
    Softplus: sum(map(softplus, POSITIVE)) / 2 + sum(softplus(-e) for e in NEGATIVE) / 4,
    LogSumExp: (0.5 - 1) / 2 + math.log(sum(math.exp(-e) for e in NEGATIVE) / 4),
    # Negatives 0 and 2 belong to datum 0, 1 and 3 to datum 1.
    InfoNCE: sum(
        e + math.log(math.exp(-e) + sum(math.exp(-n) for n in own))
        for e, own in ((0.5, (0.3, -0.7)), (-1.0, (2.0, 1.1)))
    )
    / 2,
}


@pytest.mark.parametrize("kind", LOSSES)
def test_value_is_that_computed_by_hand(kind):
    terms = kind(0.0)(Read(), sample([0.0, 0.0], POSITIVE), sample([0.0] * 4, NEGATIVE))
    assert terms.total.item() == pytest.approx(BY_HAND[kind], abs=1e-12)
    assert terms.positive.tolist() == POSITIVE
    assert terms.negative.tolist() == NEGATIVE
    assert terms.tilt.tolist() == POSITIVE + NEGATIVE


@pytest.mark.parametrize("kind", LOSSES)
def test_descent_pushes_data_down_and_samples_up(kind):
    positives, negatives = sample([0.0, 0.0], POSITIVE), sample([0.0] * 4, NEGATIVE)
    kind(0.0)(Read(), positives, negatives).total.backward()
    assert (positives.grad[:, 1] > 0).all()
    assert (negatives.grad[:, 1] < 0).all()


@pytest.mark.parametrize("kind", LOSSES)
def test_size_penalty_sees_the_tilt_and_never_the_base(kind):
    def penalty(base: float, tilts: list[float]) -> float:
        p, n = sample([base] * 2, tilts[:2]), sample([base] * 4, tilts[2:])
        return (kind(0.25)(Read(), p, n).total - kind(0.0)(Read(), p, n).total).item()

    tilts = [*POSITIVE, *NEGATIVE]
    by_hand = 0.25 * (sum(e**2 for e in POSITIVE) / 2 + sum(e**2 for e in NEGATIVE) / 4)
    assert penalty(0.0, tilts) == pytest.approx(by_hand, abs=1e-12)
    assert penalty(50.0, tilts) == pytest.approx(by_hand, abs=1e-9)
    assert penalty(50.0, [0.0] * 6) == 0


def test_log_sum_exp_weighs_samples_by_their_likelihood():
    negatives = sample([0.0] * 4, NEGATIVE)
    LogSumExp(0.0)(Read(), sample([0.0], [0.0]), negatives).total.backward()
    weights = torch.softmax(-torch.tensor(NEGATIVE, dtype=torch.float64), 0)
    torch.testing.assert_close(-negatives.grad[:, 1], weights)


def test_info_nce_sets_a_datum_against_its_own_negatives_alone():
    def loss_and_gradient(other: float) -> tuple[float, float]:
        positives, negatives = sample([0.0] * 2, [0.2, -0.4]), sample([0.0] * 4, [1.0, other, 0.5, other])
        logits = InfoNCE(0.0)(Read(), positives, negatives).total
        logits.backward()
        return logits.item(), negatives.grad[0, 1].item()

    (a, slope_a), (b, slope_b) = loss_and_gradient(0.0), loss_and_gradient(3.0)
    assert slope_a == slope_b
    assert a != b


@pytest.mark.parametrize("kind", [Softplus, InfoNCE])
def test_classification_losses_are_bounded_below_where_contrastive_divergence_is_not(kind):
    apart = sample([0.0] * 3, [-500.0] * 3), sample([0.0] * 3, [500.0] * 3)
    assert 0 <= kind(0.0)(Read(), *apart).total.item() < 1e-12
    assert ContrastiveDivergence(0.0)(Read(), *apart).total.item() == -1000


@pytest.mark.parametrize("kind", LOSSES)
def test_extreme_energies_overflow_no_loss(kind):
    for p, n in ((-900.0, 900.0), (900.0, -900.0)):
        positives, negatives = sample([0.0] * 2, [p] * 2), sample([0.0] * 2, [n] * 2)
        loss = kind(0.0)(Read(), positives, negatives).total
        loss.backward()
        assert loss.isfinite()
        assert positives.grad.isfinite().all()


def test_every_sample_is_read_with_its_own_context():
    context, others = torch.tensor([[1.0], [2.0]]), torch.tensor([[10.0], [20.0], [30.0]])
    terms = ContrastiveDivergence(0.0)(
        Read(), sample([0.0] * 2, [0.0] * 2), sample([0.0] * 3, [0.0] * 3), context, others
    )
    assert terms.positive.tolist() == [1, 2]
    assert terms.negative.tolist() == [10, 20, 30]


def test_missing_context_and_odd_negatives_are_named():
    data = sample([0.0] * 2, [0.0] * 2)
    with pytest.raises(
        InputError, match="negative_context: expected 2 rows, one for each negative, got None"
    ):
        ContrastiveDivergence()(Read(), data, data, torch.zeros(2, 1))
    with pytest.raises(InputError, match="negatives: expected a multiple, got 3 for 2 data"):
        InfoNCE()(Read(), data, sample([0.0] * 3, [0.0] * 3))
