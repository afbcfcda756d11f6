"""The examples of the operators' pages run as they are printed, and the figures are those of the shipped head."""

import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from pipeline.operators import build_operator
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.indoor import head_card
from pipeline.run import run_labeling
from schemas.config import EngineConfig, LabelingConfig, LiftConfig, OperatorConfig

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "operators.md").read_text(encoding="utf-8")
FEATURES = (DOCS / "features.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example's code as an importable module; returns its SPEC."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_operators").mkdir()
    (tmp_path / "my_operators" / "brightness.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_operators", "my_operators.brightness"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert len(code.split("class ")[1].splitlines()) < 30
    return "my_operators.brightness:Brightness"


def test_the_example_keeps_the_contract(example: str, make_batch: Any) -> None:
    operator = build_operator(example)
    images = torch.cat([torch.full((1, 3, 20, 13), value) for value in (0.1, 0.4, 0.9)], dim=3)
    batch = make_batch(images)
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    scores = operator.decode(features, (20, 39))
    check_decoded(operator, scores, (20, 39), 1)
    assert scores[0, :, 10].argmax(0)[[2, 19, 36]].tolist() == [0, 0, 1]
    assert build_operator(example, {"centres": [0.1, 0.2]}).fingerprint() != operator.fingerprint()


def test_the_table_is_the_card() -> None:
    for name, measured in head_card()["measured"].items():
        assert f"| {name} | {measured['miou']:.3f} | {measured['accuracy']:.3f} |" in TEXT


@pytest.mark.slow
def test_the_picture_of_features_is_drawn_as_its_page_says(
    sample_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's code, on coarse features: one store stands for all three."""
    code = re.findall(r"```python\n(.*?)```", FEATURES, re.DOTALL)[0]
    (tmp_path / "examples").symlink_to(sample_room.parent)
    operator = OperatorConfig(spec="efficientnet", kwargs={"stride": 32})
    config = LabelingConfig(
        source=str(sample_room),
        store=str(tmp_path / "out" / "none"),
        operator=operator,
        lift=LiftConfig(method="none"),
        engine=EngineConfig(kind="local"),
    )
    run_labeling(config)
    for way in ("auto", "rgb"):
        shutil.copytree(tmp_path / "out" / "none", tmp_path / "out" / way)
    (tmp_path / "picture.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("picture.py")
    picture = cv2.imread("features.jpg")
    assert picture is not None and picture.shape == (720, 1280, 3)
