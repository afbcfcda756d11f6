"""`lift3d benchmark operators`: a room through `label`, raw and lifted, scored, resumed and put into one table."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.benchmark import operator_table
from pipeline.benchmark.operator_scores import feature_scores
from pipeline.benchmark.operator_table import LIFTED, RAW, Entry, OperatorOptions, benchmark_operators
from pipeline.evaluation.correspondence import View
from schemas.camera import Camera
from schemas.errors import ConfigError

NOISE = '''
import torch
class Noise:
    """Colours with an error of every view's own."""
    name, stride, kind, label_set = "noise", 2, "image", None
    def encode(self, batch):
        small = torch.nn.functional.avg_pool2d(batch.images, 2)
        seeds = [torch.Generator().manual_seed(sum(map(ord, frame))) for frame in batch.frames]
        spoiled = [(0.5 * s + 0.5 * torch.rand(s.shape, generator=g)) for s, g in zip(small, seeds)]
        return torch.stack(spoiled)
    def decode(self, features, size):
        return torch.nn.functional.interpolate(features, scale_factor=2)[..., :size[0], :size[1]].clamp(0, 1)
    def fingerprint(self):
        return "noise"
'''


FRAMES = 10


@pytest.fixture
def few_views(sample_room: Path, tmp_path: Path) -> Path:
    """The sample room's first views."""
    (scene,) = sample_room.glob("scene*")
    for source in scene.rglob("*"):
        if source.is_file() and (not source.stem.isdigit() or int(source.stem) < FRAMES):
            target = tmp_path / "few" / source.relative_to(sample_room)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return tmp_path / "few"


@pytest.mark.slow
def test_a_room_through_label_raw_and_lifted(few_views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spoiled").mkdir()
    (tmp_path / "spoiled" / "noise.py").write_text(NOISE)
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = (Entry("noise", "spoiled.noise:Noise"), Entry("brought", "style:{weights}/none.bin"))
    monkeypatch.setattr(operator_table, "ENTRIES", entries)
    document = tmp_path / "page.md"
    with pytest.raises(ConfigError, match="cannot be read"):
        benchmark_operators([str(few_views)], tmp_path / "out", OperatorOptions(), document=document)
    document.write_text(
        "<!-- benchmark operators: written by the tool, do not edit -->\n<!-- end of benchmark operators -->"
    )
    options = OperatorOptions(sources=4)
    (table,) = benchmark_operators([str(few_views)], tmp_path / "out", options, document=document)
    rows = {(row[0], row[1]): row for row in table.rows}
    long_range = rows["noise", "long-range warping RMSE"]
    assert float(str(long_range[4])) < 0.8
    assert any("name its folder" in str(row[1]) for row in table.rows if row[0] == "brought")
    assert "long-range warping RMSE" in document.read_text()
    stores = tmp_path / "out" / "stores" / few_views.name
    written = {path: path.stat().st_mtime_ns for what in (RAW, LIFTED) for path in (stores / what).rglob("*.parquet")}
    assert len({path.parts[-5] for path in written}) == 2
    benchmark_operators([str(few_views)], tmp_path / "out", options)
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())


def test_an_operator_that_is_not_in_the_table_is_refused() -> None:
    assert [entry.title for entry in OperatorOptions(("HED edges",)).entries()] == ["HED edges"]
    with pytest.raises(ConfigError, match="it has indoor, DeepLab VOC"):
        OperatorOptions(("Edges",)).entries()


def test_features_agree_where_they_are_the_surfaces(tmp_path: Path) -> None:
    K = np.array([[20.0, 0, 12], [0, 20.0, 8], [0, 0, 1]])
    views = []
    for step in range(2):
        pose = np.eye(4)
        pose[0, 3] = step * 0.4
        views.append(View(Camera(K, pose, 16, 24), np.full((16, 24), 2.0, np.float32)))
    rng = np.random.default_rng(0)
    wall = rng.normal(size=(5, 8, 14)).astype(np.float32)
    same = [wall[:, :, 2 * step : 2 * step + 12] for step in range(2)]
    other = [rng.normal(size=(5, 8, 12)).astype(np.float32) for _ in range(2)]
    assert feature_scores(views, same, 2)["consistency"] > 0.95
    assert feature_scores(views, other, 2)["consistency"] < 0.2
