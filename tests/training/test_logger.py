import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ebm_control.samplers import Langevin
from ebm_control.training import Logger, SampleBuffer, Trainer, uniform
from tests.training.helpers import ConvolutionEnergy, Resampled, toy_trainer, two_modes
from tests.training.test_trainer import bars

pytestmark = pytest.mark.slow


def read(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"histograms": 0, "images": 0, "scalars": 0}).Reload()


def test_events_tell_how_training_goes(tmp_path):
    trainer = toy_trainer(logger=Logger(tmp_path, progress=False, every=5))
    trainer.fit(Resampled(two_modes()), 60)
    events = read(tmp_path)
    for name in ("loss", "gap", "gradient_norm", "steps_per_second", "learning_rate", "sampler_rejected"):
        scalars = events.Scalars(name)
        assert [e.step for e in scalars] == list(range(5, 61, 5)), name
    assert all(e.value > 0 for e in events.Scalars("steps_per_second"))
    assert events.Scalars("learning_rate")[0].value == pytest.approx(1e-3)
    for name in ("energy/data", "energy/samples"):
        assert [e.histogram_value.num for e in events.Histograms(name)] == [64] * 12
    for i in (0, 1):
        for name in ("samples", "data"):
            assert [e.step for e in events.Histograms(f"coordinate_{i}/{name}")] == [50]


def test_image_samples_are_written_as_images(tmp_path):
    trainer = Trainer(
        ConvolutionEnergy(),
        Langevin(2, 10.0, noise=0.005, clamp=(0, 1)),
        SampleBuffer(64, (1, 8, 8), uniform()),
        logger=Logger(tmp_path, progress=False, every=2),
    )
    trainer.fit(Resampled(bars(), size=16), 20)
    assert [(e.step, e.width, e.height) for e in read(tmp_path).Images("samples")] == [(20, 64, 16)]


def test_resumed_run_goes_on_with_its_events_and_repeats_none(tmp_path):
    def run(steps: int, resume: bool) -> None:
        trainer = toy_trainer(
            logger=Logger(tmp_path / "events", progress=False, every=10),
            checkpoints=tmp_path / "checkpoints",
            checkpoint_every=20,
        )
        batches = Resampled(two_modes())
        if resume:
            trainer.resume(tmp_path / "checkpoints" / "step_00000020", batches)
        trainer.checkpoints = None if resume else trainer.checkpoints
        trainer.fit(batches, steps)

    run(40, resume=False)
    time.sleep(
        1.0
    )  # TensorBoard reads files in the order of their names: second, host, process, number as text
    run(60, resume=True)
    assert [e.step for e in read(tmp_path / "events").Scalars("loss")] == [10, 20, 30, 40, 50, 60]


def test_progress_bar_runs_to_the_end_and_only_one_is_shown(capsys):
    logger = Logger(progress=False)
    trainer = toy_trainer(logger=logger)
    for steps in (3, 6):
        trainer.fit(Resampled(two_modes()), steps)
    (task,) = logger._bar.tasks
    assert (task.completed, task.total) == (6, 6)
    assert capsys.readouterr().out == ""
