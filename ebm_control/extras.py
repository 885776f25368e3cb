"""Optional dependencies: imported on first use, with one error that names the extra to install."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ebm_control.checks import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OF_ENVIRONMENTS = {"mujoco": "mujoco", "imageio": "mujoco", "gymnasium_robotics": "robotics"}


class MissingExtraError(InputError, ImportError):
    """A package of one of ebm-control's extras is missing."""


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of a package that is installed by `ebm-control[extra]`.

    Args:
        module: full name, such as "sklearn.mixture".
        extra: name of the extra.
        purpose: what needs the package; the message begins with it.

    Raises:
        MissingExtraError: the package is not installed. Other import errors are raised unchanged.

    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is installed, but one of its own dependencies is not
        raise MissingExtraError(f"{purpose}: {missing(package, extra)}") from error


def missing(package: str, extra: str) -> str:
    """Message for a package that is not installed, with the command that installs it."""
    return f'expected the package {package}, which is not installed; pip install "ebm-control[{extra}]"'


def extra_hint(error: BaseException | None) -> str:
    """Command that installs a package which an environment failed to import, or "" if no extra has it."""
    while error is not None:
        package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        extra = _OF_ENVIRONMENTS.get(package)
        if extra is not None:
            return f'; pip install "ebm-control[{extra}]"'
        error = error.__cause__ or error.__context__
    return ""


def new_figure(**settings: Any) -> Figure:
    """An empty figure for saving to a file, without pyplot, which would open a display and keep every figure alive.

    Args:
        settings: arguments of `matplotlib.figure.Figure`.

    Raises:
        MissingExtraError: matplotlib is not installed.

    """
    figure: Figure = import_extra("matplotlib.figure", "plots", "figures").Figure(**settings)
    return figure


class ExtraModule(ModuleType):
    """A module of an extra, imported on first use of an attribute; see `import_extra` for the arguments."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        super().__init__(module)
        self._extra, self._purpose = extra, purpose

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # special attributes that Python reads from any object need no import
            raise AttributeError(name)
        return getattr(import_extra(self.__name__, self._extra, self._purpose), name)
