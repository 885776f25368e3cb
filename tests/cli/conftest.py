"""What commands leave behind that other commands go on from, made once."""

import pytest

from ebm_control.cli import main
from tests.cli.helpers import SMALL


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Folder with data and a trained model of Particle, and a conditional model of digits, hardly trained."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(folder / "data" / "data.npz")
    main(["collect", "--env", "ebm/Particle-v0", "--steps", "600", "--out", data])
    main(["train", "--data", data, "--out", str(folder / "train"), *SMALL])
    main(["images", "train", "--out", str(folder / "digits"), "--train.updates", "1", "--train.batch-size", "8",
          "--train.model.width", "4", "--train.model.conditional"])  # fmt: skip
    return folder
