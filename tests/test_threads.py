"""The number of threads follows the size of the work, and the user's settings bound it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from ebm_control import threads
from ebm_control.data.batch import Batch
from ebm_control.energies import MLP, Energy, GoalCost, NetworkEnergy, SmallCNN, TrajectoryLayout
from ebm_control.planning import Planner
from ebm_control.samplers import Langevin
from ebm_control.threads import LARGE, operations, threads_for
from ebm_control.training.regression import regress
from tests.training.helpers import Resampled, toy_trainer, two_modes

MANY = 3


@pytest.fixture(autouse=True)
def several_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(MANY)
    monkeypatch.setattr(threads, "usable_cores", lambda: MANY + 1)
    yield
    assert torch.get_num_threads() == MANY
    torch.set_num_threads(before)


def test_small_work_runs_on_one_thread_and_large_work_on_all() -> None:
    with threads_for(LARGE / 2):
        assert torch.get_num_threads() == 1
        with threads_for(2 * LARGE):  # the outer block is an upper bound
            assert torch.get_num_threads() == 1
    with threads_for(2 * LARGE):
        assert torch.get_num_threads() == MANY


def test_no_more_threads_than_the_user_set_or_the_process_has_cores_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(2)
    with threads_for(2 * LARGE):
        assert torch.get_num_threads() == 2
    torch.set_num_threads(MANY)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    with threads_for(2 * LARGE):
        assert torch.get_num_threads() == 2


def test_an_error_restores_the_threads() -> None:
    with pytest.raises(ValueError, match="stop"), threads_for(1.0):
        raise ValueError("stop")
    assert torch.get_num_threads() == MANY


def test_work_is_counted_by_rows_time_steps_and_pixels() -> None:
    network = MLP(4, (8,), 2)
    weights = 4 * 8 + 8 * 2
    assert operations(network.parameters(), torch.zeros(5, 4)) == 6 * 5 * weights
    assert operations(network.parameters(), torch.zeros(5, 3, 4)) == 6 * 15 * weights
    layer = nn.Conv2d(1, 2, 3)
    assert operations(layer.parameters(), torch.zeros(5, 1, 8, 8)) == 6 * 5 * 64 * 18
    assert operations(SmallCNN((1, 8, 8), 1, 2).parameters(), torch.zeros(64, 1, 8, 8)) < LARGE


class Counting(Energy):
    """Records the number of threads of each evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.seen = MLP(2, (4,)), set[int]()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.seen.add(torch.get_num_threads())
        return self.network(x.flatten(2).sum(dim=1) if x.ndim > 2 else x).squeeze(-1)


@pytest.mark.parametrize("large", [False, True])
def test_training_planning_and_regression_choose_by_the_size_of_their_work(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(threads, "LARGE", 1.0)
    wanted = {MANY if large else 1}
    energy = Counting()
    trainer = toy_trainer(energy)
    trainer.fit(Resampled(two_modes()), 2)
    trainer.update(next(Resampled(two_modes())))
    assert energy.seen == wanted
    energy.seen.clear()
    layout = TrajectoryLayout(1, 1)
    planner = Planner(energy, Langevin(steps=2), 3, [GoalCost(layout, [0])], layout=layout)
    planner.plan(torch.zeros(2, 1), torch.ones(2, 1))
    assert energy.seen == wanted
    energy.seen.clear()
    batches = iter([Batch(torch.zeros(3, 2))] * 2)
    regress(energy.parameters(), lambda batch: energy(batch.x).square().mean(), batches, 2)
    assert energy.seen == wanted
    assert operations(NetworkEnergy(energy.network).parameters(), torch.zeros(1, 2)) > 1.0
