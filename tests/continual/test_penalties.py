"""Penalties: against their definitions, and whether they hold what they are to hold."""

import pytest
import torch
from torch import nn

from ebm_control.checks import InputError
from ebm_control.continual import Consolidation, Distillation, Intelligence, Softmax
from ebm_control.continual.penalties import fisher

SHAPE = (1, 2, 2)
SEEN = torch.arange(3)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 12).reshape(3, 4))
            self.layer.bias.zero_()

    def forward(self, x):
        return self.layer(x.flatten(1))


def images(count=50, seed=0):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def moved(network, by=0.1):
    with torch.no_grad():
        for p in network.parameters():
            p += by
    return network


def stepped(penalty, network, gradient=3.0, by=-0.1):
    """Tell a penalty of a step."""
    before = [p.detach().clone() for p in network.parameters()]
    for p in network.parameters():
        p.grad = torch.full_like(p, gradient)
    penalty.stepped(moved(network, by), before)


def test_fisher_s_information_of_a_linear_classifier_is_that_of_the_formula():
    """`E_y (δ_ky - p_k)² x_j²`, the expectation over classes by one draw an image."""
    network, x = Linear(), images(4000)
    weight, bias = fisher(network, x, SEEN)
    p, flat = network(x).softmax(dim=1), x.flatten(1)
    expected = ((p * (1 - p))[:, :, None] * flat[:, None].square()).mean(dim=0)
    assert torch.allclose(weight, expected, rtol=0.15, atol=0.005)
    assert torch.allclose(bias, (p * (1 - p)).mean(dim=0), rtol=0.15, atol=0.005)


def test_information_of_a_network_with_layers_that_differ_in_training_is_that_of_the_one_that_tells():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 3))
    network.train()
    network(images())
    first = fisher(network.train(), images(), SEEN)
    assert all(torch.equal(a, b) for a, b in zip(first, fisher(network, images(), SEEN), strict=True))
    assert all(one.any() for one in first[:2])


def test_classes_that_were_not_seen_have_no_information():
    weight, bias = fisher(Linear(), images(200), torch.tensor([0, 2]))
    assert not weight[1].any()
    assert not bias[1].any()
    assert weight[0].any()


def test_consolidation_is_a_quadratic_around_the_weights_of_every_task():
    network, penalty = Linear(), Consolidation(10.0)
    x, labels = images(), torch.zeros(50, dtype=torch.long)
    zero = torch.zeros(())
    assert float(penalty.added(zero, network, x, SEEN)) == 0
    penalty.finish_task(network, x, labels, SEEN)
    importances = [f.clone() for f in penalty.held[0][0]]
    assert float(penalty.added(zero, network, x, SEEN)) == 0
    moved(network)
    expected = 5.0 * sum(float((f * 0.01).sum()) for f in importances)
    assert float(penalty.added(zero, network, x, SEEN)) == pytest.approx(expected, rel=1e-4)
    penalty.finish_task(network, x, labels, SEEN)
    assert len(penalty.held) == 2
    assert float(penalty.added(zero, network, x, SEEN)) == pytest.approx(expected, rel=1e-4)


def test_online_consolidation_keeps_one_term_with_all_importances():
    network, penalty = Linear(), Consolidation(decay=0.5)
    x, labels = images(), torch.zeros(50, dtype=torch.long)
    penalty.finish_task(network, x, labels, SEEN)
    first = [f.clone() for f in penalty.held[0][0]]
    moved(network)
    penalty.finish_task(network, x, labels, SEEN)
    assert len(penalty.held) == 1
    importances, means = penalty.held[0]
    for a, b, f in zip(first, fisher(network, x, SEEN), importances, strict=True):
        torch.testing.assert_close(f, 0.5 * a + b)
    assert all(torch.equal(a, b) for a, b in zip(means, network.parameters(), strict=True))


def test_synaptic_intelligence_adds_up_what_a_weight_did_for_the_loss():
    network = Linear()
    penalty = Intelligence(weight=2.0, damping=0.1)
    zero, x = torch.zeros(()), images()
    assert float(penalty.added(zero, network, x, SEEN)) == 0
    stepped(penalty, network)
    penalty.finish_task(network, x, torch.zeros(50, dtype=torch.long), SEEN)
    omega = 3.0 * 0.1 / (0.1**2 + 0.1)
    moved(network, 0.2)
    expected = 2.0 * omega * 0.2**2 * 15
    assert float(penalty.added(zero, network, x, SEEN)) == pytest.approx(expected, rel=1e-4)


