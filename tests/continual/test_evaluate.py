"""What is measured of a learner, on learners whose knowledge is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.continual import Learner, LearnerSettings, Outcome, learn, make_learner
from ebm_control.continual.methods import NEED_BOUNDARIES
from ebm_control.data import ImageSet, load_images
from ebm_control.data.streams import TaskStream, split_stream

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stream():
    return split_stream(load_images("digits"))


class Oracle(Learner):
    """Knows test images by heart; tells right those of the last `keeps` tasks that it was shown."""

    def __init__(self, stream, keeps):
        self.known = {
            image.numpy().tobytes(): (int(label), number)
            for number, task in enumerate(stream.tasks)
            for image, label in zip(task.part("test"), task.test_labels, strict=True)
        }
        self.keeps, self.shown = keeps, []

    def observe(self, batch):
        task = int(batch.labels[0]) // 2
        if task not in self.shown:
            self.shown.append(task)
        return 0.0

    def logits(self, x):
        found = torch.zeros(len(x), 10)
        for row, image in zip(found, x, strict=True):
            label, task = self.known[image.numpy().tobytes()]
            row[label if task in self.shown[-self.keeps :] else (label + 2) % 10] = 1
        return found


def test_accuracies_are_of_every_task_after_every_task(stream):
    found = learn(Oracle(stream, 2), stream, updates=1, batch_size=4)
    expected = [[1.0 if i - 1 <= j <= i else 0.0 for j in range(5)] for i in range(5)]
    assert found.accuracies.tolist() == expected
    assert found.average == pytest.approx(2 / 5)
    assert found.forgetting == pytest.approx(3 / 4)
    assert found.forward_transfer == 0
    assert found.seconds >= 0


def test_nothing_is_forgotten_by_who_forgets_nothing(stream):
    found = learn(Oracle(stream, 5), stream, updates=1, batch_size=4, test=5)
    assert found.average == 1
    assert found.forgetting == 0


def test_scores_are_of_each_class_asked_for_and_centred(stream):
    found = learn(Oracle(stream, 5), stream, updates=1, batch_size=4)
    assert found.scores.shape == (5, 10, 10)
    assert np.allclose(found.scores[-1], np.eye(10) - 0.1)


def outcome(accuracies, untrained):
    return Outcome(np.array(accuracies), np.array(untrained), np.zeros((1, 1, 1)), 0.0)


def test_figures_are_those_of_their_definitions():
    found = outcome([[0.9, 0.3, 0.1], [0.5, 0.8, 0.4], [0.6, 0.7, 1.0]], [0.1, 0.2, 0.1])
    assert found.average == pytest.approx(2.3 / 3)
    assert found.forgetting == pytest.approx(((0.9 - 0.6) + (0.8 - 0.7)) / 2)
    assert found.forward_transfer == pytest.approx(((0.3 - 0.2) + (0.4 - 0.1)) / 2)
    assert found.backward_transfer == pytest.approx(((0.6 - 0.9) + (0.7 - 0.8)) / 2)
    alone = outcome([[0.7]], [0.1])
    assert alone.forgetting == alone.forward_transfer == alone.backward_transfer == 0


def test_who_tells_classes_only_once_seen_knows_none_before(stream):
    """Whatever the order in which classes arrive: none is told by default."""
    backwards = split_stream(load_images("digits"), order=range(9, -1, -1))
    learner = make_learner("softmax-seen", LearnerSettings(stream.shape, 10, width=10))
    found = learn(learner, backwards, updates=1, batch_size=4)
    assert not found.untrained.any()
    assert found.forward_transfer == 0


def test_a_stream_can_be_asked_for_that_is_not_the_one_learned(stream):
    whole = replace(stream, tasks=stream.tasks[:1])
    found = learn(Oracle(stream, 5), whole, updates=1, batch_size=4, tested=stream)
    assert found.accuracies.tolist() == [[1, 0, 0, 0, 0]]
    assert found.forward_transfer is None
    assert found.backward_transfer is None
    with pytest.raises(InputError, match=r"^tested: expected 10, got 5 classes"):
        learn(Oracle(stream, 5), stream, tested=TaskStream("few", (few(5),), 5))


def few(classes):
    images, labels = torch.zeros(classes, 1, 8, 8, dtype=torch.uint8), torch.arange(classes)
    return ImageSet("few", images, labels, images, labels)


def test_as_many_test_images_as_asked_for_are_drawn_once(stream):
    asked = []

    class Counts(Oracle):
        def logits(self, x):
            asked.append(x)
            return super().logits(x)

    learn(Counts(stream, 5), stream, updates=1, batch_size=4, test=7)
    of_tasks = [x for x in asked if len(x) == 7][:10]
    assert len(of_tasks) == 10
    for task, before, after in zip(stream.tasks, of_tasks, of_tasks[5:], strict=False):
        assert torch.equal(before, after)
        assert not torch.equal(before, task.part("test")[:7])


@pytest.mark.parametrize("method", NEED_BOUNDARIES)
def test_who_needs_boundaries_is_not_let_loose_without(stream, method):
    learner = make_learner(method, LearnerSettings(stream.shape, 10, width=10))
    with pytest.raises(
        InputError, match=r"^overlap: expected None: the learner needs boundaries of tasks, got 0.5"
    ):
        learn(learner, stream, updates=1, overlap=0.5)


@pytest.mark.parametrize("method", ["ebm", "softmax-seen", "summed", "slda"])
def test_others_do_without_boundaries(stream, method):
    kept = 0 if method == "slda" else 5
    learner = make_learner(
        method, LearnerSettings(stream.shape, 10, width=10, memory_size=kept, boundaries=False)
    )
    assert len(learn(learner, stream, updates=1, overlap=0.5).accuracies) == 5


def test_without_boundaries_nothing_comes_before_its_time(stream):
    assert learn(Oracle(stream, 5), stream, updates=2, batch_size=4, overlap=0.5).forward_transfer is None


def test_no_test_images_are_refused(stream):
    with pytest.raises(InputError, match=r"^test: expected a whole number of at least 1, got 0"):
        learn(Oracle(stream, 1), stream, test=0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("updates", [0, 1.5, 2.0, float("inf"), "three", [], None, 2**70]),
        ("batch_size", [0, 2.0, np.float32(2), "three", [], None, True]),
        ("overlap", [-0.1, "x", [], True, float("nan")]),
        ("test", [0, 2.0, float("inf"), "three", [], True]),
        ("seed", [-1, 1.5, "x", [], None, True, 2**70]),
    ],
)
def test_figures_that_make_no_sense_are_refused_before_anything_is_learned(stream, name, values):
    class Untouched(Learner):
        needs_boundaries = False
        parameters = 0

        def observe(self, batch):
            raise AssertionError("it learned")

        def logits(self, x):
            raise AssertionError("it was asked")

    for value in values:
        with pytest.raises(InputError, match=rf"^{name}: expected"):
            learn(Untouched(), stream, **{"updates": 1, name: value})
