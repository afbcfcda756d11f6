"""Fixtures for every test: the sample room that the project ships, and quiet, small computations."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def sample_room() -> Path:
    """The dataset in examples/: one room, 24 views of 320x240, ScanNet layout, exact ground truth."""
    return ROOT / "examples" / "sample_room"


@pytest.fixture(scope="session")
def predictions(sample_room, tmp_path_factory) -> Path:
    """The sample room's ground truth as predictions in the layout of `precomputed`: DIR/{scene}/{frame}.png."""
    folder = tmp_path_factory.mktemp("predictions")
    (folder / "scene9002_00").mkdir()
    for path in sorted((sample_room / "scene9002_00" / "label-filt").glob("*.png")):
        shutil.copy(path, folder / "scene9002_00")
    return folder
