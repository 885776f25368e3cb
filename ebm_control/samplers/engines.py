"""The sampler loop and how its steps are executed: `eager`, `compile` (one fused step) or `graph` (one CUDA graph).

All three draw the same noise in the same order, so the same generator gives the same chain within float
tolerance. Weights may change in place between calls. Other shapes or another energy object cause a new compilation
or capture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from types import FunctionType
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from ebm_control.checks import require, require_shape
from ebm_control.energies.base import Energy
from ebm_control.energies.pullbacks import unchanging
from ebm_control.samplers.array_target import ArrayTarget
from ebm_control.samplers.kernel import Info, Kernel, Parts, Row, Scale, State, Target

Engine = Literal["auto", "eager", "compile", "graph"]
Step = Callable[[Target, State, tuple[Tensor, ...], Any, Any], tuple[State, Info]]
# What "auto" is on a CUDA device: set from benchmarks/results/gpu.json when it exists, "graph" if that is faster there.
# Not measured yet.
AUTO_ON_CUDA: Engine = "eager"
_KEPT = 16  # compiled steps and graphs in the cache, which hold their energies too
Result = tuple[State, Tensor | None, Info]


def execute(
    engine: Engine,
    kernel: Kernel,
    target: Target,
    x: Tensor,
    parameters: Tensor,
    scale: Tensor | None,
    generator: torch.Generator,
    trace: int,
) -> Result:
    """Run the loop with the named engine; `auto` is `eager`, which needs no warm-up, or `AUTO_ON_CUDA`.

    On the CPU the eager engine lets kernels branch on values and take parameters as numbers. That saves small
    operations, which cost as much as the matrix products of a small network.
    """
    require(
        engine in ("auto", "eager", "compile", "graph"),
        "engine",
        given=engine,
        expected="'auto', 'eager', 'compile' or 'graph'",
    )
    if engine == "auto":
        engine = automatic(kernel, x.device)
    eager = engine == "eager"
    factor = torch.ones((), device=x.device, dtype=x.dtype) if scale is None else scale
    if engine == "graph":
        require(
            x.is_cuda, "engine", given="'graph' on " + str(x.device), expected="a CUDA device for 'graph'"
        )
        return _captured(kernel, target, x, parameters, factor, generator, trace)
    noise = _noise(kernel, x, generator, len(parameters))
    if eager and x.is_cpu:
        arrays = ArrayTarget.of(target, x) if getattr(kernel, "arrays", False) else None
        with unchanging():
            if arrays is not None:
                return _on_arrays(kernel, arrays, x, parameters, factor, trace)
            if not getattr(kernel, "numbers", False):
                return loop(kernel, target, x, parameters.unbind(0), factor, noise, trace)
            numbers = [tuple(row) for row in parameters.tolist()]
            restricted = target.energy.restricted(x, target.movable, target.context)
            target = replace(target, branching=True, restricted=restricted)
            return loop(kernel, target, x, numbers, 1.0 if scale is None else scale, noise, trace)
    step = None if eager else _compiled(kernel, target.energy)
    return loop(kernel, target, x, parameters.unbind(0), factor, noise, trace, step)


def _on_arrays(
    kernel: Kernel, target: ArrayTarget, x: Tensor, parameters: Tensor, scale: Tensor, trace: int
) -> Result:
    """The loop on the memory of the tensors, for kernels that draw no noise."""
    given: Any = (target, x.numpy(), parameters.numpy(), scale.numpy(), itertools.repeat(()), trace)
    ran: Any = steps(kernel, *given)
    state, kept, infos = ran
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    return tensors, torch.from_numpy(np.stack(kept)) if kept else None, _metrics(infos)


def _metrics(infos: list[dict[str, Any]]) -> Info:
    """`_over_chains` of metrics in arrays `(B,)`, all at once."""
    if not infos:
        return {}
    table = np.array([list(info.values()) for info in infos], dtype=np.float32)  # (steps, metrics, B)
    sums = np.add.reduce(table, 2)
    means = sums / np.float32(table.shape[2])
    counts = [value.dtype == np.bool_ for value in infos[0].values()]
    return {
        name: torch.from_numpy(sums[:, k].astype(np.int64) if counts[k] else means[:, k])
        for k, name in enumerate(infos[0])
    }


def automatic(kernel: Kernel, device: torch.device) -> Engine:
    """The engine that `auto` is on a device; a kernel that reads values back from the device is not captured."""
    fixed = getattr(kernel, "capturable", True)
    return AUTO_ON_CUDA if device.type == "cuda" and fixed else "eager"


def _noise(kernel: Kernel, x: Tensor, generator: torch.Generator, steps: int) -> Iterator[tuple[Tensor, ...]]:
    draws = getattr(kernel, "draws", None)
    if draws is not None:
        return cast(Iterator[tuple[Tensor, ...]], draws(x, generator, steps))
    return (kernel.draw(x, generator) for _ in range(steps))


def loop(
    kernel: Kernel,
    target: Target,
    x: Tensor,
    parameters: Iterable[Row],
    scale: Scale,
    noise: Iterator[tuple[Tensor, ...]],
    trace: int,
    step: Step | None = None,
) -> tuple[State, Tensor | None, Info]:
    """`steps` with its results in one tensor each."""
    state, kept, infos = steps(kernel, target, x, parameters, scale, noise, trace, step)
    names = infos[0] if infos else {}
    metrics = {name: _over_chains(torch.stack([info[name] for info in infos])) for name in names}
    return state, torch.stack(kept) if kept else None, metrics


def steps(
    kernel: Kernel,
    target: Target,
    x: Tensor,
    parameters: Iterable[Row],
    scale: Scale,
    noise: Iterator[tuple[Tensor, ...]],
    trace: int,
    step: Step | None = None,
) -> tuple[State, list[Tensor], list[Info]]:
    """The loop of every sampler: last state, traced states, metrics of each step.

    It reads no value back from the device and branches on no tensor. Kernels do neither, unless the target says that
    they may (`Target.branching`).
    """
    step = step or cast(Step, kernel.step)
    state = kernel.init(target, x)
    if "energy" in state:
        require_shape("energy(x)", state["energy"], (x.shape[0],))
    kept: list[Tensor] = []
    infos: list[Info] = []
    for i, row in enumerate(parameters):
        state, info = step(target, state, next(noise), row, scale)
        infos.append(info)
        if trace and (i + 1) % trace == 0:
            kept.append(state["x"])
    return kernel.finish(target, state), kept, infos


def _over_chains(metrics: Tensor) -> Tensor:
    """Reduce metrics `(steps, B)` to one value per step: floats are averaged, flags and counts are summed."""
    return metrics.mean(dim=1) if metrics.is_floating_point() else metrics.sum(dim=1)


@lru_cache(maxsize=_KEPT)
def _compiled(kernel: Kernel, energy: Energy) -> Step:
    """The kernel's step under one energy, compiled as a whole; the target's tensors are its inputs."""

    def step(
        given: Parts,
        state: State,
        noise: tuple[Tensor, ...],
        row: Tensor,
        scale: Tensor,
    ) -> tuple[State, Info]:
        return kernel.step(Target(energy, *given), state, noise, row, scale)

    # With code of its own: the compiler counts what it compiled by code object, and stops at eight.
    own = FunctionType(step.__code__.replace(), step.__globals__, "step", None, step.__closure__)
    compiled = torch.compile(own, fullgraph=True)

    def take(
        target: Target, state: State, noise: tuple[Tensor, ...], row: Tensor, scale: Tensor
    ) -> tuple[State, Info]:
        return compiled(target.tensors, state, noise, row, scale)

    return take


@dataclass
class _Graph:
    """A captured chain with its input and output tensors."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    result: Result