def test_synaptic_intelligence_counts_each_task_s_work_once_and_adds_them_up():
    network, x = Linear(), images()
    penalty = Intelligence(weight=2.0, damping=0.1)
    for _ in range(2):
        penalty.added(torch.zeros(()), network, x, SEEN)
        stepped(penalty, network)
        penalty.finish_task(network, x, torch.zeros(50, dtype=torch.long), SEEN)
    once = 3.0 * 0.1 / (0.1**2 + 0.1)
    for omega in penalty.importances:
        torch.testing.assert_close(omega, torch.full_like(omega, 2 * once))


def test_a_task_without_a_step_weighs_nothing():
    network, penalty = Linear(), Intelligence()
    penalty.finish_task(network, images(), torch.zeros(50, dtype=torch.long), SEEN)
    assert penalty.importances is None


def test_information_is_of_images_of_all_classes_though_they_come_in_order():
    network = Linear()
    bright, dark = torch.ones(50, *SHAPE), torch.zeros(50, *SHAPE)
    penalty = Consolidation(samples=50)
    penalty.finish_task(network, torch.cat([dark, bright]), torch.arange(100) // 50, SEEN)
    assert float(penalty.held[0][0][0].sum()) > 0  # dark images say nothing of the weights of pixels
    few, all_of_them = Consolidation(samples=20), Consolidation(samples=100)
    for one in (few, all_of_them):
        one.finish_task(network, torch.cat([dark, bright]), torch.arange(100) // 50, SEEN)
    assert not torch.equal(few.held[0][0][1], all_of_them.held[0][0][1])


def test_distillation_is_none_where_answers_are_what_they_were():
    network, penalty, x = Linear(), Distillation(2.0), images()
    loss = torch.tensor(3.0)
    assert penalty.added(loss, network, x, SEEN) is loss
    penalty.finish_task(network, x, torch.zeros(50, dtype=torch.long), torch.tensor([0, 1]))
    assert float(penalty.added(loss, network, x, torch.tensor([0, 1]))) == pytest.approx(1.5, abs=1e-5)
    with torch.no_grad():
        network.layer.bias[1] += 1
        network.layer.bias[2] += 2  # a class that was not known takes its share from those that were
    old = penalty.before(x)[:, :2] / 2
    new = (network(x) / 2).log_softmax(1)[:, :2]
    divergence = (old.softmax(1) * (old.log_softmax(1) - new)).sum(1).mean()
    assert float(penalty.added(loss, network, x, SEEN)) == pytest.approx(
        1.5 + 0.5 * 4 * float(divergence), rel=1e-4
    )


def test_distillation_as_it_was_published_weighs_less_the_more_classes_there_are():
    network, x, loss = Linear(), images(), torch.tensor(3.0)
    whole, mean = Distillation(), Distillation(over_classes="mean")
    for penalty in (whole, mean):
        penalty.finish_task(network, x, torch.zeros(50, dtype=torch.long), torch.tensor([0, 1]))
    moved(network)
    with torch.no_grad():
        network.layer.bias[2] += 2
    found = [float(penalty.added(loss, network, x, SEEN)) - 1.5 for penalty in (whole, mean)]
    assert found[0] > 0.01
    assert found[1] == pytest.approx(found[0] / 3, rel=1e-4)


@pytest.mark.parametrize("penalty", [Consolidation(1e4), Consolidation(1e4, decay=1.0), Intelligence(100.0)])
def test_weights_are_held_where_a_task_needed_them(penalty):
    from ebm_control.data.streams import StreamBatch

    def run(penalties):
        network = Linear()
        learner = Softmax(network, 3, learning_rate=0.01, penalties=penalties)
        x = images(200)
        labels = (x[:, 0, 0, 0] > 0.5).long()
        for _ in range(60):
            learner.observe(StreamBatch(x, labels, 0))
        learner.finish_task(x, labels)
        after = [p.detach().clone() for p in network.parameters()]
        for _ in range(60):
            learner.observe(StreamBatch(images(200, seed=1), torch.full((200,), 2), 1))
        return sum(float((a - b).square().sum()) for a, b in zip(after, network.parameters(), strict=True))

    assert run([penalty]) < 0.5 * run([])


def test_bad_figures_are_named():
    with pytest.raises(InputError, match=r"^weight: expected a number of at least 0, got -1"):
        Consolidation(-1)
    with pytest.raises(InputError, match=r"^weight: expected a number of at least 0, got -1"):
        Intelligence(-1)
    with pytest.raises(InputError, match=r"^temperature: expected a number above 0, got 0"):
        Distillation(0)
    with pytest.raises(InputError, match=r"^over_classes: expected one of \('sum', 'mean'\), got max"):
        Distillation(over_classes="max")
