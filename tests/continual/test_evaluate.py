"""What is measured of a learner, on learners whose knowledge is known."""

import numpy as np
import pytest
import torch

from ebm_control.checks import InputError
from ebm_control.continual import Learner, Outcome, learn
from ebm_control.data import load_images
from ebm_control.data.streams import split_stream


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
    found = learn(Oracle(stream, 2), stream, updates=1, batch=4)
    expected = [[1.0 if i - 1 <= j <= i else 0.0 for j in range(5)] for i in range(5)]
    assert found.accuracies.tolist() == expected
    assert found.average == pytest.approx(2 / 5)
    assert found.forgetting == pytest.approx(3 / 4)
    assert found.forward_transfer == 0
    assert found.seconds >= 0


def test_nothing_is_forgotten_by_who_forgets_nothing(stream):
    found = learn(Oracle(stream, 5), stream, updates=1, batch=4, test=5)
    assert found.average == 1
    assert found.forgetting == 0


def test_scores_are_of_each_class_asked_for_and_centred(stream):
    found = learn(Oracle(stream, 5), stream, updates=1, batch=4)
    assert found.scores.shape == (5, 10, 10)
    assert np.allclose(found.scores[-1], np.eye(10) - 0.1)


def outcome(accuracies, untrained):
    return Outcome(np.array(accuracies), np.array(untrained), np.zeros((1, 1, 1)), 0.0)


def test_figures_are_those_of_their_definitions():
    found = outcome([[0.9, 0.3, 0.1], [0.5, 0.8, 0.4], [0.6, 0.7, 1.0]], [0.1, 0.2, 0.1])
    assert found.average == pytest.approx(2.3 / 3)
    assert found.forgetting == pytest.approx(((0.9 - 0.6) + (0.8 - 0.7)) / 2)
    assert found.forward_transfer == pytest.approx(((0.3 - 0.2) + (0.4 - 0.1)) / 2)
    alone = outcome([[0.7]], [0.1])
    assert alone.forgetting == alone.forward_transfer == 0


def test_without_boundaries_nothing_comes_before_its_time(stream):
    assert learn(Oracle(stream, 5), stream, updates=2, batch=4, overlap=0.5).forward_transfer is None


def test_no_test_images_are_refused(stream):
    with pytest.raises(InputError, match=r"^test: expected at least 1, got 0"):
        learn(Oracle(stream, 1), stream, test=0)
