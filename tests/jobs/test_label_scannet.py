"""The script as people run it: from a bare checkout, and submitted to a Ray cluster."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("jobs", "lift3d_model", "pipeline", "schemas")


@pytest.fixture
def options(sample_room, predictions):
    """Source and operator options of a small run."""
    spec = f"precomputed:{predictions}"
    more = ["--set", "operator.kwargs.label_set=nyu40", "--set", "plan.chunk=12", "--lift", "none"]
    return [str(sample_room), "--operator", spec, *more]


@pytest.fixture
def bare_checkout(tmp_path):
    """The four packages copied somewhere else; nothing of them is installed or on the path there."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "checkout" / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "checkout"


def _run(*command, cwd, env=None):
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=110, check=False
    )


def _foreign_environment():
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_runs_by_path_from_a_bare_checkout_and_any_folder(bare_checkout, options, tmp_path):
    store = tmp_path / "labels"
    script = bare_checkout / "jobs" / "label_scannet.py"
    command = [sys.executable, script, *options, "--store", store, "--engine", "local"]
    done = _run(*command, cwd=tmp_path, env=_foreign_environment())
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["frames_labelled"], summary["frames_quarantined"], summary["store"]) == (24, 0, str(store))
    assert len(pd.read_parquet(store / "labels")) == 24


def test_a_foreign_package_of_our_name_is_reported_at_once(bare_checkout, options, tmp_path):
    shutil.rmtree(bare_checkout / "pipeline")
    (tmp_path / "foreign" / "pipeline").mkdir(parents=True)
    (tmp_path / "foreign" / "pipeline" / "__init__.py").write_text("")
    env = {**_foreign_environment(), "PYTHONPATH": str(tmp_path / "foreign")}
    done = _run(sys.executable, bare_checkout / "jobs" / "label_scannet.py", *options, cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert f"package 'pipeline' is {tmp_path / 'foreign' / 'pipeline'}, expected Lift3D's" in done.stderr


def _submit(head, *entrypoint):
    command = [Path(sys.executable).parent / "ray", "job", "submit", "--address", head.address, "--working-dir", "."]
    return _run(*command, "--", *entrypoint, cwd=ROOT, env=head.env)


@pytest.mark.ray
def test_a_submitted_job_labels_into_the_store(ray_head, options, tmp_path):
    store = tmp_path / "labels"
    done = _submit(ray_head, "python", "jobs/label_scannet.py", *options, "--store", store)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = pd.read_parquet(store / "labels")
    assert sorted(rows["frame"], key=int) == [str(frame) for frame in range(24)]
    assert set(rows["lift_mode"]) == {"none"}


@pytest.mark.ray
def test_a_job_submitted_by_the_scripts_path_alone_refuses_a_store_that_would_vanish(ray_head, options):
    done = _submit(ray_head, "jobs/label_scannet.py", *options, "--store", "out/labels")
    assert done.returncode == 1
    assert "error: store 'out/labels' " in done.stdout
    assert "is a relative path in a submitted Ray job" in done.stdout
    assert "Traceback" not in done.stdout
