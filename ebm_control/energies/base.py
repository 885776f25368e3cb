"""`Energy` and its algebra: sums, multiples and mixtures of energies."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from ebm_control.checks import is_sequence, require, require_number, shown
from ebm_control.energies.arrays import ArrayEnergy, ArrayScaled, ArraySum, ByTensors
from ebm_control.energies.curvature import Quadratic, add_bands, neighbour_curvature
from ebm_control.energies.written_out import guarded, owns, owns_arrays, unchanged, unrecorded
from ebm_control.tensors import ordinary_tensors, outside_inference_mode, settled


class Energy(nn.Module, ABC):
    """A scalar function of a sample, low where the sample is likely: `p(x) ∝ exp(-E(x))`.

    Energies add, scale and mix into new energies that share their parts' parameters:
    `e1 + e2` is a product of experts, `mixture([e1, e2])` a mixture, `e.at(T)` flattens by a temperature.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of each sample.

        Args:
            x: `(B, *shape)` samples.
            context: `(B, ...)` what the energy is conditioned on, or None.

        Returns:
            `(B,)` energies.

        """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A subclass with another energy must not inherit a gradient that is written out for its parent's.
        super().__init_subclass__(**kwargs)
        if "value_and_gradient" in vars(cls):
            written = guarded(vars(cls)["value_and_gradient"], Energy.value_and_gradient)
            cls.value_and_gradient = written  # type: ignore[assignment, method-assign]
        for name in ("curvature", "quadratic"):
            if name in vars(cls):
                setattr(cls, name, unrecorded(vars(cls)[name], vars(Energy)[name]))
        for name in ("value_and_gradient", "curvature", "quadratic"):
            if not owns(cls, name):
                setattr(cls, name, vars(Energy)[name])
        if not owns_arrays(cls):
            cls.on_arrays = Energy.on_arrays  # type: ignore[method-assign]

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy of each sample and its gradient with respect to the sample, detached.

        By automatic differentiation; the gradient of a constant is 0. Subclasses may write the gradient out, which is
        faster for small networks. Neither returns a graph: use `torch.autograd.grad` of the energy for second
        derivatives. Hooks, autocasting and a subclass with another `forward` or `split` bring automatic differentiation
        back.

        Args:
            x: `(B, *shape)` samples.
            context: `(B, ...)` what the energy is conditioned on, or None.

        Returns:
            `(B,)` energies and `(B, *shape)` gradients.

        """
        if torch.is_inference_mode_enabled() or x.is_inference():
            with torch.inference_mode(False):
                known = None if context is None else settled(context)
                return Energy.value_and_gradient(self, settled(x), known)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self(x, context)
            if not energy.requires_grad:  # a constant, or steps only, such as an indicator
                return energy, torch.zeros_like(x)
            (gradient,) = torch.autograd.grad(energy, x, torch.ones_like(energy), materialize_grads=True)
        return energy.detach(), gradient.detach()

    @outside_inference_mode
    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        """Energy, exact gradient and positive semi-definite curvature at trajectories, for second-order samplers.

        Args:
            x: `(B, T, D)` trajectories.
            context: `(B, ...)` what the energy is conditioned on, or None.

        """
        energy, gradient = self.value_and_gradient(x, context)
        return Quadratic(energy, gradient, self.curvature(x, context))

    @outside_inference_mode
    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Bands of a positive semi-definite approximation of the Hessian; see `Quadratic`.

        By automatic differentiation. For trajectories `(B, T, D)` it is taken as if each time step were coupled with
        its neighbours only; samples of other shapes count as one time step. Energies that are near a sum of squares
        give their Gauss-Newton matrix instead.
        """
        if x.ndim == 3:
            return neighbour_curvature(lambda given: self(given, context), x)
        one = x.flatten(1).unsqueeze(1)
        return neighbour_curvature(lambda given: self(given.reshape(x.shape), context), one)

    def restricted(
        self, x: Tensor, free: Tensor | None, context: Tensor | None = None
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """`value_and_gradient` as a function of samples that differ from `x` in free coordinates only.

        What depends on the other coordinates is computed once, which saves a chain time. Gradients at coordinates that
        are not free are arbitrary. Neither context nor weights, hooks and modes may change while it is in use.

        Args:
            x: `(B, *shape)` samples.
            free: boolean, broadcast to `x`: coordinates that may change; None for all.
            context: see `forward`.

        Returns:
            The function, or None if `value_and_gradient` itself is as fast.

        """
        return None

    def on_arrays(self, x: Tensor, context: Tensor | None = None) -> ArrayEnergy | None:
        """The energy as a function of NumPy arrays, which second-order steps of few chains on the CPU use.

        Neither context nor weights, hooks and modes may change while it is in use, and no graph may be recorded.

        Args:
            x: `(B, T, D)` trajectories like those to come.
            context: see `forward`.

        Returns:
            The function, or None if the energy has no such form or it would not be that of `forward` and `quadratic`.

        """
        return None

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy as `(base, tilt)`, each `(B,)`; `forward` is their sum.

        The base is a fixed or separately fitted measure. The tilt is the part that contrastive training shapes,
        and the only part that is regularised. Without a base measure the base is 0.
        """
        tilt = self(x, context)
        return torch.zeros_like(tilt), tilt

    def __add__(self, other: Energy) -> Energy:
        if not isinstance(other, Energy):
            return NotImplemented
        return Sum([*_terms(self), *_terms(other)])

    def __radd__(self, other: float) -> Energy:
        return self if other == 0 else NotImplemented  # so that sum() takes energies

    def __mul__(self, factor: float) -> Energy:
        return Scaled(self, factor) if isinstance(factor, Real) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> Energy:
        return Scaled(self, -1.0)

    def __sub__(self, other: Energy) -> Energy:
        if not isinstance(other, Energy):
            return NotImplemented
        return self + (-other)

    def at(self, temperature: float) -> Energy:
        """The energy at a temperature: `E / T`."""
        require_number("temperature", temperature, 0, above=True)
        return Scaled(self, 1.0 / temperature)


