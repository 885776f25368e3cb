"""What the library does without its optional dependencies, and how it is started."""

import ast
import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ebm_control
from ebm_control.checks import InputError
from ebm_control.cli.commands import load_policy
from ebm_control.continual.figures import draw_accuracies
from ebm_control.data import MujocoSimulator, collect_mujoco, from_minari, load_images, to_minari
from ebm_control.data.environments import make_env
from ebm_control.data.rollout_buffer import RolloutBuffer
from ebm_control.extras import MissingExtraError, import_extra
from ebm_control.images import auroc
from ebm_control.training import Logger
from tests.cli.helpers import refused
from tests.data.readers.samples import episodes, write_lerobot

PACKAGES = (
    "h5py", "imageio", "matplotlib", "minari", "pyarrow", "sklearn", "stable_baselines3", "tensorboard",
    "gymnasium_robotics",
)  # fmt: skip


@pytest.fixture
def without(monkeypatch):
    """Function that makes packages look as if they were not installed."""

    def block(*packages):
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            monkeypatch.delitem(sys.modules, name)
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)  # Python's own way to refuse an import

    return block


def hdf5(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n")  # how every such file begins
    return path


def buffer():
    rollouts = RolloutBuffer(2, 1)
    rollouts.add_episode(np.zeros((3, 2)), np.zeros((2, 1)))
    return rollouts


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("minari", "minari", lambda path: to_minari(buffer(), "one/data-v0")),
        ("minari", "minari", lambda path: from_minari("one/data-v0")),
        ("h5py", "hdf5", lambda path: ebm_control.read(hdf5(path / "a"))),
        ("pyarrow", "lerobot", lambda path: ebm_control.read(write_lerobot(path / "a", episodes(2)))),
        ("mujoco", "mujoco", lambda path: MujocoSimulator(make_env("ebm/Particle-v0"))),
        ("mujoco", "mujoco", lambda path: collect_mujoco("ebm/Particle-v0", 10)),
        ("sklearn", "images", lambda path: load_images("digits")),
        ("sklearn", "images", lambda path: load_images("mnist", download=True)),
        ("sklearn", "images", lambda path: auroc(torch.zeros(2), torch.ones(2))),
        ("matplotlib", "plots", lambda path: draw_accuracies(path / "a.png", {"one": np.eye(2)})),
        ("stable_baselines3", "sb3", lambda path: load_policy(path / "policy.zip", "SAC")),
    ],
)
def test_a_missing_package_is_named_with_its_extra(without, tmp_path, package, extra, use):
    without(package)
    with pytest.raises(MissingExtraError) as caught:
        use(tmp_path)
    wanted = f'expected the package {package}, which is not installed; pip install "ebm-control[{extra}]"'
    assert str(caught.value).endswith(f": {wanted}")
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    ("package", "extra", "name"),
    [
        ("mujoco", "mujoco", "ebm/Reacher-v0"),
        ("mujoco", "mujoco", "HalfCheetah-v5"),
        ("imageio", "mujoco", "HalfCheetah-v5"),
        ("gymnasium_robotics", "robotics", "gymnasium_robotics:FetchReach-v4"),
        ("gymnasium_robotics", "robotics", "FetchReach-v4"),
        ("gymnasium_robotics", "robotics", "PointMaze_UMaze-v3"),
    ],
)
def test_an_environment_that_lacks_a_package_names_its_extra(without, monkeypatch, package, extra, name):
    for module in [m for m in sys.modules if m.startswith(("gymnasium.envs.mujoco", "ebm_envs."))]:
        monkeypatch.delitem(sys.modules, module)  # imported anew, without the package
    without(package)
    with pytest.raises(InputError, match=rf'pip install "ebm-control\[{extra}\]"$'):
        make_env(name)


def test_the_command_line_says_so_in_one_line(without, tmp_path, capfd):
    without("minari")
    line = refused(["train", "--data", "one/data-v0", "--out", str(tmp_path / "run")], capfd)
    assert line.endswith('pip install "ebm-control[minari]"')


def test_without_tensorboard_training_goes_on_and_says_so_once(without, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Logger, "_said_missing", False)
    without("tensorboard")
    for name in ("base", "model"):
        with Logger(tmp_path / name, progress=False) as logger:
            logger.start(1, name=name)
            logger.metrics(1, {"loss": 1.0})
    lines = "".join(capsys.readouterr()).strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("TensorBoard events, which are left out: ")
    assert lines[0].endswith('pip install "ebm-control[plots]"')
    assert not list(tmp_path.iterdir())


def test_an_import_that_fails_for_another_reason_is_not_called_a_missing_extra(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import a_package_that_is_nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_nowhere") as caught:
        import_extra("broken_package", "images", "a test")
    assert not isinstance(caught.value, MissingExtraError)


IMPORTS = """
import sys
for package in sys.argv[1:]:
    sys.modules[package] = None
import ebm_control
assert "torch" not in sys.modules, "torch is imported before anything needs it"
for name in ebm_control.__all__:
    getattr(ebm_control, name)
import ebm_control.baselines, ebm_control.continual.figures, ebm_control.images.grid, ebm_control.online
from ebm_control.cli import main
main(["collect", "--env", "ebm/Particle-v0", "--steps", "50", "--out", "data.npz"])
"""


def run(arguments, folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


@pytest.mark.slow
def test_all_modules_import_and_collect_without_any_optional_package(tmp_path):
    done = run(["-c", IMPORTS, *PACKAGES], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data.npz").exists()


@pytest.mark.slow
def test_python_m_prints_the_version_of_the_installed_package(tmp_path):
    done = run(["-m", "ebm_control", "--version"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ebm-control {ebm_control.__version__}\n"


def test_the_version_is_the_one_of_the_project_file():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    installed = importlib.metadata.version("ebm-control")
    assert ebm_control.__version__ == installed
    assert f'version = "{installed}"' in text


def test_the_names_that_load_on_first_use_are_those_type_checkers_see():
    tree = ast.parse(Path(ebm_control.__file__).read_text())
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ebm_control."):
            found |= {alias.name: importlib.import_module(node.module) for alias in node.names}
    assert sorted(found) == sorted(ebm_control.__all__)
    assert all(getattr(ebm_control, name) is getattr(module, name) for name, module in found.items())
    assert set(ebm_control.__all__) <= set(dir(ebm_control))
    with pytest.raises(AttributeError, match="nothing_like_it"):
        ebm_control.nothing_like_it  # noqa: B018


@pytest.mark.slow
def test_drawing_figures_leaves_the_backend_of_matplotlib_alone(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = matplotlib.rcParams._get("backend")
    draw_accuracies(tmp_path / "a.png", {"one": np.eye(2)})
    assert matplotlib.rcParams._get("backend") == before
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_importing_the_package_registers_its_environments_and_loads_no_torch():
    code = (
        "import sys, ebm_control, gymnasium; gymnasium.spec('ebm/Reacher-v0'); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
