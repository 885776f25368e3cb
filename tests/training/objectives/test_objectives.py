"""Objectives beyond plain contrastive divergence, and the one word that chooses among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ebm_control.checks import InputError
from ebm_control.data import RolloutBuffer
from ebm_control.data.batch import Batch
from ebm_control.energies import MLP, Energy, GaussianBase, TrajectoryLayout, TransitionEnergy
from ebm_control.models import ModelSettings, TrainSettings, fit_model
from ebm_control.prediction import predict
from ebm_control.samplers import Annealed, Langevin, noise_levels
from ebm_control.training import SampleBuffer, Trainer, gaussian
from ebm_control.training.objectives.contrastive import ContrastiveDivergence, InfoNCE
from ebm_control.training.objectives.kl import ImprovedContrastiveDivergence, entropy_of
from ebm_control.training.objectives.score_matching import DenoisingScoreMatching
from tests.training.helpers import TiltedGaussian

pytestmark = pytest.mark.slow


class Batches:
    """Two clusters on a line, three quarters of all data on the right."""

    def __init__(self, count=256, seed=11):
        self.count, self.generator = count, torch.Generator().manual_seed(seed)

    def __next__(self):
        right = torch.rand(self.count, 1, generator=self.generator) < 0.75
        noise = 0.2 * torch.randn(self.count, 1, generator=self.generator)
        return Batch(torch.where(right, 1.5, -1.5) + noise, None, None)

    def __iter__(self):
        return self


class Scored(Energy):
    """A network of the sample and its noise level, over a Gaussian convolved with that noise."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = MLP(2, (64, 64))

    def forward(self, x, context=None):
        level = context[:, -1:].exp()
        wide = (1 + level.square()).sqrt()
        seen = torch.cat([x / wide, context[:, -1:]], dim=1)
        return (self.network(seen) * wide / level).squeeze(-1) + 0.5 * (x / wide).square().sum(dim=1)


def trainer(energy, loss, sampler=None):
    buffer = SampleBuffer(2048, (1,), gaussian(0, 2))
    optimizer = torch.optim.Adam(energy.parameters(), lr=2e-3)
    return Trainer(energy, sampler or Langevin(20, 0.05), buffer, loss, optimizer, ema=0.99)


@pytest.mark.slow
def test_score_matching_learns_both_clusters_in_their_shares():
    made = trainer(Scored(), DenoisingScoreMatching(0.05, 5.0))
    made.fit(Batches(), 1500)
    levels = noise_levels(0.05, 5.0)
    x = Annealed(levels)(made.averaged, torch.zeros(4000, 1), generator=torch.Generator().manual_seed(1)).x
    assert abs(float((x > 0).float().mean()) - 0.75) < 0.05
    assert float(x[x > 0].mean()) == pytest.approx(1.5, abs=0.1)
    assert float(x[x > 0].std()) == pytest.approx(0.2, abs=0.06)
    assert int(made.sample_buffer.filled.sum()) == 0  # no chains were run


def test_the_score_of_the_noised_law_is_the_least_of_score_matching():
    class Exact(Energy):
        """Of standard normal data under noise; `wrong` times."""

        def __init__(self, wrong):
            super().__init__()
            self.wrong = nn.Parameter(torch.tensor(float(wrong)))

        def forward(self, x, context=None):
            return self.wrong * 0.5 * (x.square().sum(dim=1) / (1 + (2 * context[:, -1]).exp()))

    class Source:
        fixed = None

        def __init__(self):
            self.generator = torch.Generator().manual_seed(3)

    data = Batch(torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)), None, None)
    loss = DenoisingScoreMatching(0.3, 3.0)
    right, low, high = (loss.of_batch(Exact(w), data, Source())[0].total for w in (1.0, 0.9, 1.1))
    assert right < low
    assert right < high
    energy = Exact(1.0)
    (slope,) = torch.autograd.grad(loss.of_batch(energy, data, Source())[0].total, energy.wrong)
    assert abs(slope) < 0.02


