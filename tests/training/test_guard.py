import copy
import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.data.batch import Batch
from ebm_control.training import DivergenceError, Guard, Logger, load_checkpoint
from tests.training.helpers import Resampled, TiltedGaussian, same, toy_trainer, two_modes

QUICK = Guard(every=5, snapshot_every=10, max_rollbacks=2)
HEALTHY = {"loss": 1.0, "gap": -3.0, "gradient_norm": 2.0, "max_tilt": 5.0}


def notes(folder: Path) -> list[str]:
    """What the logger was told to say, read back from the events."""
    events = EventAccumulator(str(folder)).Reload()
    if "notes/text_summary" not in events.Tags()["tensors"]:
        return []
    return [e.tensor_proto.string_val[0].decode() for e in events.Tensors("notes/text_summary")]


class Accident:
    """Planned negatives that are absurd the first time update `at` is made, and at home among the data else."""

    def __init__(self, at: int) -> None:
        self.at, self.happened, self.trainer = at, False, None
        self.states: dict[int, list[list[dict]]] = {}
        self.noise: dict[int, list[Tensor]] = {}

    def __call__(self, step: int, batch: Batch) -> Batch:
        parts = (self.trainer.energy, self.trainer.averaged, self.trainer.optimizer)
        self.states.setdefault(step, []).append([copy.deepcopy(part.state_dict()) for part in parts])
        self.noise.setdefault(step, []).append(self.trainer.generator.get_state())
        if step == self.at and not self.happened:
            self.happened = True
            return Batch(batch.x * 1e30)
        return Batch(batch.x + 1)


def test_accident_is_rolled_back_reseeded_and_said(tmp_path):
    accident = Accident(at=22)
    energy = TiltedGaussian()
    trainer = toy_trainer(
        energy, planned=accident, guard=QUICK, logger=Logger(tmp_path, progress=False, every=1)
    )
    accident.trainer = trainer
    outcome = trainer.fit(Resampled(two_modes()), 40)
    assert (outcome.updates, outcome.rollbacks, trainer.step) == (40, 1, 40)
    first, again = accident.states[20]
    assert same(first, again)
    assert len(accident.states[19]) == 1
    said = notes(tmp_path)
    assert len(said) == 1
    assert "update 23: loss is nan; " in said[0]
    assert "rolled back to update 20 and reseeded (1 of 2)" in said[0]
    assert all(math.isfinite(value) for value in outcome.figures.values())
    assert not torch.equal(*accident.noise[20])
    logged = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert len(logged) > 20
    assert all(math.isfinite(event.value) for event in logged)


@pytest.mark.parametrize("learning_rate", [30.0, 1e12])
def test_hopeless_run_stops_with_the_figure_and_what_to_try(tmp_path, learning_rate):
    trainer = toy_trainer(learning_rate=learning_rate, guard=QUICK, logger=Logger(tmp_path, progress=False))
    with pytest.raises(
        DivergenceError, match=r"diverged 3 times; last: \w+ is .*lower learning rate.*energy_l2"
    ):
        trainer.fit(Resampled(two_modes()), 200)
    assert len(notes(tmp_path)) == 2
    assert all(p.isfinite().all() for p in trainer.energy.parameters())


def test_run_that_is_given_up_is_left_as_it_was_when_last_sound():
    accident = Accident(at=22)
    trainer = toy_trainer(planned=accident, guard=Guard(every=5, snapshot_every=10, max_rollbacks=0))
    accident.trainer = trainer
    batches = Resampled(two_modes())
    trainer.fit(batches, 20)
    sound = copy.deepcopy(trainer.state_dict())
    with pytest.raises(DivergenceError, match="diverged 1 times"):
        trainer.fit(batches, 40)
    assert same(trainer.state_dict(), sound)


def test_healthy_run_stays_silent(tmp_path):
    trainer = toy_trainer(guard=QUICK, logger=Logger(tmp_path, progress=False))
    assert trainer.fit(Resampled(two_modes()), 40).rollbacks == 0
    assert notes(tmp_path) == []


def test_no_checkpoint_holds_what_the_guard_has_not_seen(tmp_path):
    accident = Accident(at=15)
    guard = Guard(every=100, snapshot_every=100, max_rollbacks=0)
    trainer = toy_trainer(planned=accident, guard=guard, checkpoints=tmp_path, checkpoint_every=10)
    accident.trainer = trainer
    with pytest.raises(DivergenceError):
        trainer.fit(Resampled(two_modes()), 100)
    assert load_checkpoint(tmp_path).state["step"] == 10


@pytest.mark.parametrize(
    ("figures", "complaint"),
    [
        ({"loss": math.nan}, "loss is nan"),
        ({"sampler_energy": math.inf}, "sampler_energy is inf"),
        ({"max_tilt": 1001.0}, "max_tilt is 1001, beyond 1000"),
        ({"gap": -101.0}, "gap is -101, beyond 100"),
        ({"gradient_norm": 2e4}, r"gradient_norm is 2e+04, beyond 10000"),
    ],
)
def test_complaint_names_figure_and_limit(figures, complaint):
    assert Guard().complaint(HEALTHY | figures) == complaint
    assert Guard().complaint(HEALTHY) is None


def test_limits_that_make_no_sense_are_named():
    with pytest.raises(InputError, match="every: expected at least 1, got 0"):
        Guard(every=0)
    with pytest.raises(InputError, match=r"snapshot_every: expected at least every = 20.*got 10"):
        Guard(snapshot_every=10)
    with pytest.raises(InputError, match="max_rollbacks: expected 0 or more, got -1"):
        Guard(max_rollbacks=-1)
