import copy
import math
import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.data.batch import Batch
from ebm_control.models import fit_model
from ebm_control.samplers import Langevin
from ebm_control.training import (
    ContrastiveDivergence,
    DivergenceError,
    Guard,
    InfoNCE,
    Logger,
    LogSumExp,
    SampleBuffer,
    Softplus,
    Trainer,
    load_checkpoint,
    uniform,
)
from ebm_control.training.objectives.kl import ImprovedContrastiveDivergence
from ebm_control.training.objectives.score_matching import DenoisingScoreMatching
from tests.helpers import same
from tests.training.helpers import (
    ConvolutionEnergy,
    Resampled,
    TiltedGaussian,
    linear_buffer,
    tiny,
    toy_trainer,
    two_modes,
)

pytestmark = pytest.mark.slow

QUICK = Guard(every=5, snapshot_every=10, max_rollbacks=2)
HEALTHY = {"loss": 1.0, "gap": -3.0, "gradient_norm": 2.0, "max_tilt": 5.0}


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def notes(events: EventAccumulator) -> list[str]:
    """What the logger was told to say, read back from the events."""
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
        energy, extra_negatives=[accident], guard=QUICK, logger=Logger(tmp_path, progress=False, every=1)
    )
    accident.trainer = trainer
    outcome = trainer.fit(Resampled(two_modes()), 40)
    assert (outcome.updates, outcome.rollbacks, trainer.step) == (40, 1, 40)
    first, again = accident.states[20]
    assert same(first, again)
    assert len(accident.states[19]) == 1
    events = events_of(tmp_path)
    said = notes(events)
    assert len(said) == 1
    assert "update 23: loss is nan; " in said[0]
    assert "rolled back to update 20 and reseeded (1 of 2)" in said[0]
    assert all(math.isfinite(value) for value in outcome.metrics.values())
    assert not torch.equal(*accident.noise[20])
    logged = events.Scalars("loss")
    assert len(logged) > 20
    assert all(math.isfinite(event.value) for event in logged)


@pytest.mark.parametrize("learning_rate", [30.0, 1e12])
def test_hopeless_run_stops_with_the_figure_and_what_to_try(tmp_path, learning_rate):
    trainer = toy_trainer(learning_rate=learning_rate, guard=QUICK, logger=Logger(tmp_path, progress=False))
    with pytest.raises(
        DivergenceError,
        match=r"diverged 3 times; last: (\w+ is|weights are) .*lower learning rate.*energy_l2",
    ):
        trainer.fit(Resampled(two_modes()), 200)
    assert len(notes(events_of(tmp_path))) == 2
    assert all(p.isfinite().all() for p in trainer.energy.parameters())


def test_run_that_is_given_up_is_left_as_it_was_when_last_sound():
    accident = Accident(at=22)
    trainer = toy_trainer(
        extra_negatives=[accident], guard=Guard(every=5, snapshot_every=10, max_rollbacks=0)
    )
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
    assert notes(events_of(tmp_path)) == []


def test_no_checkpoint_holds_what_the_guard_has_not_seen(tmp_path):
    accident = Accident(at=15)
    guard = Guard(every=100, snapshot_every=100, max_rollbacks=0)
    trainer = toy_trainer(extra_negatives=[accident], guard=guard, checkpoints=tmp_path, checkpoint_every=10)
    accident.trainer = trainer
    with pytest.raises(DivergenceError):
        trainer.fit(Resampled(two_modes()), 100)
    assert load_checkpoint(tmp_path).state["step"] == 10


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ({"loss": math.nan}, "loss is nan"),
        ({"sampler_energy": math.inf}, "sampler_energy is inf"),
        ({"max_tilt": 1001.0}, "max_tilt is 1001, beyond 1000"),
        ({"gap": -101.0}, "gap is -101, beyond 100"),
        ({"gradient_norm": 2e4}, r"gradient_norm is 2e+04, beyond 10000"),
    ],
)
def test_complaint_names_metric_and_limit(metrics, complaint):
    assert Guard().complaint(HEALTHY | metrics) == complaint
    assert Guard().complaint(HEALTHY) is None


def test_limits_that_make_no_sense_are_named():
    with pytest.raises(InputError, match="every: expected a whole number of at least 1, got 0"):
        Guard(every=0)
    with pytest.raises(InputError, match=r"snapshot_every: expected at least every = 20.*got 10"):
        Guard(snapshot_every=10)
    with pytest.raises(InputError, match="max_rollbacks: expected a whole number of at least 0, got -1"):
        Guard(max_rollbacks=-1)


