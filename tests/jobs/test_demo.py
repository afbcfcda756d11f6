"""The demo: its labels are wrong as announced, and it does what its last line says, twice in a row."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.spoil import spoil, spoil_room

ROOT = Path(__file__).parents[2]


def _ids(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_spoiled_labels_are_wrong_by_nearly_a_third_and_always_the_same(sample_room, tmp_path):
    truth = sorted((sample_room / "scene9002_00" / "label-filt").glob("*.png"))
    first, second = (spoil_room(sample_room, tmp_path / name) / "scene9002_00" for name in ("first", "second"))
    wrong = [float((_ids(first / path.name) != _ids(path)).mean()) for path in truth]
    assert 0.2 < np.mean(wrong) < 0.4
    assert np.std(wrong) > 0.02, "every view is wrong in its own way"
    assert all((first / path.name).read_bytes() == (second / path.name).read_bytes() for path in truth)


def test_spoiling_invents_no_class():
    rng = np.random.default_rng(0)
    labels = rng.choice([3, 7, 40], size=(96, 128)).astype(np.int32)
    assert set(np.unique(spoil(labels, labels, rng))) <= {3, 7, 40}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_twice_and_lifting_repairs_what_was_spoiled(tmp_path):
    for labelled in (48, 0):
        command = [sys.executable, "jobs/demo.py", "--out", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"{labelled} labels to make" in done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert len(pd.read_parquet(Path(summary["store"]) / "labels")) == 48
    assert all(Path(summary[name]).stat().st_size > 10_000 for name in ("report", "picture"))
    for title in ("Inconsistent labels, lifted with depth", "Inconsistent labels, lifted from RGB alone"):
        scores = summary["scores"][title]
        assert scores["lifted"]["accuracy"] > scores["raw"]["accuracy"] + 0.05
        assert scores["lifted"]["consistency"] > scores["raw"]["consistency"] + 0.1
