"""Learners of streams: what they are told, what they keep, and what they forget."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn
from torch.nn import functional

from ebm_control.checks import InputError
from ebm_control.continual import (
    ClassEnergies,
    Contrastive,
    Discriminant,
    Divergence,
    Dreams,
    GatedEnergy,
    Generative,
    Memory,
    Paired,
    Perceptron,
    Softmax,
    learn,
)
from ebm_control.data import load_images
from ebm_control.data.streams import StreamBatch, split_stream
from ebm_control.training.regression import seeded

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def stream():
    return split_stream(load_images("digits"))


def perceptron(classes=10, width=100):
    with seeded(0):
        return Perceptron(SHAPE, classes, width)


def gated(classes=10, layers=1, width=100):
    with seeded(0):
        return GatedEnergy(SHAPE, classes, width, layers)


def batch(labels, task=0, seed=0):
    x = torch.rand(len(labels), *SHAPE, generator=torch.Generator().manual_seed(seed))
    return StreamBatch(x, torch.tensor(labels), task)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_gated_energy_is_one_energy_of_image_and_class(layers):
    energy, x = gated(4, layers), torch.rand(5, *SHAPE)
    of_all = energy.of_classes(x)
    assert of_all.shape == (5, 4)
    assert of_all.std(dim=1).min() > 1e-4
    labels = torch.tensor([3, 0, 1, 1, 2])
    one_hot = functional.one_hot(labels, 4).float()
    torch.testing.assert_close(energy(x, one_hot), of_all[torch.arange(5), labels])
    pairs = torch.stack([labels, 3 - labels], dim=1)
    torch.testing.assert_close(energy.of_classes(x, pairs), of_all.gather(1, pairs))
    with pytest.raises(InputError, match=r"^context: expected classes, \(5, 4\), got None"):
        energy(x)
    with pytest.raises(InputError, match=r"^layers: expected a whole number from 1 to 2, got 3"):
        GatedEnergy(SHAPE, 4, layers=3)


def test_an_update_of_the_energy_leaves_classes_that_are_not_there_alone():
    energy = gated()
    learner, before = Contrastive(energy, learning_rate=0.1), energy.gates.weight.detach().clone()
    learner.observe(batch([2, 5, 5, 2]))
    moved = (energy.gates.weight != before).any(dim=1)
    assert moved.nonzero()[:, 0].tolist() == [2, 5]


def test_the_contrastive_loss_is_between_the_class_and_one_other_of_the_batch():
    energy = gated()
    learner, x = Contrastive(energy), torch.rand(6, *SHAPE)
    labels = torch.tensor([1, 7, 1, 1, 7, 7])
    energies = energy.of_classes(x)
    rows = torch.arange(6)
    expected = functional.softplus(energies[rows, labels] - energies[rows, 8 - labels]).mean()
    torch.testing.assert_close(learner.loss(x, labels, torch.tensor([1, 7])), expected)
    drawn = {float(learner.loss(x[:1], labels[:1], torch.tensor([1, 4, 7]))) for _ in range(30)}
    chances = functional.softplus(energies[0, 1] - energies[0, [4, 7]])
    assert sorted(drawn) == pytest.approx(sorted(chances.tolist()), rel=1e-5)
    assert float(learner.loss(x[:1], labels[:1], torch.tensor([1]))) == 0


def test_only_classes_that_were_seen_are_told():
    for learner in (
        Contrastive(gated()),
        Softmax(perceptron(), 10, among="seen"),
        Softmax(perceptron(), 10, among="all"),
        Generative(SHAPE, 10, width=8),
        Divergence(gated(), steps=1, chains=20),
        Discriminant(SHAPE, 10),
    ):
        learner.observe(batch([3, 4, 4, 3]))
        x = torch.rand(50, *SHAPE)
        assert set(learner.predict(x).tolist()) <= {3, 4}
        assert learner.logits(x).isfinite().sum(dim=1).eq(2).all()


@pytest.mark.parametrize(("among", "known"), [("all", range(10)), ("seen", (0, 1, 3, 4)), ("batch", (3, 4))])
def test_cross_entropy_is_over_the_classes_asked_for(among, known):
    network = perceptron()
    learner = Softmax(network, 10, among=among, learning_rate=1e-9)
    learner.observe(batch([0, 1, 1]))
    x, labels, _ = batch([3, 4, 4], task=1, seed=1)
    logits = network(x)[:, list(known)]
    place = torch.tensor([list(known).index(label) for label in labels.tolist()])
    expected = functional.cross_entropy(logits, place)
    assert learner.observe(StreamBatch(x, labels, 1)) == pytest.approx(float(expected), rel=1e-4)


def test_among_is_one_of_three():
    with pytest.raises(InputError, match=r"^among: expected one of"):
        Softmax(perceptron(), 10, among="none")


def test_a_memory_keeps_each_image_with_equal_chance():
    kept = torch.zeros(40)
    for seed in range(300):
        memory = Memory(10, seed)
        for start in range(0, 40, 8):
            labels = torch.arange(start, start + 8)
            memory.add(labels[:, None, None, None].float(), labels)
        images, labels = memory._images, memory._labels
        assert torch.equal(images[:, 0, 0, 0].long(), labels)
        assert len(labels.unique()) == 10
        kept[labels] += 1
    # 300 · 10 / 40 = 75 each, with a deviation of 7.5.
    assert kept.min() > 45
    assert kept.max() < 105


def test_a_memory_that_is_not_full_draws_what_it_has():
    memory = Memory(10)
    with pytest.raises(InputError, match=r"^memory: expected some images, got empty"):
        memory.draw(1)
    memory.add(torch.ones(2, *SHAPE), torch.tensor([4, 6]))
    assert len(memory) == 2
    images, labels = memory.draw(50)
    assert images.shape == (50, *SHAPE)
    assert set(labels.tolist()) == {4, 6}
    assert memory.classes.tolist() == [4, 6]
    with pytest.raises(InputError, match=r"^capacity: expected a whole number of at least 1, got 0"):
        Memory(0)


def accuracy(learner, stream, **given):
    return learn(learner, stream, **{"updates": 150, "batch_size": 64, "seed": 1} | given)


@pytest.fixture(scope="module")
def plain(stream):
    """What a classifier knows that keeps nothing."""
    return accuracy(Softmax(perceptron(), 10), stream)


@pytest.mark.slow
def test_a_softmax_classifier_forgets_all_tasks_but_the_last(plain):
    assert plain.accuracies[-1, -1] > 0.8
    assert plain.accuracies[-1, :-1].max() < 0.2
    assert plain.forgetting > 0.8
    assert (plain.accuracies.diagonal() > 0.8).all()


@pytest.mark.slow
def test_replay_forgets_less(stream, plain):
    replayed = accuracy(Softmax(perceptron(), 10, memory=Memory(200)), stream)
    assert replayed.average > plain.average + 0.4
    assert replayed.forgetting < plain.forgetting - 0.4


@pytest.mark.slow
def test_the_discriminative_energy_forgets_less_than_a_classifier(stream, plain):
    energy = accuracy(Contrastive(gated(), learning_rate=3e-4), stream)
    assert energy.average > plain.average + 0.15


@pytest.mark.slow
def test_replay_helps_the_energy_too(stream):
    assert accuracy(Contrastive(gated(), learning_rate=1e-3, memory=Memory(200)), stream).average > 0.6


def test_energies_of_classes_share_nothing_and_are_told_by_their_context():
    energy, x = ClassEnergies(SHAPE, 3, 8), torch.rand(4, *SHAPE)
    labels, level = torch.tensor([2, 0, 2, 1]), torch.full((4, 1), 0.5).log()
    context = torch.cat([functional.one_hot(labels, 3).float(), level], dim=1)
    values = energy(x, context)
    for i, label in enumerate(labels.tolist()):
        torch.testing.assert_close(values[i], energy.of(label)(x[i : i + 1], level[:1])[0])
    values[0].backward()
    assert all(not p.grad.any() for p in energy.of(0).parameters())
    assert any(p.grad.any() for p in energy.of(2).parameters())
    with pytest.raises(InputError, match=r"^context: expected classes and log σ, \(4, 4\), got \(4, 3\)"):
        energy(x, context[:, 1:])


@pytest.mark.slow
def test_what_other_classes_learn_takes_nothing_from_the_generative_energy(stream):
    learner = Generative(SHAPE, 10, width=32, seed=0)
    batches = list(stream.batches(20, 64, seed=0))
    for drawn in batches[:20]:
        learner.observe(drawn)
    before = [p.detach().clone() for label in (0, 1) for p in learner.energy.of(label).parameters()]
    for drawn in batches[20:]:
        learner.observe(drawn)
    after = [p for label in (0, 1) for p in learner.energy.of(label).parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_image_alone_makes_no_base():
    learner = Generative(SHAPE, 10, width=8)
    learner.observe(batch([3, 4, 4, 4]))
    assert float(learner.energy.of(3).std) == 0.5
    x = torch.cat([batch([4]).x, batch([3, 4, 4, 4]).x[1:]])
    mean = batch([3, 4, 4, 4]).x[1:].mean(dim=0)
    assert torch.allclose(learner.energy.of(4).mean, mean, atol=1e-6)
    spread = (batch([3, 4, 4, 4]).x[1:] - mean).square().mean().sqrt()
    assert float(learner.energy.of(4).std) == pytest.approx(float(spread), rel=1e-3)
    assert learner.logits(x).isfinite()[:, 3:5].all()


@pytest.mark.parametrize(
    ("task", "done", "expected"), [(0, 0, 1.0), (1, 1, 0.5), (3, 3, 0.25), (None, 0, 0.5)]
)
def test_a_task_weighs_as_one_among_those_seen(task, done, expected):
    learner = Softmax(perceptron(), 10)
    learner.tasks_done = done
    assert learner.share_of_new(batch([1, 2], task)) == expected


@pytest.mark.parametrize(("task", "done", "share"), [(2, 2, 1 / 3), (None, 0, 0.5)])
def test_losses_of_batch_and_memory_weigh_by_their_shares(task, done, share):
    learner, seen = Softmax(perceptron(), 10, memory=Memory(20)), []
    learner.memory.add(batch([5] * 20).x, torch.full((20,), 5))
    learner.tasks_done = done
    plain = learner.loss
    learner.loss = lambda x, labels, classes: seen.append(plain(x, labels, classes)) or seen[-1]
    loss = learner.observe(batch([1, 2] * 5, task, seed=7))
    new, old = (float(one.detach()) for one in seen)
    assert abs(new - old) > 1e-3
    assert loss == pytest.approx(share * new + (1 - share) * old, rel=1e-5)


def test_layers_of_one_s_own_that_differ_in_training_do_not_when_classes_are_told():
    with seeded(0):
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.Dropout(), nn.Linear(20, 10)
        )
    learner = Softmax(network, 10, among="seen")
    for n in range(3):
        learner.observe(batch([1, 2, 3] * 4, seed=n))
        means, x = network[2].running_mean.clone(), batch([1] * 30, seed=9).x
        assert torch.equal(learner.logits(x), learner.logits(x))
        assert torch.equal(network[2].running_mean, means)
    assert network[2].num_batches_tracked == 3


def test_no_class_is_told_before_one_was_seen():
    learner = Softmax(perceptron(), 10, among="seen")
    assert learner.predict(batch([0, 1, 2]).x).tolist() == [-1] * 3
    learner.observe(batch([7, 7]))
    assert learner.predict(batch([0, 1, 2]).x).tolist() == [7] * 3


def test_without_boundaries_a_memory_fills_as_images_come(stream):
    learner = Softmax(perceptron(), 10, memory=Memory(100))
    accuracy(learner, stream, updates=20, overlap=0.5)
    assert learner.memory.seen == 5 * 20 * 64
    assert len(learner.memory.classes) == 10
    known = Softmax(perceptron(), 10, memory=Memory(100))
    known.observe(batch([1, 2]))
    assert len(known.memory) == 0


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [None, 0.5])
def test_the_generative_energy_compares_classes_that_were_never_seen_together(stream, overlap):
    found = accuracy(Generative(SHAPE, 10, width=32), stream, updates=80, overlap=overlap)
    assert found.average > 0.75
    assert found.forgetting < 0.3


def test_a_learner_without_boundaries_is_never_told_of_an_end(stream):
    class Told(Softmax):
        ends = 0

        def finish_task(self, images, labels):
            Told.ends += 1
            super().finish_task(images, labels)

    accuracy(Told(perceptron(), 10), stream, updates=2, overlap=0.5)
    assert Told.ends == 0
    accuracy(Told(perceptron(), 10), stream, updates=2)
    assert Told.ends == 5


@pytest.mark.slow
def test_streaming_discriminant_is_that_of_all_images_at_once(stream):
    learner = Discriminant(SHAPE, 10)
    images = torch.cat([task.part("train") for task in stream.tasks])
    labels = torch.cat([task.labels for task in stream.tasks])
    for x, y in zip(images.split(50), labels.split(50), strict=True):
        learner.observe(StreamBatch(x, y, None))
    test = torch.cat([task.part("test") for task in stream.tasks])
    whole = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.1] * 10, covariance_estimator=Shrunk(1e-2))
    whole.fit(images.flatten(1).double().numpy(), labels.numpy())
    assert (learner.predict(test).numpy() == whole.predict(test.flatten(1).double().numpy())).all()
    assert accuracy(Discriminant(SHAPE, 10), stream, updates=40).average > 0.85


class Shrunk:
    """The covariance as the learner shrinks it, for scikit-learn."""

    def __init__(self, share):
        self.share = share

    def fit(self, x):
        centred = x - x.mean(axis=0)
        self.covariance_ = (1 - self.share) * centred.T @ centred / len(x) + self.share * np.eye(x.shape[1])
        return self


@pytest.mark.parametrize("shared", [False, True])
def test_chains_go_on_from_those_of_earlier_classes_as_ones_of_the_batch(shared):
    """What teaches that old images are not of the new classes, though none is kept."""
    energy = gated(layers=2) if shared else ClassEnergies(SHAPE, 10, 32, noise=None)
    learner = Divergence(energy, chains=16, steps=1)
    learner.observe(batch([0, 1] * 8))
    ends = learner.trainer.sample_buffer.samples.clone()
    seen = {}

    class Watched:
        def __call__(self, energy, x, *, context=None, **given):
            seen.update(x=x, labels=context.argmax(dim=1).tolist())
            return learner_sampler(energy, x, context=context, **given)

    learner_sampler, learner.trainer.sampler = learner.trainer.sampler, Watched()
    learner.trainer.sample_buffer.fresh_fraction = 0.0
    learner.observe(batch([8, 9] * 8, task=4))
    assert set(seen["labels"]) == {8, 9}
    assert torch.cdist(seen["x"].flatten(1), ends.flatten(1)).min(dim=1).values.max() < 1e-5


@pytest.mark.slow
def test_energies_by_contrastive_divergence_tell_classes(stream):
    energy = ClassEnergies(SHAPE, 10, 32, noise=None)
    learner = Divergence(energy, learning_rate=1e-3, energy_l2=1.0, chains=2000, steps=5)
    found = accuracy(learner, stream, updates=70)
    assert found.accuracies[0, 0] > 0.9
    assert found.average > 0.4
    with pytest.raises(InputError, match=r"^energy: expected one of images as they are"):
        Divergence(ClassEnergies(SHAPE, 10, 32))


@pytest.mark.slow
def test_what_is_replayed_of_earlier_classes_was_drawn_and_never_seen(stream):
    source = Generative(SHAPE, 10, width=32)
    dreams = Dreams(source, 20)
    plain = accuracy(Contrastive(gated(), learning_rate=1e-3), stream)
    dreaming = accuracy(Paired(Contrastive(gated(), learning_rate=1e-3, memory=dreams), source), stream)
    assert dreaming.average > plain.average + 0.2
    assert len(dreams) == 200
    images, labels = dreams.draw(300)
    assert labels.unique().tolist() == list(range(10))
    assert images.min() >= 0
    assert images.max() <= 1
    real = {
        label: task.part("train")[task.labels == label]
        for task in stream.tasks
        for label in task.labels.unique().tolist()
    }
    assert torch.cdist(images.flatten(1), torch.cat(list(real.values())).flatten(1)).min() > 0.05
    # Draws are as far apart as images are: neither noised nor all the same.
    spread = torch.stack(
        [images[labels == label].std(dim=0).mean() / real[label].std(dim=0).mean() for label in real]
    )
    assert 0.7 < spread.mean() < 1.3
    dreams.add(images, labels)
    assert dreams.seen == 200


def test_energies_of_a_pair_add_up():
    learner, source = Contrastive(gated()), Generative(SHAPE, 10, width=8)
    pair = Paired(learner, source, 0.3)
    pair.observe(batch([3, 4, 4, 3]))
    x = torch.rand(6, *SHAPE)
    expected = learner.logits(x) + 0.3 * source.logits(x)
    torch.testing.assert_close(pair.logits(x), expected)
    assert not torch.allclose(pair.logits(x)[:, 3:5], learner.logits(x)[:, 3:5])
    torch.testing.assert_close(Paired(learner, source).logits(x), learner.logits(x))
    with pytest.raises(InputError, match=r"^weight: expected a number of at least 0, got -1"):
        Paired(learner, source, -1)
