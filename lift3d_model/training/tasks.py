"""The tasks by name, and a checkpoint from what they learned."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lift3d_model.checkpoint import Checkpoint, read_tensors
from lift3d_model.training.depth_task import DepthTask
from lift3d_model.training.loop import BEST
from lift3d_model.training.scenes import CachedScene
from lift3d_model.training.task import Task
from lift3d_model.training.weighting_task import WeightingTask

Build = Callable[[Sequence[CachedScene], Sequence[CachedScene], torch.device], Task]

TASKS: Mapping[str, Build] = {"refiner": DepthTask, "weighting": WeightingTask}
"""Each builds a task from the training and the held-out part of the data, and a device."""


def collect(out: Path) -> Checkpoint:
    """One checkpoint of the best weights of every part that was ever trained in OUT."""
    tensors: dict[str, Tensor] = {}
    config = {}
    for name in TASKS:
        if (out / name / BEST).exists():
            weights, about = read_tensors((out / name / BEST).read_bytes())
            tensors |= {f"{name}.{key}": value for key, value in weights.items()}
            config[name] = json.loads(about.get("config", "{}"))
    return Checkpoint(tensors, config)
