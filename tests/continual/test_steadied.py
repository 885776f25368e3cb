"""Against knowing a small memory by heart: hidden pixels, and averaged weights that tell classes."""

import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.continual import Contrastive, GatedEnergy, Memory, Perceptron, Softmax
from ebm_control.data.streams import StreamBatch
from ebm_control.training.regression import seeded

SHAPE = (1, 8, 8)


def batch(labels, task=0, seed=0):
    x = torch.rand(len(labels), *SHAPE, generator=torch.Generator().manual_seed(seed))
    return StreamBatch(x, torch.tensor(labels), task)


def steadied(kind, **given):
    with seeded(0):
        if kind == "softmax":
            return Softmax(Perceptron(SHAPE, 10, 100), 10, among="seen", **given)
        return Contrastive(GatedEnergy(SHAPE, 10, 100), **given)


@pytest.mark.parametrize("kind", ["softmax", "ebm"])
def test_hidden_pixels_are_others_each_time_and_keep_the_mean(kind):
    learner = steadied(kind, dropout=0.25, seed=1)
    x = torch.ones(2000, *SHAPE)
    shown, again = learner.shown(x), learner.shown(x)
    assert shown.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(shown.mean()) == pytest.approx(1.0, abs=0.01)
    assert not torch.equal(shown, again)
    assert torch.equal(steadied(kind, dropout=0.25, seed=1).shown(x), shown)
    assert steadied(kind).shown(x) is x


@pytest.mark.parametrize("kind", ["softmax", "ebm"])
def test_pixels_are_hidden_in_training_from_the_batch_and_the_memory_and_not_when_classes_are_told(kind):
    learner, seen = steadied(kind, dropout=0.5, memory=Memory(20)), []
    network = learner.network
    hook = network.layers if kind == "softmax" else network.first
    hook.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    one = StreamBatch(torch.ones(20, *SHAPE), torch.arange(20) % 2, 0)
    learner.observe(one)
    learner.finish_task(one.x, one.labels)
    learner.observe(one)
    assert len(seen) == 3
    assert all(float(given.min()) == 0 for given in seen)
    seen.clear()
    learner.logits(one.x)
    assert all(torch.equal(given, torch.ones_like(given)) for given in seen)


@pytest.mark.parametrize("kind", ["softmax", "ebm"])
def test_averaged_weights_tell_classes(kind):
    learner = steadied(kind, averaging=0.9, learning_rate=0.01)
    followed = [p.detach().clone() for p in learner.network.parameters()]
    for n in range(30):
        learner.observe(batch([0, 1, 2, 3] * 5, seed=n))
        share = 1.0 if n == 0 else 1 - min(0.9, (1 + n) / (10 + n))
        for average, now in zip(followed, learner.network.parameters(), strict=True):
            average.lerp_(now.detach(), share)
    for average, expected in zip(learner.telling.parameters(), followed, strict=True):
        torch.testing.assert_close(average.detach(), expected)
    x = batch([0] * 9, seed=99).x
    told = learner.logits(x)
    torch.testing.assert_close(told[:, :4], raw(learner, learner.telling, x))
    assert not torch.allclose(told[:, :4], raw(learner, learner.network, x), atol=1e-4)
    assert torch.isinf(told[:, 4:]).all()


def raw(learner, network, x):
    """Logits of the first four classes, by these weights."""
    return network(x)[:, :4] if isinstance(learner, Softmax) else -network.of_classes(x)[:, :4]


def test_pixels_are_hidden_in_all_channels_at_once():
    with seeded(0):
        learner = Softmax(Perceptron((3, 8, 8), 10, 20), 10, dropout=0.5)
    hidden = learner.shown(torch.ones(10, 3, 8, 8)) == 0
    assert 0.3 < float(hidden.double().mean()) < 0.7
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    assert torch.equal(hidden[:, 0], hidden[:, 2])


@pytest.mark.parametrize("kind", ["softmax", "ebm"])
@pytest.mark.parametrize("name", ["dropout", "averaging"])
def test_shares_are_below_1(kind, name):
    with pytest.raises(InputError, match=rf"^{name}: expected a number from 0 to below 1, got 1"):
        steadied(kind, **{name: 1.0})
