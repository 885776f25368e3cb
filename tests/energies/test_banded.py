"""Block tridiagonal matrices and their factors, compared with dense ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ebm_control.energies.banded import Banded, _Blocks, _Lapack, solver_of
from ebm_control.energies.curvature import gauss_newton
from tests.energies.test_quadratic import dense
from tests.energies.written_out import drawn

SIZES = {
    "one step": (1, 3, 1),
    "one block": (12, 3, 2),
    "blocks": (70, 3, 3),
    "wide": (45, 40, 2),
    "padded": (83, 2, 3),
}


def bands(size: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """Bands of two matrices `(2, T, D, D)` of windows, and the dense matrices."""
    length, dim, window = SIZES[size]
    jacobian = [drawn(2, length - window + 1, dim, dim, seed=seed) for seed in range(window)]
    found = gauss_newton(jacobian, length)
    return found, dense(found)


@pytest.mark.parametrize("size", SIZES)
def test_factors_solve_spread_and_measure_as_dense_ones_do(size: str) -> None:
    given, whole = bands(size)
    batch, length, dim = given[0].shape[:3]
    added, vector = 0.5 + drawn(2, length, dim, seed=5).abs(), drawn(2, length, dim, seed=6)
    whole = whole + torch.diag_embed(added.flatten(1))
    matrix = Banded.of(given)
    factor = matrix.factor(matrix.split(added))
    flat = vector.flatten(1).unsqueeze(-1)
    solved = matrix.joined(factor.solve(matrix.split(vector)))
    torch.testing.assert_close(solved.flatten(1), torch.linalg.solve(whole, flat).squeeze(-1))
    torch.testing.assert_close(factor.squared(matrix.split(vector)), (flat.mT @ whole @ flat).flatten())
    torch.testing.assert_close(factor.log_determinant(), torch.logdet(whole))
    spread = factor.spread(matrix.split(vector))
    torch.testing.assert_close(factor.squared(spread), vector.square().sum(dim=(1, 2)))
    assert matrix.joined(spread).shape == (batch, length, dim)


@pytest.mark.parametrize("size", SIZES)
def test_coordinates_that_do_not_count_are_those_of_the_identity(size: str) -> None:
    given, whole = bands(size)
    length, dim = given[0].shape[1:3]
    kept = (drawn(2, length, dim, seed=7) > 0).double()
    added, vector = torch.ones(2, length, dim).double(), drawn(2, length, dim, seed=6)
    matrix = Banded.of(given)
    factor = matrix.factor(matrix.split(added), matrix.split(kept))
    mask = kept.flatten(1)
    expected = (whole + torch.eye(length * dim)) * mask[:, :, None] * mask[:, None] + torch.diag_embed(
        1 - mask
    )
    solved = matrix.joined(factor.solve(matrix.split(vector))).flatten(1)
    torch.testing.assert_close(solved, torch.linalg.solve(expected, vector.flatten(1)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [_Lapack, _Blocks])
def test_every_solver_solves_several_systems_of_each_matrix(size: str, kind: type) -> None:
    given, whole = bands(size)
    length, dim = given[0].shape[1:3]
    added, right = 0.5 + drawn(3, 2, length, dim, seed=5).abs(), drawn(3, 2, length, dim, seed=6)
    solver = kind(given)
    expected = torch.linalg.solve(whole + torch.diag_embed(added.flatten(2)), right.flatten(2))
    torch.testing.assert_close(solver.solve(added, right).flatten(2), expected)
    largest = given[0].diagonal(dim1=-2, dim2=-1).flatten(1).amax(dim=1)
    torch.testing.assert_close(solver.largest.flatten(), largest)


@pytest.mark.parametrize("kind", [_Lapack, _Blocks])
def test_a_matrix_that_is_not_positive_definite_has_no_solution_and_leaves_the_others_alone(
    kind: type,
) -> None:
    given, _ = bands("one block")
    broken = tuple(band.clone() for band in given)
    broken[0][0] -= 100 * torch.eye(3)
    ones = torch.ones(1, 2, 12, 3).double()
    sound, found = (kind(each).solve(ones, ones) for each in (given, broken))
    if kind is _Lapack:
        assert found[0, 0].isnan().all()
    torch.testing.assert_close(found[0, 1], sound[0, 1])


def test_on_the_cpu_lapack_solves() -> None:
    assert isinstance(solver_of(bands("one block")[0]), _Lapack)
