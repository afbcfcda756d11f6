"""Fixtures for every test: the sample room that the project ships, and quiet, small computations."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that runs the tests in the background sees to that
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pipeline.testing"]
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


@pytest.fixture(scope="session")
def importable(tmp_path_factory) -> Iterator[Path]:
    """A folder that this process, and every process of a cluster that it starts, imports modules from."""
    folder = tmp_path_factory.mktemp("importable")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def cluster(importable: Path) -> Iterator[None]:
    """One private Ray cluster with two CPUs for every test that asks for it."""
    from pipeline.ray_compat import ray_session

    with ray_session(cpus=2):
        yield
