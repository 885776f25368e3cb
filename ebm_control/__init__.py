"""Energy-based models for control: one sampler trains, predicts and plans."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from ebm_control.data import RolloutBuffer, collect, collect_mujoco, from_minari, load_images, to_minari
    from ebm_control.energies import Energy, GoalCost, RewardCost, mixture
    from ebm_control.planning import MPCAgent, Planner, planner_for, run_episodes
    from ebm_control.prediction import predict, prediction_error
    from ebm_control.samplers import CEM, HMC, MALA, MPPI, Langevin
    from ebm_control.training import (
        ImageModel,
        ImageModelSettings,
        ImageTrainSettings,
        ModelSettings,
        SampleBuffer,
        Trainer,
        TrainSettings,
        TrajectoryModel,
        fit_images,
        fit_model,
    )

__all__ = [
    "CEM",
    "HMC",
    "MALA",
    "MPPI",
    "Energy",
    "GoalCost",
    "ImageModel",
    "ImageModelSettings",
    "ImageTrainSettings",
    "Langevin",
    "MPCAgent",
    "ModelSettings",
    "Planner",
    "RewardCost",
    "RolloutBuffer",
    "SampleBuffer",
    "TrainSettings",
    "Trainer",
    "TrajectoryModel",
    "collect",
    "collect_mujoco",
    "fit_images",
    "fit_model",
    "from_minari",
    "load_images",
    "mixture",
    "planner_for",
    "predict",
    "prediction_error",
    "run_episodes",
    "to_minari",
]

# The subpackages that define these names. They are imported when a name is first used, because importing torch takes
# seconds: `ebm-control --version` does not need it, and Ctrl-C during the import needs a handler installed before.
_SUBPACKAGES = ("data", "energies", "planning", "prediction", "samplers", "training")

if not TYPE_CHECKING:  # type checkers read the imports above

    def __getattr__(name):
        value = globals()[name] = _lookup(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _lookup(name: str) -> object:
    """Find the value of a module attribute that has not been used yet.

    Raises:
        AttributeError: the package has no such attribute.

    """
    if name == "__version__":
        try:
            return version("ebm-control")
        except PackageNotFoundError:  # run from a source tree that was never installed
            return "0+unknown"
    if name in __all__:
        modules = (import_module(f"{__name__}.{package}") for package in _SUBPACKAGES)
        return next(getattr(module, name) for module in modules if name in module.__all__)
    module = f"{__name__}.{name}"
    try:
        if not name.startswith("_"):
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
