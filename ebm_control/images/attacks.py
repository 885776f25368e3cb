"""Adversarial examples. An attack is a kernel that ascends the loss within a ball, run by the common sampler loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ebm_control.checks import require, require_flag, require_number, require_shape
from ebm_control.energies.base import Energy
from ebm_control.images.classify import Logits
from ebm_control.images.pixels import pixels
from ebm_control.samplers.chain import KernelSampler
from ebm_control.samplers.engines import Engine
from ebm_control.samplers.kernel import Info, Kernel, State, Target, choose, finite, norms
from ebm_control.tensors import generator_on

Norm = Literal["linf", "l2"]
_POINT = (
    "x",
    "energy",
    "gradient",
)  # fields of an attack's state for the current point; "best_" fields are for the best point
_GAINING_SHARE = 0.75  # of the steps between checkpoints; if fewer improve, the step size is halved (APGD)


class AttackEnergy(Energy):
    """Negative loss of a classifier as an energy of perturbations: `E(δ) = -L(f(x + δ), y)`.

    Args:
        logits: the classifier with its defence, differentiable.
        images: `(B, C, H, W)` that are perturbed.
        labels: `(B,)` their classes.
        loss: "cross-entropy", or "dlr", the difference of logits ratio (Croce & Hein 2020), which does not vanish
            where a classifier is confident.

    """

    images: Tensor
    labels: Tensor

    def __init__(
        self, logits: Logits, images: Tensor, labels: Tensor, loss: Literal["cross-entropy", "dlr"]
    ) -> None:
        super().__init__()
        self.logits, self.loss = logits, loss
        self.register_buffer("images", images)
        self.register_buffer("labels", labels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Negative loss `(B,)` of each image with its perturbation `(B, C, H, W)`."""
        logits = self.logits(self.images + x)
        if self.loss == "cross-entropy":
            return -functional.cross_entropy(logits, self.labels, reduction="none")
        ranked = logits.sort(dim=1, descending=True).values
        true = logits.gather(1, self.labels[:, None]).squeeze(1)
        other = torch.where(true == ranked[:, 0], ranked[:, 1], ranked[:, 0])
        if logits.shape[1] < 3:  # the ratio would be constant
            return true - other
        return (true - other) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


@dataclass(frozen=True)
class Attack(KernelSampler):
    """Projected gradient ascent of a loss (Madry et al. 2018), or its adaptive form (APGD, Croce & Hein 2020).

    A sampler over perturbations, run by the common sampler loop. Bounds keep `x + δ` within [0, 1]; the kernel
    projects. It returns the best perturbation of all steps.

    Args:
        radius: ε, radius of the ball.
        steps: number of gradient steps.
        norm: norm of the ball.
        step_size: in radii; for an adaptive attack the initial one, halved when the loss no longer improves.
        adaptive: use momentum, step-size halving, and restarts from the best point so far.
        clamp: low and high bounds of the perturbation.
        engine: backend of the sampler loop, see `Langevin`.

    """

    radius: float
    steps: int = 20
    norm: Norm = "linf"
    step_size: float = 0.125
    adaptive: bool = False
    scale: Tensor | tuple[float, ...] | None = None
    clamp: tuple[Tensor, Tensor] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        require_number("radius", self.radius, 0, above=True)
        require_number("steps", self.steps, 1, whole=True)
        require(self.norm in ("linf", "l2"), "norm", given=self.norm, expected="'linf' or 'l2'")
        require_number("step_size", self.step_size, 0, above=True)
        require_flag("adaptive", self.adaptive)

    def kernel(self) -> Kernel:
        """The kernel of one ascent step, with radius and step size in units of pixels."""
        return AttackKernel(self.radius, self.norm, self.step_size * self.radius, self.adaptive)

    def step_parameters(self) -> Tensor:
        """`(steps, 2)`: steps since the last checkpoint at each checkpoint (else 0), weight of the new step."""
        rows = [[0.0, 1.0 if i == 0 or not self.adaptive else 0.75] for i in range(self.steps)]
        for before, at in _checkpoints(self.steps):
            rows[at - 1][0] = float(at - before)
        return torch.tensor(rows)


def _checkpoints(steps: int) -> list[tuple[int, int]]:
    """Pairs of consecutive checkpoints of APGD: after 22 % of the steps, then 3 % less each time, at least 6 %."""
    found, before, share, width = [], 0, 0.22, 0.22
    while (at := max(round(share * steps), before + 1)) <= steps:
        found.append((before, at))
        before, width = at, max(width - 0.03, 0.06)
        share += width
    return found


