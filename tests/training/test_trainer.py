import copy
import math

import pytest
import torch
from torch import Tensor

from ebm_control.checks import InputError
from ebm_control.data.batch import Batch
from ebm_control.samplers import Langevin
from ebm_control.training import (
    DivergenceError,
    Guard,
    InfoNCE,
    RandomNegatives,
    SampleBuffer,
    Softplus,
    Trainer,
    gaussian,
    uniform,
)
from tests.helpers import same
from tests.training.helpers import (
    BASE_STD,
    ConvolutionEnergy,
    Planted,
    Resampled,
    TiltedGaussian,
    grid,
    mixture_density,
    total_variation,
    toy_trainer,
    two_modes,
)

pytestmark = pytest.mark.slow


def model_density(energy: torch.nn.Module, points: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.exp(-energy(points).double())


def test_trained_density_is_that_of_the_data():
    trainer = toy_trainer(learning_rate=3e-3, sampler=Langevin(10, 0.03), ema=0.98)
    points = grid()
    true = mixture_density(points).double()
    before = total_variation(model_density(trainer.energy, points), true)
    outcome = trainer.fit(Resampled(two_modes(), size=128), 500)
    after = total_variation(model_density(trainer.averaged, points), true)
    assert outcome.rollbacks == 0
    assert before > 0.6
    assert after < 0.18


@pytest.mark.parametrize("loss", [Softplus(0.01), InfoNCE(0.01)])
def test_classification_losses_bring_the_density_nearer_to_the_data(loss):
    trainer = toy_trainer(learning_rate=3e-3, sampler=Langevin(10, 0.03), loss=loss, ema=0.98)
    points = grid()
    true = mixture_density(points).double()
    before = total_variation(model_density(trainer.energy, points), true)
    trainer.fit(Resampled(two_modes(), size=128), 200)
    assert total_variation(model_density(trainer.averaged, points), true) < 0.7 * before


def test_fixed_coordinates_make_the_trained_density_conditional():
    """Data: y uniform, x about 1.2 y. The marginal of y is given and must not shape the energy."""
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(4000, 1, generator=generator) * 2 - 1
    data = torch.cat([y, 1.2 * y + 0.3 * torch.randn(4000, 1, generator=generator)], dim=1)
    trainer = toy_trainer(
        learning_rate=3e-3,
        sampler=Langevin(10, 0.02),
        fixed=torch.tensor([True, False]),
        ema=0.98,
    )
    trainer.fit(Resampled(data, size=128), 300)
    x = torch.linspace(-3, 3, 200)
    for given in (-0.7, 0.0, 0.7):
        points = torch.stack([torch.full_like(x, given), x], dim=1)
        true = torch.exp(-(((x - 1.2 * given) / 0.3) ** 2) / 2).double()
        assert total_variation(model_density(trainer.averaged, points), true) < 0.2
        assert total_variation(model_density(TiltedGaussian(), points), true) > 0.5


def test_negatives_keep_the_fixed_coordinates_of_their_datum():
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(Softplus):
        def __call__(self, energy, positives, negatives, context=None, negative_context=None):
            seen.append((positives.clone(), negatives.clone()))
            return super().__call__(energy, positives, negatives, context, negative_context)

    trainer = toy_trainer(fixed=torch.tensor([True, False]), loss=Watched())
    trainer.fit(Resampled(two_modes()), 5)
    for positives, negatives in seen:
        assert torch.equal(positives[:, 0], negatives[:, 0])
        assert (positives[:, 1] != negatives[:, 1]).all()


def test_planned_negatives_raise_the_energy_where_they_lie():
    hole = torch.tensor([0.8, -2.0])

    def height(planned: Planted | None) -> float:
        trainer = toy_trainer(learning_rate=3e-3, extra_negatives=[] if planned is None else [planned])
        trainer.fit(Resampled(two_modes()), 60)
        with torch.no_grad():
            return float(trainer.energy(hole[None]) - trainer.energy(two_modes(200)).mean())

    assert height(Planted(hole)) > height(None) + 1


def test_planned_negatives_are_read_with_their_own_context():
    class Shifted(TiltedGaussian):
        """Tilt of the distance to the context."""

        def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return super().split(x - context)

    seen: list[Tensor] = []

    class Watched(Softplus):
        def __call__(self, energy, positives, negatives, context=None, negative_context=None):
            seen.append(torch.cat([negatives, negative_context], dim=1))
            return super().__call__(energy, positives, negatives, context, negative_context)

    def contexts(step: int, batch: Batch) -> Batch | None:
        return None if step % 2 else Batch(torch.full((5, 2), 3.0), torch.full((5, 1), 7.0))

    class Numbered(Resampled):
        def __next__(self) -> Batch:
            return super().__next__()._replace(context=torch.arange(64.0)[:, None] / 64)

    toy_trainer(Shifted(), loss=Watched(), extra_negatives=[contexts]).fit(Numbered(two_modes()), 2)
    assert [len(rows) for rows in seen] == [69, 64]
    assert torch.equal(seen[0][64:], torch.tensor([[3.0, 3.0, 7.0]]).expand(5, 3))
    for rows in seen:
        assert torch.equal(rows[:64, 2], torch.arange(64.0) / 64)


def test_averaged_weights_follow_their_recursion():
    trainer, batches = toy_trainer(ema=0.5), Resampled(two_modes())
    average: list[Tensor] | None = None
    for step in range(1, 13):
        trainer.fit(batches, step)
        weights = [p.detach().clone() for p in trainer.energy.parameters()]
        seen = step - 1  # averages before this one: few of them weigh little
        decay = min(0.5, (1 + seen) / (10 + seen))
        average = (
            weights
            if average is None
            else [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
        )
    assert average is not None
    for expected, given in zip(average, trainer.averaged.parameters(), strict=True):
        torch.testing.assert_close(given, expected)
    assert not same(trainer.averaged.state_dict(), trainer.energy.state_dict())
    plain = toy_trainer(ema=0)
    assert plain.averaged is plain.energy


@pytest.mark.parametrize("clip", [1e-3, math.inf])
def test_update_is_no_longer_than_the_gradient_clip(clip):
    energy = TiltedGaussian()
    before = copy.deepcopy(list(energy.parameters()))
    trainer = toy_trainer(energy, optimizer=torch.optim.SGD(energy.parameters(), lr=1.0), gradient_clip=clip)
    norm = trainer.fit(Resampled(two_modes()), 1).metrics["gradient_norm"]
    moved = torch.cat([(a - b).flatten() for a, b in zip(energy.parameters(), before, strict=True)]).norm()
    assert norm > 1e-2
    assert moved.item() == pytest.approx(min(norm, clip), rel=1e-3)


def test_scheduler_is_stepped_once_an_update():
    energy = TiltedGaussian()
    optimizer = torch.optim.Adam(energy.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    toy_trainer(energy, optimizer=optimizer, scheduler=schedule).fit(Resampled(two_modes()), 12)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.9**12)


def test_frozen_parameters_stay_as_they_are():
    energy = TiltedGaussian()
    first = energy.network.layers[0].requires_grad_(False)
    before = copy.deepcopy(first.state_dict())
    Trainer(energy, Langevin(2, 0.05), SampleBuffer(64, (2,), gaussian(0, BASE_STD))).fit(
        Resampled(two_modes()), 5
    )
    assert same(before, first.state_dict())
    energy.requires_grad_(False)
    with pytest.raises(InputError, match="energy: expected at least one, got no trainable parameter"):
        Trainer(energy, Langevin(2), SampleBuffer(64, (2,), gaussian()))


def bars(n: int = 200) -> Tensor:
    """Images `(n, 1, 8, 8)` of one bright column or row each."""
    generator = torch.Generator().manual_seed(0)
    images = 0.1 * torch.rand(n, 1, 8, 8, generator=generator)
    images[torch.arange(n), 0, torch.randint(8, (n,), generator=generator)] += 0.9
    flip = torch.rand(n, generator=generator) < 0.5
    images[flip] = images[flip].transpose(2, 3)
    return images


def test_images_train_in_the_very_same_loop():
    cold = Langevin(20, 10.0, noise=0.005, gradient_clip=0.03, clamp=(0, 1))
    energy = ConvolutionEnergy()
    optimizer = torch.optim.Adam(energy.parameters(), lr=1e-3, betas=(0.0, 0.999))
    buffer = SampleBuffer(256, (1, 8, 8), uniform(0, 1), dtype=torch.uint8)
    trainer = Trainer(energy, cold, buffer, optimizer=optimizer, gradient_clip=0.1, ema=0)
    outcome = trainer.fit(Resampled(bars(), size=32), 40)
    assert outcome.rollbacks == 0
    assert all(math.isfinite(value) for value in outcome.metrics.values())
    assert abs(outcome.metrics["gap"]) < 1
    assert len(buffer) > 200
    with torch.no_grad():
        noise = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        assert energy(bars()).mean() < energy(noise).mean()


def test_equal_seeds_give_equal_weights_to_the_bit():
    def weights(seed: int) -> dict[str, Tensor]:
        trainer = toy_trainer(seed=seed)
        torch.rand(seed + 1)  # the global generator has no say
        trainer.fit(Resampled(two_modes()), 10)
        return trainer.energy.state_dict()

    assert same(weights(0), weights(0))
    assert not same(weights(0), weights(1))


def test_training_in_two_calls_is_training_in_one():
    once, twice = toy_trainer(), toy_trainer()
    once.fit(Resampled(two_modes()), 12)
    batches = Resampled(two_modes())
    assert twice.fit(batches, 5).updates == 5
    assert twice.fit(batches, 12).updates == 7
    assert same(once.state_dict(), twice.state_dict())
    assert twice.fit(batches, 12).updates == 0


def test_settings_that_no_checkpoint_could_hold_are_refused_at_once():
    with pytest.raises(InputError, match="settings: expected numbers, strings and containers"):
        toy_trainer(settings={"scale": torch.ones(2)})
    with pytest.raises(InputError, match="checkpoint_every: expected a whole number of at least 1, got 0"):
        toy_trainer(checkpoint_every=0)


def test_updates_one_by_one_are_those_of_a_fit():
    whole, single = (toy_trainer(learning_rate=1e-3, sampler=Langevin(3, 0.03)) for _ in range(2))
    whole.fit(Resampled(two_modes(), size=32), 4)
    batches = Resampled(two_modes(), size=32)
    losses = [single.update(next(batches)) for _ in range(4)]
    assert all(math.isfinite(loss) for loss in losses)
    assert single.step == 4
    for a, b in zip(whole.energy.parameters(), single.energy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_update_that_runs_away_says_so():
    trainer = toy_trainer(learning_rate=1e-3, guard=Guard(every=1, max_energy=1e-9))
    with pytest.raises(DivergenceError, match=r"^update 1: "):
        trainer.update(next(Resampled(two_modes(), size=32)))


@pytest.mark.parametrize("forget", [True, False])
def test_a_trainer_goes_on_against_other_data_with_other_negatives(forget):
    """Its sampler, its fresh chains and its random negatives change together; chains are kept where windows stay."""

    def far(shape, generator, data):
        return torch.full(shape, 50.0)

    noise = RandomNegatives(gaussian(), 4)
    trainer = toy_trainer(extra_negatives=[noise])
    trainer.fit(Resampled(two_modes()), 2)
    filled, sampler = len(trainer.sample_buffer), Langevin(0, 0.1)
    assert filled > 0
    trainer.rebind(sampler, far, forget=forget)
    assert trainer.sampler is sampler
    assert len(trainer.sample_buffer) == (0 if forget else filled)
    batch = Batch(two_modes()[:4], None)
    assert torch.equal(noise(0, batch).x, torch.full((4, 2), 50.0))
    chains, _ = trainer.sample_buffer.draw(trainer.sample_buffer.capacity, torch.Generator().manual_seed(0))
    assert bool((chains == 50).all()) == forget
