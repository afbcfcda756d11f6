"""The example of docs/operators.md runs as it is printed, and the measured figures are those of the shipped head."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.operators import build_operator
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.indoor import head_card

TEXT = (Path(__file__).parents[2] / "docs" / "operators.md").read_text(encoding="utf-8")


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