def test_fixed_coordinates_are_neither_noised_nor_scored():
    seen = []

    class Watching(Energy):
        def forward(self, x, context=None):
            seen.append(x.detach())
            return (x.square().sum(dim=1) * (1 + context[:, -1] ** 2)) + 100 * x[:, 0]

    class Source:
        fixed = torch.tensor([True, False])
        generator = torch.Generator().manual_seed(0)

    x = torch.randn(50, 2)
    terms, chain = DenoisingScoreMatching(0.1, 1.0).of_batch(Watching(), Batch(x, None, None), Source())
    assert chain is None
    assert torch.equal(seen[0][:, 0], x[:, 0])
    assert not torch.equal(seen[0][:, 1], x[:, 1])
    assert terms.total < 1000  # the slope of 100 along the fixed coordinate does not count


def test_the_scale_is_the_unit_of_the_noise():
    seen = []

    class Watching(Energy):
        def forward(self, x, context=None):
            seen.append((x.detach(), context.exp()))
            return x.square().sum(dim=1)

    class Source:
        fixed = None
        generator = torch.Generator().manual_seed(0)

    loss = DenoisingScoreMatching(0.5, 0.5 + 1e-6, torch.tensor([1.0, 100.0]))
    loss.of_batch(Watching(), Batch(torch.zeros(4000, 2), None, None), Source())
    torch.testing.assert_close(seen[0][0].std(dim=0), torch.tensor([0.5, 50.0]), rtol=0.06, atol=0)


def test_the_kl_term_lowers_the_energy_that_chains_reach():
    """Its gradient moves samples: an energy whose slope is too weak to reach the well is told to be steeper."""

    class Slope(Energy):
        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(torch.tensor(0.1))

        def forward(self, x, context=None):
            return self.slope * x.sum(dim=1)

    class Source:
        fixed = None
        generator = torch.Generator().manual_seed(0)

        def __init__(self, energy):
            self.energy, self.sampler = energy, Langevin(1, 0.5, noise=0.0)
            self.x = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))

        def chains(self):
            return self.sampler(self.energy, self.x)

        def differentiable_step(self, x):
            return self.sampler.differentiable_step(self.energy, x)

        def extra_negatives(self):
            return None

    energy = Slope()
    data = Batch(torch.zeros(8, 2), None, None)
    plain, _ = ContrastiveDivergence(0.0).of_batch(energy, data, Source(energy))
    improved, _ = ImprovedContrastiveDivergence(0.0, kl=1.0, entropy=0.0).of_batch(
        energy, data, Source(energy)
    )
    (without,) = torch.autograd.grad(plain.total, energy.slope)
    (with_kl,) = torch.autograd.grad(improved.total, energy.slope)
    # x = x0 - η slope in both coordinates: d/dslope of slope_held * sum(x) is -2 η slope_held.
    assert float(with_kl - without) == pytest.approx(-2 * 0.5 * 0.1, abs=1e-6)
    assert energy.slope.requires_grad


def test_entropy_grows_as_samples_spread_and_sees_free_coordinates_alone():
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double()
    assert entropy_of(2 * x, 2 * x, None) == pytest.approx(
        float(entropy_of(x, x, None)) + math.log(2), abs=1e-6
    )
    fixed = torch.tensor([True, False])
    far = x.clone()
    far[:, 0] *= 1000
    assert entropy_of(far, far, fixed) == entropy_of(x, x, fixed)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [ImprovedContrastiveDivergence(0.1), ContrastiveDivergence(0.1)])
def test_with_the_kl_term_the_density_is_that_of_the_data_too(loss):
    made = trainer(TiltedGaussian(1), loss)
    made.fit(Batches(), 300)
    grid = torch.linspace(-4, 4, 801)[:, None]
    with torch.no_grad():
        density = torch.softmax(-made.averaged(grid), dim=0)
    assert float(density[grid[:, 0] > 0].sum()) == pytest.approx(0.75, abs=0.12)
    near = (grid[:, 0].abs() - 1.5).abs() < 0.75
    assert float(density[near].sum()) > 0.75


