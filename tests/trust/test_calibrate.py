"""Which frames are fitted on, and documents that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.trust.calibrate import Calibration, read_calibration, split, write_calibration
from schemas.errors import ConfigError


def document(**changes: object) -> Calibration:
    values = {
        "operator": "indoor",
        "temperature": 1.5,
        "fitted_on": {"a": 2},
        "measured_on": {"b": 2},
        "pixels": 10,
        "accuracy": 0.9,
        "ece_before": 0.1,
        "ece_after": 0.05,
        "auroc": None,
    }
    return Calibration.model_validate({**values, **changes})


def test_what_is_measured_was_never_fitted_on() -> None:
    scenes = [(scene, str(frame)) for scene in "abc" for frame in range(3)]
    fitted, measured = split(scenes)
    assert {scene for scene, _ in fitted} == {"a", "c"}
    assert {scene for scene, _ in measured} == {"b"}
    fitted, measured = split([("a", str(frame)) for frame in range(5)])
    assert [frame for _, frame in fitted] == ["0", "1"]
    assert [frame for _, frame in measured] == ["2", "3", "4"]


def test_a_document_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "calibration.json"
    write_calibration(document(), path)
    assert read_calibration(path, "indoor") == document()
    with pytest.raises(ConfigError, match=r"operator 'indoor', expected 'dino'.*calibrate this operator"):
        read_calibration(path, "dino")


@pytest.mark.parametrize("text", [None, "", "[]", '{"temperature": 0}', "{nonsense"])
def test_what_is_no_document_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "calibration.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="is no calibration document.*lift3d calibrate"):
        read_calibration(path, "indoor")


def test_a_document_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_calibration(document(), tmp_path)