class Spoilt(Resampled):
    """Batches of which one holds a value that is not finite."""

    def __init__(self, at: int, value: float = math.nan, data: Tensor | None = None, **given) -> None:
        super().__init__(two_modes() if data is None else data, **given)
        self.at, self.value, self.drawn = at, value, 0

    def __next__(self) -> Batch:
        batch = super().__next__()
        self.drawn += 1
        if self.drawn == self.at:
            batch.x[0].fill_(self.value)
        return batch


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "loss",
    [
        ContrastiveDivergence(),
        ImprovedContrastiveDivergence(),
        Softplus(),
        LogSumExp(),
        InfoNCE(),
        DenoisingScoreMatching(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_batch_that_is_not_finite_is_named_and_rolled_back(tmp_path, loss, value):
    noisy = isinstance(loss, DenoisingScoreMatching)
    trainer = toy_trainer(
        Noised() if noisy else None, loss=loss, guard=QUICK, logger=Logger(tmp_path, progress=False, every=1)
    )
    outcome = trainer.fit(Spoilt(at=12, value=value), 20)
    assert (outcome.rollbacks, trainer.step) == (1, 20)
    events = events_of(tmp_path)
    assert "batch of update 12 is not finite; rolled back to update 10" in notes(events)[0]
    assert all(p.isfinite().all() for p in trainer.energy.parameters())
    assert all(p.isfinite().all() for p in trainer.averaged.parameters())
    logged = events.Scalars("loss")
    assert all(math.isfinite(event.value) for event in logged)


def test_a_conditional_energy_whose_chains_cannot_start_rolls_back_too(tmp_path):
    """Held coordinates are those of the data: the sampler refuses to start."""
    fixed = torch.tensor([True, False])
    trainer = toy_trainer(fixed=fixed, guard=QUICK, logger=Logger(tmp_path, progress=False))
    assert trainer.fit(Spoilt(at=12), 30).rollbacks == 1
    assert (
        "update 11: batch of update 12 is not finite; rolled back to update 10"
        in notes(events_of(tmp_path))[0]
    )


def test_images_that_are_not_finite_are_named(tmp_path):
    trainer = Trainer(
        ConvolutionEnergy(),
        Langevin(2, 0.1, clamp=(0, 1)),
        SampleBuffer(64, (1, 8, 8), uniform()),
        guard=QUICK,
        logger=Logger(tmp_path, progress=False),
    )
    images = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert trainer.fit(Spoilt(at=7, data=images, size=16), 20).rollbacks == 1
    assert "batch of update 7 is not finite" in notes(events_of(tmp_path))[0]


def test_data_that_are_never_finite_end_with_advice_about_the_data(tmp_path):
    trainer = toy_trainer(guard=QUICK, fixed=torch.tensor([True, False]), checkpoints=tmp_path)
    with pytest.raises(
        DivergenceError, match=r"last: batch of update 1 is not finite\. Try data without NaN"
    ):
        trainer.fit(Resampled(torch.full((10, 2), math.nan)), 20)
    assert list(tmp_path.glob("step_*")) == []
    with pytest.raises(DivergenceError, match=r"update 1: batch of update 1 is not finite"):
        trainer.update(Batch(torch.full((10, 2), math.nan)))


def test_what_is_wrong_with_the_call_is_still_said_as_that():
    trainer = toy_trainer(fixed=torch.ones(3, dtype=torch.bool))
    with pytest.raises((InputError, RuntimeError), match=r"fixed|size"):
        trainer.fit(Resampled(two_modes()), 5)


@pytest.mark.parametrize("which", ["energy", "averaged"])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, which):
    trainer = toy_trainer(guard=QUICK, checkpoints=tmp_path / "run", checkpoint_every=5)
    batches = Resampled(two_modes())
    trainer.fit(batches, 5)

    def spoil() -> None:
        with torch.no_grad():
            next(getattr(trainer, which).parameters()).view(-1)[0] = math.nan

    spoil()
    with pytest.raises(DivergenceError, match="weights are not finite, nothing is saved"):
        trainer.save(batches)
    assert load_checkpoint(tmp_path / "run").state["step"] == 5
    with pytest.raises(
        DivergenceError, match=r"diverged 3 times; last: (weights are not finite|loss is nan)"
    ):
        trainer.fit(batches, 20)
    assert load_checkpoint(tmp_path / "run").state["step"] == 5


@pytest.mark.parametrize("loss", ["cd", "softplus"])
def test_a_learning_rate_that_kills_the_tilt_is_complained_of(loss):
    guard = Guard(every=10, snapshot_every=50, max_rollbacks=0, max_energy=math.inf, max_gap=math.inf)
    complaints = []
    for seed in range(8):  # whether all units die is chaotic: rounding decides it, in some runs of several
        settings = tiny(loss=loss, learning_rate=0.9, updates=150, seed=seed)
        try:
            fit_model(linear_buffer(), settings, guard=guard, progress=False)
        except DivergenceError as error:
            complaints.append(str(error))
            break
    assert complaints
    assert re.search(r"last: tilt is the same, .*Try a lower learning rate", complaints[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"updates": 3, "learning_rate": 1e-6},
        {"ema": 0.0},
        {"energy_l2": 1e3},
        {"loss": "dsm"},
        {"loss": "infonce", "spectral": True},
        {"batch_size": 1},
    ],
    ids=str,
)
def test_healthy_runs_are_not_taken_for_dead_ones(changes, tmp_path):
    guard = Guard(every=1, snapshot_every=5, max_rollbacks=0)
    settings = tiny(**{"updates": 12} | changes)
    outcome = fit_model(linear_buffer(), settings, guard=guard, progress=False).training
    assert outcome.rollbacks == 0


def test_a_network_that_begins_as_zero_is_not_taken_for_a_dead_one():
    energy = TiltedGaussian()
    last = energy.network.layers[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    trainer = toy_trainer(energy, guard=Guard(every=1, snapshot_every=5, max_rollbacks=0))
    assert trainer.fit(Resampled(two_modes()), 10).rollbacks == 0


class Noised(TiltedGaussian):
    """The same with a context that is not read, the noise level."""

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return super().split(x)