def _terms(energy: Energy) -> list[Energy]:
    """Terms of a sum, so that sums of sums stay flat."""
    return (
        [term for term in energy.terms if isinstance(term, Energy)] if isinstance(energy, Sum) else [energy]
    )


class SplitEnergy(Energy):
    """An energy defined by its base and its tilt: their sum."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of samples `x` `(B, *shape)` given their context: base plus tilt, `(B,)`."""
        base, tilt = self.split(x, context)
        return base + tilt

    @abstractmethod
    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy of each sample as `(base, tilt)`, `(B,)` each."""


class Sum(SplitEnergy):
    """`E(x) = Σ_i E_i(x)`: the product of the experts `exp(-E_i)` (Hinton 2002)."""

    def __init__(self, terms: Sequence[Energy]) -> None:
        super().__init__()
        require(len(terms) > 0, "terms", given="none", expected="at least one energy")
        self.terms = nn.ModuleList(terms)

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sum of the terms' bases and sum of their tilts."""
        bases, tilts = zip(*(_split(term, x, context) for term in self.terms), strict=True)
        return sum(bases[1:], bases[0]), sum(tilts[1:], tilts[0])

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        """Sum of the terms' quadratic models."""
        first, *rest = [_energy(term).quadratic(x, context) for term in self.terms]
        return sum(rest, first)

    def on_arrays(self, x: Tensor, context: Tensor | None = None) -> ArrayEnergy | None:
        """Sum of the terms; those that have no form in arrays are evaluated by torch, unless none has one."""
        found = [(_energy(term), _energy(term).on_arrays(x, context)) for term in self.terms]
        if not unchanged(self) or all(term is None for _, term in found):
            return None
        return ArraySum([ByTensors(energy, context) if term is None else term for energy, term in found])

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Sum of the terms' curvatures."""
        first, *rest = [_energy(term).curvature(x, context) for term in self.terms]
        return functools.reduce(add_bands, rest, first)

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sum of the terms' energies `(B,)` and of their gradients."""
        parts = [_energy(term).value_and_gradient(x, context) for term in self.terms]
        energies, gradients = zip(*parts, strict=True)
        return sum(energies[1:], energies[0]), sum(gradients[1:], gradients[0])