_graphs: dict[tuple[object, ...], _Graph] = {}


def _captured(
    kernel: Kernel,
    target: Target,
    x: Tensor,
    parameters: Tensor,
    scale: Tensor,
    generator: torch.Generator,
    trace: int,
) -> Result:
    """The whole chain as one CUDA graph: a replay launches the kernels of all steps at once.

    Noise is drawn before the replay, in the eager order, which takes `steps` times the memory of `x`.
    """
    noise = [kernel.draw(x, generator) for _ in range(len(parameters))]
    optional = [tensor for tensor in target.tensors if tensor is not None]
    inputs = [x, parameters, scale, *optional, *(tensor for step in noise for tensor in step)]
    shapes = tuple((tuple(t.shape), t.dtype) for t in inputs)
    # The graph reads weights from their memory at capture; a replaced weight tensor needs a new graph.
    held = [*target.energy.parameters(), *target.energy.buffers()]
    addresses = tuple((t.data_ptr(), tuple(t.shape)) for t in held)
    absent = tuple(tensor is None for tensor in target.tensors)
    key = (kernel, target.energy, *absent, trace, shapes, addresses)
    if key not in _graphs:
        while len(_graphs) >= _KEPT:
            _graphs.pop(next(iter(_graphs)))
        _graphs[key] = _capture(kernel, target, inputs, noise, trace)
    captured = _graphs[key]
    for static, given in zip(captured.inputs, inputs, strict=True):
        static.copy_(given)
    captured.graph.replay()
    state, kept, info = captured.result
    copy = {name: value.clone() for name, value in state.items()}
    return copy, None if kept is None else kept.clone(), {name: value.clone() for name, value in info.items()}


def _capture(
    kernel: Kernel, target: Target, inputs: list[Tensor], noise: list[tuple[Tensor, ...]], trace: int
) -> _Graph:
    static = [tensor.clone() for tensor in inputs]
    x, parameters, scale = static[:3]
    rest = iter(static[3:])
    context, movable, low, high, origin = (None if t is None else next(rest) for t in target.tensors)
    fixed_noise = [tuple(next(rest) for _ in step) for step in noise]
    held = Target(target.energy, context, movable, low, high, origin)

    def run() -> Result:
        return loop(kernel, held, x, parameters, scale, iter(fixed_noise), trace)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # autograd and cuBLAS allocate their workspaces outside the capture
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return _Graph(graph, static, result)