@dataclass(frozen=True)
class AttackKernel:
    """One step of an `Attack`; the fields are those of the attack."""

    radius: float
    norm: Norm
    step_size: float
    adaptive: bool

    def init(self, target: Target, x: Tensor) -> State:
        """State at the start of the attack, where the current point is also the best one.

        Returns:
            "x", "energy" and "gradient" of the current point, and the same three of the best point with the prefix
            "best_"; "before", the previous point; "step_size"; "checked_energy" and "checked_step_size", the best
            energy and the step size at the last checkpoint; "gains", steps since then that lowered the energy.

        """
        energy, gradient = target.value_and_gradient(x)
        point = {"x": x, "energy": energy, "gradient": gradient.nan_to_num(0.0, 0.0, 0.0)}
        step_size = torch.full_like(energy, self.step_size)
        return point | {
            **{f"best_{name}": value for name, value in point.items()},
            "before": x,
            "step_size": step_size,
            "gains": torch.zeros_like(energy),
            "checked_energy": energy,
            "checked_step_size": step_size,
        }

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """No noise: only the starting point of an attack is random."""
        return ()

    def step(
        self, target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        """One projected descent step of the energy; at a checkpoint, step sizes are halved where progress was slow."""
        checked, kept = row.unbind(0)
        x = state["x"]
        size = _column(state["step_size"], x)
        moved = self._inside(target, x - size * scale * self._direction(state["gradient"]))
        if self.adaptive:
            moved = self._inside(target, x + kept * (moved - x) + (1 - kept) * (x - state["before"]))
        new = dict(state) | {"x": moved, "before": x}
        new["energy"], new["gradient"] = target.value_and_gradient(moved)
        accept = finite(new)
        new = choose(accept, new, state)
        new["gains"] = state["gains"] + (new["energy"] < state["energy"])
        better = new["energy"] < state["best_energy"]
        for name in _POINT:
            best = f"best_{name}"
            new[best] = torch.where(_column(better, new[name]), new[name], state[best])
        if self.adaptive:
            new = self._checked(new, checked)
        return new, {"rejected": ~accept, "energy": new["energy"], "gradient_norm": norms(new["gradient"])}

    def finish(self, target: Target, state: State) -> State:
        """The state with the best perturbation of all steps."""
        return state | {"x": state["best_x"], "energy": state["best_energy"]}

    def _checked(self, state: State, since: Tensor) -> State:
        """Halve step sizes by APGD's two conditions: few improving steps, or no improvement at an unchanged size."""
        few_gains = state["gains"] < _GAINING_SHARE * since
        same_size = state["step_size"] == state["checked_step_size"]
        no_better = state["best_energy"] >= state["checked_energy"]
        at_checkpoint = since > 0
        halve = at_checkpoint & (few_gains | (same_size & no_better))
        new = dict(state)
        # Where nothing is halved, the current step size is recorded as checked.
        new["checked_step_size"] = torch.where(at_checkpoint, state["step_size"], state["checked_step_size"])
        new["checked_energy"] = torch.where(at_checkpoint, state["best_energy"], state["checked_energy"])
        new["gains"] = torch.where(at_checkpoint, torch.zeros_like(state["gains"]), state["gains"])
        new["step_size"] = torch.where(halve, state["step_size"] / 2, state["step_size"])
        for name in _POINT:
            best = state[f"best_{name}"]
            new[name] = torch.where(_column(halve, best), best, state[name])
        new["before"] = torch.where(_column(halve, new["x"]), new["x"], state["before"])
        return new

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.norm == "linf":
            return gradient.sign()
        return gradient / _column(norms(gradient).clamp(min=1e-12), gradient)

    def _inside(self, target: Target, x: Tensor) -> Tensor:
        """Projection on the ball and then the bounds; clipping to the bounds stays within the ball."""
        if self.norm == "linf":
            x = x.clamp(-self.radius, self.radius)
        else:
            x = x * (self.radius / _column(norms(x), x).clamp(min=1e-12)).clamp(max=1.0)
        return target.hold(x, x)


def attacked(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    *,
    restarts: int = 1,
    loss: Literal["cross-entropy", "dlr"] = "cross-entropy",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Adversarial examples `(N, C, H, W)`: for each image the first restart that is misclassified, or the last.

    Args:
        logits: the classifier with its defence. If the defence is random, gradients should be those of a mean.
        images: `(N, C, H, W)` in [0, 1].
        labels: `(N,)` true classes.
        attack: its settings; bounds are set here.
        restarts: number of runs; the first starts from the image itself, others from random points of the ball.
        loss: see `AttackEnergy`.
        generator: random source of the restarts; None seeds from the system.

    Raises:
        InputError: a shape does not fit.

    """
    images = pixels("images", images)
    require_shape("labels", labels, (len(images),))
    require_number("restarts", restarts, 1, whole=True)
    generator = generator_on(images.device, generator)
    found = images.clone()
    left = torch.arange(len(images), device=images.device)
    for restart in range(restarts):
        x, y = images[left], labels[left]
        start = torch.zeros_like(x)
        if restart:
            start = _within_ball(x, attack, generator)
        bounded = replace(attack, clamp=(-x, 1 - x))
        delta = bounded(AttackEnergy(logits, x, y, loss), start, generator=generator).x
        found[left] = (x + delta).clamp(0, 1)
        with torch.no_grad():
            right = logits(found[left]).argmax(dim=1) == y
        left = left[right]
        if len(left) == 0:
            break
    return found


def _within_ball(x: Tensor, attack: Attack, generator: torch.Generator) -> Tensor:
    """Random perturbations within the ball and the range of pixels."""
    if attack.norm == "linf":
        drawn = attack.radius * (
            2 * torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) - 1
        )
    else:
        drawn = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        drawn = attack.radius * drawn / drawn.flatten(1).norm(dim=1)[:, None, None, None]
    return (x + drawn).clamp(0, 1) - x


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Values `(B,)`, one for each sample, in a shape that broadcasts to the samples `like` `(B, *shape)`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
