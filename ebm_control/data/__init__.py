"""Data: normalisation, rollout buffers, collection from environments, data sets of others, image sets."""

from ebm_control.data.adapt import FlatEnv, adapt
from ebm_control.data.batch import Batch
from ebm_control.data.collect import collect
from ebm_control.data.dataset_info import DatasetInfo
from ebm_control.data.forms import FlatForm
from ebm_control.data.images import ImageBatches, ImageSet, load_images
from ebm_control.data.minari_io import from_minari, to_minari
from ebm_control.data.mujoco_rollout import collect_mujoco
from ebm_control.data.mujoco_simulator import MujocoSimulator
from ebm_control.data.normalizer import Normalizer
from ebm_control.data.readers import read
from ebm_control.data.rollout_buffer import Episode, RolloutBuffer
from ebm_control.data.shapes import Shapes, draw_shapes
from ebm_control.data.split import split
from ebm_control.data.streams import TaskStream, permuted_stream, split_stream
from ebm_control.data.windows import WindowBatches, window_batches

__all__ = [
    "Batch",
    "DatasetInfo",
    "Episode",
    "FlatEnv",
    "FlatForm",
    "ImageBatches",
    "ImageSet",
    "MujocoSimulator",
    "Normalizer",
    "RolloutBuffer",
    "Shapes",
    "TaskStream",
    "WindowBatches",
    "adapt",
    "collect",
    "collect_mujoco",
    "draw_shapes",
    "from_minari",
    "load_images",
    "permuted_stream",
    "read",
    "split",
    "split_stream",
    "to_minari",
    "window_batches",
]
