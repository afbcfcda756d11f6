"""`lift3d train` from a dataset to a checkpoint that labelling takes, and from a cache with little installed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from lift3d_model.checkpoint import Checkpoint
from lift3d_model.weighting import load_weighting
from pipeline.lift_weights import load_weights
from pipeline.training.config import DataConfig, parse_training
from pipeline.training.prepare import trained_views
from pipeline.training.train import train
from schemas.config import LiftConfig
from schemas.errors import ConfigError, MissingWeightsError, UnknownNameError

ROOT = Path(__file__).parents[2]
SCENE, VIEWS = "scene9002_00", 8
OPERATOR = """
import torch
class Mean:
    name, stride, kind, label_set = "mean", 8, "features", None
    def encode(self, batch):
        return torch.nn.functional.avg_pool2d(batch.images, 8, ceil_mode=True)
    def decode(self, features, size):
        return features
    def fingerprint(self):
        return "mean"
"""


@pytest.fixture
def values(sample_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A training config: eight views of the sample room at 64 x 48 pixels, one cheap operator, four steps."""
    room = tmp_path / "rooms" / SCENE
    shutil.copytree(sample_room / SCENE / "intrinsic", room / "intrinsic")
    for folder, suffix in (("color", "jpg"), ("depth", "png"), ("pose", "txt")):
        (room / folder).mkdir()
        for view in range(VIEWS):
            shutil.copy(sample_room / SCENE / folder / f"{view}.{suffix}", room / folder)
    (tmp_path / "mean_operator").mkdir()
    (tmp_path / "mean_operator" / "mean.py").write_text(OPERATOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("mean_operator", "mean_operator.mean"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    data = {"pixels": 64 * 48, "features": {"mean": {"spec": "mean_operator.mean:Mean"}}, "sources": 6}
    fit = {"steps": 4, "report": 1, "validate_every": 4}
    return {
        "source": [str(tmp_path / "rooms")],
        "out": str(tmp_path / "out"),
        "data": data,
        "fit": fit,
        "device": "cpu",
    }


def test_from_a_dataset_to_a_checkpoint(values: dict[str, Any]) -> None:
    out = Path(values["out"])
    card = train(parse_training({**values, "parts": ["weighting"]}))
    scene = out / "cache" / SCENE
    assert np.load(scene / "images.npy").shape == (VIEWS, 3, 48, 64)
    assert np.load(scene / "swept.npy").shape == (VIEWS, 2, 48, 64)
    assert np.load(scene / "features_mean.npy").shape == (VIEWS, 3, 6, 8)
    assert json.loads((out / "cache" / "split.json").read_text()) == {SCENE: 6}
    assert card["parts"]["weighting"]["held_out"]["untrained"]["score:values."] > 0
    assert json.loads((out / "lift3d.json").read_text()) == card
    picture = cv2.imread(str(out / "lift3d.png"))
    assert picture is not None and picture.std() > 10
    checkpoint, digest = load_weights(LiftConfig(weights=str(out / "lift3d.safetensors")))
    assert digest == card["sha256"]
    assert checkpoint is not None and checkpoint.group("weighting")
    assert list(card["parts"]) == ["weighting"]
    stamps = {path: path.stat().st_mtime_ns for path in scene.glob("*.npy")}
    assert train(parse_training({**values, "parts": ["weighting"]})) == card
    assert {path: path.stat().st_mtime_ns for path in scene.glob("*.npy")} == stamps
    _train_elsewhere(out)


def _train_elsewhere(out: Path) -> None:
    """The same cache in a process that refuses everything but the standard library, torch and numpy."""
    script = (
        "import sys, runpy\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('cv2', 'pydantic', 'schemas', 'pipeline', 'safetensors', 'ray'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "runpy.run_module('lift3d_model.training', run_name='__main__')\n"
    )
    arguments = [str(out / "cache"), str(out / "elsewhere"), "--steps", "3", "--parts", "weighting", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    checkpoint = Checkpoint.from_bytes((out / "elsewhere" / "lift3d.safetensors").read_bytes())
    load_weighting(checkpoint.group("weighting"))
    assert "validation at step 3" in done.stderr


def test_mistakes_are_named(values: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError, match=r"no part 'wieghting'.*weighting"):
        train(parse_training({**values, "parts": ["wieghting"]}))
    with pytest.raises(ConfigError, match=r"fit.stepps"):
        parse_training({**values, "fit": {"stepps": 3}})
    with pytest.raises(ConfigError, match=r"steps"):
        parse_training({**values, "part": {"weighting": {"steps": 0}}})


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "nothing that can be read"), (b"PK\x03\x04 no checkpoint", "do not begin like one"), (b"", "0 bytes")],
)
def test_a_bad_checkpoint_is_named_with_what_was_found(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MissingWeightsError, match=rf"bad.safetensors.*expected.*{found}.*lift3d train"):
        load_weights(LiftConfig(weights=str(path)))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(Checkpoint({"weighting.values.dissent": torch.zeros(2)}).to_bytes())
    with pytest.raises(MissingWeightsError, match=r"other.safetensors.*expected curves.*found"):
        load_weights(LiftConfig(weights=str(path)))
    assert load_weights(LiftConfig(weights="none")) == (None, None)
    assert load_weights(LiftConfig(method="none", weights=str(path))) == (None, None)


def test_the_split() -> None:
    data = DataConfig()
    assert [trained_views(n, 20, 32, data) for n in (0, 15, 16, 19)] == [32, 32, 0, 0]
    assert trained_views(0, 1, 60, data) == 45
