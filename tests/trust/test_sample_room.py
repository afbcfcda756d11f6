"""On the sample room with inconsistent predictions: the worklist finds what is wrong, calibration holds elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jobs.cli import main
from pipeline.evaluation.label_space import label_space
from pipeline.evaluation.scene_data import truth_ids
from pipeline.evaluation.spoil import spoil_room
from pipeline.readers import load_scene, open_dataset
from pipeline.run import run_labeling
from pipeline.store import decode_confidence, decode_label_map, read_labels
from pipeline.trust.regions import suspect_regions
from pipeline.trust.worklist import Worklist, worklist
from schemas.config import ReaderConfig, parse_config
from schemas.errors import DatasetError
from schemas.label_sets import label_set

pytestmark = pytest.mark.slow
DRAWS = 50
PAGE = Path(__file__).parents[2] / "docs" / "trust.md"


@pytest.fixture(scope="module")
def store(sample_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inconsistent predictions, lifted with depth."""
    folder = tmp_path_factory.mktemp("trust")
    operator = {"spec": f"precomputed:{spoil_room(sample_room, folder / 'noisy')}", "kwargs": {"label_set": "nyu40"}}
    values = {"source": str(sample_room), "store": str(folder / "labels"), "operator": operator}
    run_labeling(parse_config({**values, "engine": {"kind": "local"}, "lift": {"method": "depth"}}))
    return folder / "labels"


@pytest.fixture(scope="module")
def wrong(store: Path, sample_room: Path) -> dict[str, np.ndarray]:
    """[H, W] whether a labelled pixel is wrong, by frame."""
    reader = ReaderConfig()
    space = label_space(label_set("nyu40"), label_set("nyu40"))
    (ref,) = open_dataset(str(sample_room), reader)
    found = {}
    rows = {row["frame"]: row for row in read_labels(str(store)).to_dict("records")}
    for frame in load_scene(ref, reader).frames:
        truth = truth_ids(ref.id, frame, reader)
        found[frame.id] = (decode_label_map(rows[frame.id]) != truth) & (space.truth(truth) < len(space.labels.ids))
    return found


def masks(store: Path, found: Worklist) -> list[tuple[str, np.ndarray]]:
    """Frame and [H, W] mask of each region of the list."""
    rows = {row["frame"]: row for row in read_labels(str(store)).to_dict("records")}
    out = []
    for item in found.regions:
        row = rows[item.frame]
        labels = decode_label_map(row)
        regions = suspect_regions((item.scene, item.frame), labels, decode_confidence(row), item.used_by)
        (region,) = [r for r in regions if (r.class_id, r.box) == (item.class_id, item.box)]
        mask = np.zeros(labels.size, bool)
        mask[region.pixels] = True
        out.append((item.frame, mask.reshape(labels.shape)))
    return out


def test_what_is_listed_is_wrong_far_more_often_than_the_same_shapes_elsewhere(
    store: Path, wrong: dict[str, np.ndarray]
) -> None:
    listed = masks(store, worklist(str(store), top=20))
    area = sum(int(mask.sum()) for _, mask in listed)
    gained = sum(int((wrong[frame] & mask).sum()) for frame, mask in listed)
    rng = np.random.default_rng(0)
    frames = sorted(wrong)
    chance = [
        sum(
            int(
                (wrong[frames[rng.integers(len(frames))]] & np.roll(mask, tuple(rng.integers(0, 200, 2)), (0, 1))).sum()
            )
            for _, mask in listed
        )
        for _ in range(DRAWS)
    ]
    print(f"{area} px in 20 regions: {gained} wrong; by chance {np.mean(chance):.0f}, at best {max(chance)}")
    assert gained > 0.5 * area
    assert gained > 3 * max(chance)


def test_the_frames_on_top_hold_more_wrong_pixels_than_others(store: Path, wrong: dict[str, np.ndarray]) -> None:
    found = worklist(str(store), top=24).frames
    held = [int(wrong[item.frame].sum()) for item in found]
    print(
        f"wrong pixels of the first 3 frames {np.mean(held[:3]):.0f}, first 6 {np.mean(held[:6]):.0f}, "
        f"of any {np.mean(held):.0f}, of the worst 6 {np.mean(sorted(held)[-6:]):.0f}"
    )
    assert len(held) == 24
    assert np.mean(held[:6]) > 1.3 * np.mean(held)


def test_with_depth_a_surface_is_listed_once(store: Path, sample_room: Path) -> None:
    apart, folded = (worklist(str(store), top=1000, source=source) for source in (None, str(sample_room)))
    shown = sum(len(item.also_in) for item in folded.regions)
    assert 0 < len(folded.regions) < len(apart.regions)
    assert shown
    assert not any(item.also_in for item in apart.regions)
    assert all(item.frame not in item.also_in for item in folded.regions)


def test_a_source_of_another_size_is_an_error(store: Path, sample_room: Path, tmp_path: Path) -> None:
    scene = tmp_path / "scene9002_00"
    shutil.copytree(sample_room / scene.name, scene)
    path = next((scene / "color").glob("*"))
    cv2.imwrite(str(path), cv2.imread(str(path))[::2, ::2])
    with pytest.raises(DatasetError, match="labelled"):
        worklist(str(store), source=str(tmp_path))


def test_the_commands(store: Path, sample_room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "calibration.json"
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", str(store), "--gt", str(sample_room), "--out", str(document)])
    assert not ended.value.code
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(document.read_text())
    assert told["fitted_on"] == told["measured_on"] == {"scene9002_00": 12}
    assert told["ece_after"] < 0.02
    with pytest.raises(SystemExit) as ended:
        main(["worklist", str(store), "--calibration", str(document), "--top", "3", "--json"])
    assert not ended.value.code
    listed = json.loads(capsys.readouterr().out)
    assert len(listed["regions"]) == len(listed["frames"]) == 3
    assert listed["expected_wrong"] != pytest.approx(worklist(str(store)).expected_wrong)


def test_the_page_runs(store: Path, sample_room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "out" / "labels").symlink_to(store)
    (tmp_path / "data" / "scans").symlink_to(sample_room)
    text = PAGE.read_text(encoding="utf-8")
    for line in re.findall(r"^lift3d .*$", text, re.MULTILINE):
        with pytest.raises(SystemExit) as ended:
            main(line.partition("#")[0].split()[1:])
        assert not ended.value.code
    calibration, contradictions = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    trusted: dict[str, Any] = {}
    masked: dict[str, Any] = {}
    exec(compile(calibration, PAGE.name, "exec"), trusted)
    exec(compile(contradictions, PAGE.name, "exec"), masked)
    assert len(trusted["chance_right"]) == 24
    assert 0 < masked["mask"].mean() < 0.1
