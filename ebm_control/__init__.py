"""Energy-based models for control: one sampler trains, predicts and plans."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import ebm_envs  # noqa: F401  (registers `ebm/...`, for ids to work after this import alone)

if TYPE_CHECKING:
    __version__: str
    from ebm_control.baselines import Baseline, BaselineSettings, fit_baseline
    from ebm_control.checks import InputError
    from ebm_control.control import GuideSettings, fit_guide, make_agent, planner_for
    from ebm_control.data import (
        ImageSet,
        RolloutBuffer,
        adapt,
        collect,
        collect_mujoco,
        from_minari,
        load_images,
        read,
        to_minari,
    )
    from ebm_control.energies import Energy, GoalCost, RewardCost, mixture
    from ebm_control.entry import fit, load
    from ebm_control.models import (
        ImageModel,
        ImageModelSettings,
        ImageTrainSettings,
        ModelSettings,
        TrainSettings,
        TrajectoryModel,
        fit_images,
        fit_model,
        prediction_error,
    )
    from ebm_control.online import OnlineLearning, OnlineSettings, learn_offline, learn_online
    from ebm_control.planning import Guided, MPCAgent, Planner, Roadmap, evaluate, run_episodes
    from ebm_control.prediction import predict
    from ebm_control.samplers import (
        CEM,
        HMC,
        MALA,
        MPPI,
        Annealed,
        GaussNewton,
        Langevin,
        ProbabilityFlow,
        noise_levels,
    )
    from ebm_control.training import CheckpointError, DivergenceError, Guard, SampleBuffer, Trainer

# Where each name is defined. A module is imported when one of its names is first used, because importing torch takes
# seconds: `ebm-control --version` does not need it, and Ctrl-C during the import needs a handler installed before.
_HOMES = {
    "baselines": ("Baseline", "BaselineSettings", "fit_baseline"),
    "checks": ("InputError",),
    "control": ("GuideSettings", "fit_guide", "make_agent", "planner_for"),
    "data": (
        "ImageSet",
        "RolloutBuffer",
        "adapt",
        "collect",
        "collect_mujoco",
        "from_minari",
        "load_images",
        "read",
        "to_minari",
    ),
    "energies": ("Energy", "GoalCost", "RewardCost", "mixture"),
    "entry": ("fit", "load"),
    "models": (
        "ImageModel",
        "ImageModelSettings",
        "ImageTrainSettings",
        "ModelSettings",
        "TrainSettings",
        "TrajectoryModel",
        "fit_images",
        "fit_model",
        "prediction_error",
    ),
    "online": ("OnlineLearning", "OnlineSettings", "learn_offline", "learn_online"),
    "planning": ("Guided", "MPCAgent", "Planner", "Roadmap", "evaluate", "run_episodes"),
    "prediction": ("predict",),
    "samplers": (
        "CEM",
        "HMC",
        "MALA",
        "MPPI",
        "Annealed",
        "GaussNewton",
        "Langevin",
        "ProbabilityFlow",
        "noise_levels",
    ),
    "training": ("CheckpointError", "DivergenceError", "Guard", "SampleBuffer", "Trainer"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "CEM",
    "HMC",
    "MALA",
    "MPPI",
    "Annealed",
    "Baseline",
    "BaselineSettings",
    "CheckpointError",
    "DivergenceError",
    "Energy",
    "GaussNewton",
    "GoalCost",
    "Guard",
    "GuideSettings",
    "Guided",
    "ImageModel",
    "ImageModelSettings",
    "ImageSet",
    "ImageTrainSettings",
    "InputError",
    "Langevin",
    "MPCAgent",
    "ModelSettings",
    "OnlineLearning",
    "OnlineSettings",
    "Planner",
    "ProbabilityFlow",
    "RewardCost",
    "Roadmap",
    "RolloutBuffer",
    "SampleBuffer",
    "TrainSettings",
    "Trainer",
    "TrajectoryModel",
    "adapt",
    "collect",
    "collect_mujoco",
    "evaluate",
    "fit",
    "fit_baseline",
    "fit_guide",
    "fit_images",
    "fit_model",
    "from_minari",
    "learn_offline",
    "learn_online",
    "load",
    "load_images",
    "make_agent",
    "mixture",
    "noise_levels",
    "planner_for",
    "predict",
    "prediction_error",
    "read",
    "run_episodes",
    "to_minari",
]

if not TYPE_CHECKING:  # type checkers read the imports above

    def __getattr__(name):
        value = globals()[name] = _lookup(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _lookup(name: str) -> object:
    """Value of a module attribute on its first use.

    Raises:
        AttributeError: the package has no such attribute.

    """
    if name == "__version__":
        try:
            return version("ebm-control")
        except PackageNotFoundError:  # run from a source tree that is not installed
            return "0+unknown"
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    module = f"{__name__}.{name}"
    try:
        if not name.startswith("_"):
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
