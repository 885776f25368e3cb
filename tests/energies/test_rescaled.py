"""An energy of states in other units."""

from __future__ import annotations

import torch

from ebm_control.energies import GaussianBase, Rescaled, TransitionEnergy
from ebm_control.energies.layout import TrajectoryLayout
from tests.helpers import normal


def test_it_is_the_energy_of_the_same_states_and_its_unit_of_length_is_the_same_distance() -> None:
    torch.manual_seed(0)
    own = TransitionEnergy(
        TrajectoryLayout(2), base=GaussianBase(2, 1.2), displacement_scale=torch.tensor([0.1, 0.3])
    )
    scale, shift = torch.tensor([2.0, 0.5]), torch.tensor([1.0, -3.0])
    other = Rescaled(own, scale, shift)
    x = normal(6, 2, 2, dtype=torch.float32)
    torch.testing.assert_close(other(x), own(x * scale + shift))
    assert not torch.allclose(other(x), own(x))
    torch.testing.assert_close(other.displacement_scale * scale, own.displacement_scale)
    assert (other.window, other.layout) == (2, TrajectoryLayout(2))
    found = other.value_and_gradient(x)[1]
    torch.testing.assert_close(found, own.value_and_gradient(x * scale + shift)[1] * scale)