class Scaled(Energy):
    """`E(x) = factor * E_0(x)`; `factor` is 1/T for a temperature and -1 for a negation."""

    def __init__(self, energy: Energy, factor: float) -> None:
        super().__init__()
        require_number("factor", factor)
        self.energy = energy
        self.factor = float(factor)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The factor times the energy of each sample, `(B,)`."""
        return self.factor * self.energy(x, context)

    def split(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The factor times the base and times the tilt, `(B,)` each."""
        base, tilt = _split(self.energy, x, context)
        return self.factor * base, self.factor * tilt

    def quadratic(self, x: Tensor, context: Tensor | None = None) -> Quadratic:
        """The factor times the energy's quadratic model; the curvature stays positive semi-definite."""
        return self.energy.quadratic(x, context).scaled(self.factor)

    def on_arrays(self, x: Tensor, context: Tensor | None = None) -> ArrayEnergy | None:
        """The factor times the energy, if that has a form in arrays."""
        found = self.energy.on_arrays(x, context) if unchanged(self) else None
        return None if found is None else ArrayScaled(found, float(self.factor))

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """The factor's magnitude times the energy's curvature."""
        return tuple(abs(self.factor) * band for band in self.energy.curvature(x, context))

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The factor times the energy `(B,)` and times its gradient."""
        energy, gradient = self.energy.value_and_gradient(x, context)
        return self.factor * energy, self.factor * gradient

    def extra_repr(self) -> str:
        """Show the factor in the module's printout."""
        return f"factor={self.factor:g}"


class Mixture(Energy):
    """`E(x) = -log Σ_i w_i exp(-E_i(x))`: the mixture of the unnormalised densities `exp(-E_i)`.

    Args:
        energies: the components.
        weights: positive weights, one per component; equal by default.

    """

    log_weights: Tensor

    @ordinary_tensors()
    def __init__(self, energies: Sequence[Energy], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        require(len(energies) > 0, "energies", given="none", expected="at least one energy")
        named = weights is None or is_sequence(weights)
        require(named, "weights", given=shown(weights), expected="positive numbers, one an energy")
        given = list(weights) if weights is not None else [1.0 / len(energies)] * len(energies)
        fits = len(given) == len(energies)
        require(fits, "weights", given=given, expected=f"{len(energies)} positive numbers")
        for weight in given:
            require_number("weights", weight, 0, above=True)
        self.energies = nn.ModuleList(energies)
        self.register_buffer("log_weights", torch.tensor(given, dtype=torch.float32).log())

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Energy of each sample under the mixture, `(B,)`."""
        energies = torch.stack([energy(x, context) for energy in self.energies], dim=-1)
        return -torch.logsumexp(self.log_weights.to(energies) - energies, dim=-1)

    def curvature(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """Curvatures of the components, averaged with their probabilities given `x`."""
        weights = self.probabilities(torch.stack([energy(x, context) for energy in self.energies], dim=-1))
        parts = [
            tuple(weights[:, i, None, None, None] * band for band in _energy(energy).curvature(x, context))
            for i, energy in enumerate(self.energies)
        ]
        return functools.reduce(add_bands, parts[1:], parts[0])

    def value_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energy `(B,)` and gradient: that of the components, averaged with their probabilities given `x`."""
        parts = [_energy(energy).value_and_gradient(x, context) for energy in self.energies]
        energies = torch.stack([energy for energy, _ in parts], dim=-1)
        weights = self.probabilities(energies).reshape(len(x), *[1] * (x.ndim - 1), len(parts))
        gradient = (weights * torch.stack([gradient for _, gradient in parts], dim=-1)).sum(dim=-1)
        return -torch.logsumexp(self.log_weights.to(energies) - energies, dim=-1), gradient

    def probabilities(self, energies: Tensor) -> Tensor:
        """Probability of each component given a sample, from the components' energies `(B, components)`."""
        return (self.log_weights.to(energies) - energies).softmax(dim=-1)


def mixture(energies: Sequence[Energy], weights: Sequence[float] | None = None) -> Mixture:
    """Mixture of energies: a sample is likely where any component finds it likely. See `Mixture`."""
    return Mixture(energies, weights)


def _split(module: nn.Module, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    return _energy(module).split(x, context)


def _energy(module: nn.Module) -> Energy:
    """The module as an energy (torch's containers lose the type of their items)."""
    assert isinstance(module, Energy)
    return module
