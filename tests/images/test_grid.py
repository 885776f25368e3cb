"""Pages of images are written from memory: a disk that is full is one error, and no second one later."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from ebm_control.cli.figures import animation
from ebm_control.images.grid import grid, save_grid
from tests.helpers import Forked

pytestmark = pytest.mark.slow

IMAGES = torch.linspace(0, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)


@pytest.mark.parametrize("name", ["page.png", "page.tiff", "page.bmp"])
def test_the_page_that_is_written_is_the_grid(tmp_path, name):
    path = save_grid(tmp_path / "new" / name, IMAGES, 2)
    assert np.array_equal(iio.imread(path), grid(IMAGES, 2, scale=2).numpy())


def test_frames_are_written_one_after_the_other(tmp_path):
    frames = [np.full((8, 8, 3), shade, np.uint8) for shade in (0, 90, 255)]
    read = iio.imread(animation(tmp_path / "episode.gif", frames, fps=10))
    assert [int(frame.mean()) for frame in read] == [0, 90, 255]
    assert iio.immeta(tmp_path / "episode.gif")["duration"] == 100


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import torch
from ebm_control.cli.figures import animation
from ebm_control.images.grid import save_grid
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rng = np.random.default_rng(0)
noise = torch.rand(64, 3, 32, 32)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for write in (
    lambda: save_grid(sys.argv[1] + "/page.png", noise, 8),
    lambda: save_grid(sys.argv[1] + "/page.tiff", noise, 8),
    lambda: animation(Path(sys.argv[1]) / "episode.gif", [rng.integers(0, 256, (99, 99, 3), np.uint8)] * 2),
):
    try:
        write()
    except OSError as error:
        print(error.errno)
"""


def test_where_the_disk_is_full_there_is_one_error_and_no_second_one(tmp_path):
    run = Forked(FULL, str(tmp_path))
    said, complained = run.communicate()
    assert run.returncode == 0
    assert said.split() == ["27"] * 3  # EFBIG
    assert complained == ""