def proposing(context_dim=0):
    layout = TrajectoryLayout(1)
    inputs = TransitionEnergy.inputs_of(layout, 2, context_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TransitionEnergy(
            layout, MLP(inputs, (64, 64)), base=GaussianBase(1, 2.0), context_dim=context_dim
        )


@pytest.mark.slow
def test_against_draws_from_the_base_the_density_is_that_of_the_data():
    """The normaliser included: an energy of a base of mass 1 comes out of mass 1 but for a constant."""

    class Moves(Batches):
        def __next__(self):
            x = super().__next__().x
            return Batch(torch.stack([torch.zeros_like(x), x], dim=1), None, None)

    energy = proposing()
    buffer = SampleBuffer(1, (2, 1), gaussian())
    optimizer = torch.optim.Adam(energy.parameters(), lr=3e-3)
    made = Trainer(energy, Langevin(1, 0.1), buffer, InfoNCE(0.0, proposals=8), optimizer, ema=0.99)
    made.fit(Moves(), 600)
    grid = torch.linspace(-6, 6, 1201)
    with torch.no_grad():
        density = torch.softmax(-made.averaged(torch.stack([0 * grid, grid], dim=1)[..., None]), dim=0)
    assert float(density[grid > 0].sum()) == pytest.approx(0.75, abs=0.04)
    mean = float((density * grid)[grid > 0].sum() / density[grid > 0].sum())
    assert mean == pytest.approx(1.5, abs=0.1)


def test_proposals_need_an_energy_to_draw_from():
    made = trainer(TiltedGaussian(1), InfoNCE(0.1, proposals=4))
    with pytest.raises(
        InputError, match=r"^energy: expected one with a base to draw from, got TiltedGaussian"
    ):
        made.fit(Batches(8), 1)


def rollouts():
    rng = np.random.default_rng(0)
    buffer = RolloutBuffer(2, 1)
    for _ in range(30):
        s = [rng.standard_normal(2)]
        actions = rng.uniform(-1, 1, (20, 1))
        for a in actions:
            s.append(0.9 * s[-1] + 0.3 * a + 0.05 * rng.standard_normal(2))
        buffer.add_episode(np.stack(s), actions, np.zeros(20), False)
    return buffer


@pytest.mark.parametrize(
    ("kind", "network"),
    [("transition", "convolution"), ("window", "convolution"), ("window", "transformer")],
)
@pytest.mark.parametrize("loss", ["cd", "cd-kl", "infonce", "dsm"])
def test_one_word_chooses_the_objective_of_every_kind(loss, kind, network, tmp_path):
    model = ModelSettings(
        kind=kind, network=network, window=2 if kind == "transition" else 5, hidden=(16,), base_hidden=(16,)
    )
    settings = TrainSettings(model, loss=loss, updates=4, base_updates=20, batch_size=32, checkpoint_every=2)
    fitted = fit_model(rollouts(), settings, folder=tmp_path, progress=False)
    again = fit_model(rollouts(), settings, folder=tmp_path, progress=False, resume=True)
    found = predict(again.energy, torch.zeros(3, 1, 3), torch.zeros(3, 7, 1), horizon=7, samples=2)
    assert found.states.shape == (3, 2, 7, 2)
    assert found.states.isfinite().all()
    assert found.energy.shape == (3, 2)
    for before, after in zip(fitted.energy.parameters(), again.energy.parameters(), strict=True):
        assert torch.equal(before, after)
    assert bool(again.settings.noise) == (loss == "dsm")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("loss", lambda: TrainSettings(loss="nce")),
        ("model.noise", lambda: TrainSettings(ModelSettings(noise=(0.1, 1.0)), loss="cd")),
        ("noise", lambda: ModelSettings(noise=(0.1, 1.0), base="none")),
        ("network", lambda: ModelSettings(network="recurrent")),
        ("low", lambda: DenoisingScoreMatching(1.0, 0.5)),
    ],
)
def test_settings_that_do_not_go_together_are_named(name, make):
    with pytest.raises(InputError, match=f"^{name}: expected"):
        make()
