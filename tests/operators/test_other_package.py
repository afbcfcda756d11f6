"""An operator in a package of its own: a real wheel, found by its entry point, in processes of their own."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "grey-models"
version = "1.2"

[project.entry-points."lift3d.operators"]
shade = "grey_models.shade:Shade"

[tool.setuptools]
packages = ["grey_models"]
"""
MODULE = '''
from torch.nn.functional import avg_pool2d

from pipeline.operators.grid import pad_to_stride, upsample


class Shade:
    """How dark 8 x 8 pixels are."""

    name, stride, kind, label_set = "shade", 8, "scalar", None

    def __init__(self, gain="1.0"):
        self.gain = float(gain)

    def encode(self, batch):
        return 1 - avg_pool2d(pad_to_stride(batch.images, 8), 8).mean(1, keepdim=True) * self.gain

    def decode(self, features, size):
        return upsample(features, 8, size)

    def fingerprint(self):
        return f"shade {self.gain}"
'''

pytestmark = pytest.mark.slow


@pytest.fixture
def lift3d(tmp_path):
    """`lift3d(*arguments)` in a process that has the wheel installed: exit code, stdout, stderr."""
    source, wheels, site = (tmp_path / name for name in ("source", "wheels", "site"))
    for folder in (source / "grey_models", wheels):
        folder.mkdir(parents=True)
    (source / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (source / "grey_models" / "__init__.py").write_text('"""Operators."""\n', encoding="utf-8")
    (source / "grey_models" / "shade.py").write_text(MODULE, encoding="utf-8")
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(wheels)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:  # a wheel is installed by unpacking it
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}

    def run(*arguments):
        command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_wheel_with_an_operator_is_found_checked_labels_and_resumes(lift3d, sample_room, tmp_path):
    code, out, _ = lift3d("operators", "--json")
    (ours,) = (info for info in json.loads(out) if info["name"] == "shade")
    assert code == 0
    assert "grey_models.shade:Shade" in ours["summary"]
    assert ours["needs"] == "grey-models"

    code, out, err = lift3d("operators", "check", "shade", "--vary", 'gain="0.5"')
    assert code == 0, out + err

    run = ("label", sample_room, "--store", tmp_path / "store", "--engine", "local", "--operator")
    labelled, resumed, changed = (lift3d(*run, spec) for spec in ("shade", "shade", "shade:0.5"))
    counts = [json.loads(out.splitlines()[-1]) for _, out, _ in (labelled, resumed, changed)]
    assert [(one["frames_labelled"], one["frames_resumed"]) for one in counts] == [(24, 0), (0, 24), (24, 0)]
