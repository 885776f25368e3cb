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
    """A package is missing that belongs to an extra of ebm-control."""


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of a package that `ebm-control[extra]` installs.

    Args:
        module: full name, such as "sklearn.mixture".
        extra: name of the extra.
        purpose: what needs the package, to begin the message with.

    Raises:
        MissingExtraError: the package is not installed. Whatever else fails in the import is raised as it is.

    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is there, something that it needs itself is not
        raise MissingExtraError(f"{purpose}: {missing(package, extra)}") from error


def missing(package: str, extra: str) -> str:
    """What to say of a package that is not installed, and the command that installs it."""
    return f'expected the package {package}, which is not installed; pip install "ebm-control[{extra}]"'


def extra_hint(error: BaseException | None) -> str:
    """Command that installs what an environment's own code failed to import, or "" where no extra has it."""
    while error is not None:
        extra = _OF_ENVIRONMENTS.get(error.name or "") if isinstance(error, ModuleNotFoundError) else None
        if extra is not None:
            return f'; pip install "ebm-control[{extra}]"'
        error = error.__cause__ or error.__context__
    return ""


def new_figure(**settings: Any) -> Figure:
    """An empty figure that goes to a file: without pyplot, which would choose a screen and keep every figure.

    Args:
        settings: of `matplotlib.figure.Figure`.

    Raises:
        MissingExtraError: matplotlib is not installed.

    """
    figure: Figure = import_extra("matplotlib.figure", "plots", "figures").Figure(**settings)
    return figure


class ExtraModule(ModuleType):
    """A module of an extra that is imported when something of it is first used; arguments as `import_extra`."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        super().__init__(module)
        self._extra, self._purpose = extra, purpose

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python asks of any object needs no import
            raise AttributeError(name)
        return getattr(import_extra(self.__name__, self._extra, self._purpose), name)
