"""From a dataset on disk over labelled stores to an evaluation, with the real readers, store and engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.evaluation import evaluate
from pipeline.evaluation.baselines import z_test_vote
from pipeline.evaluation.correspondence import View
from pipeline.evaluation.metrics import confusion_matrix, mean_iou
from pipeline.run import run_labeling
from pipeline.store import read_labels
from schemas.camera import Camera
from schemas.config import parse_config
from schemas.errors import ConfigError, DatasetError, FrameError, StoreError

SCENE = "scene0000_00"
IDS = np.array([1, 2, 5, 7], np.uint8)


@pytest.fixture(scope="module")
def made(wall: Callable[..., tuple[list[View], np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset (`data`), predictions of it with one wrong view, and both raw and lifted labels."""
    root = tmp_path_factory.mktemp("evaluate")
    views, texture = wall(views=6, height=48, width=64, step=4)
    labels = IDS[texture].repeat(8, 1).repeat(8, 2)[:, :48, :64]
    labels = np.stack([np.roll(labels[0], -4 * k, axis=1) for k in range(6)])
    write_dataset(root / "data" / SCENE, views, labels)
    predicted = labels.copy()
    predicted[2] = 7
    predicted[4][:20] = 1
    (root / "predictions" / SCENE).mkdir(parents=True)
    for k, ids in enumerate(predicted):
        cv2.imwrite(str(root / "predictions" / SCENE / f"{k}.png"), ids)
    label(root, root / "lifted", "depth")
    return root


def write_dataset(folder: Path, views: list[View], labels: np.ndarray) -> None:
    """A scene in ScanNet's exported layout (pixel centres at integers, millimetres)."""
    for name in ("color", "depth", "label-filt", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True)
    K = np.eye(4)
    K[:3, :3] = views[0].camera.K
    K[:2, 2] -= 0.5
    for name in ("intrinsic_color", "intrinsic_depth"):
        np.savetxt(folder / "intrinsic" / f"{name}.txt", K)
    for k, (view, ids) in enumerate(zip(views, labels, strict=True)):
        cv2.imwrite(str(folder / f"color/{k}.jpg"), np.repeat(ids[..., None] * 30, 3, axis=2))
        cv2.imwrite(str(folder / f"depth/{k}.png"), (view.depth * 1000).astype(np.uint16))
        cv2.imwrite(str(folder / f"label-filt/{k}.png"), ids)
        np.savetxt(folder / f"pose/{k}.txt", view.camera.world_from_cam)


def label(root: Path, store: Path, method: str, label_set: str = "nyu40") -> None:
    run_labeling(
        parse_config(
            {
                "source": str(root / "data"),
                "store": str(store),
                "operator": {"spec": f"precomputed:{root / 'predictions'}", "kwargs": {"label_set": label_set}},
                "lift": {"method": method},
                "engine": {"kind": "local"},
            }
        )
    )


def copied(made: Path, tmp_path: Path) -> Path:
    """A dataset that a test may spoil."""
    shutil.copytree(made / "data", tmp_path / "data")
    return tmp_path / "data"


def ids_of(folder: Path) -> np.ndarray:
    return np.stack([cv2.imread(str(folder / f"{k}.png"), cv2.IMREAD_UNCHANGED) for k in range(6)])


def test_all_rows_are_there_and_made_on_the_fly(made: Path) -> None:
    result = evaluate(str(made / "lifted"), str(made / "data"))
    assert list(result.rows) == ["lifted", "raw", "nearest_view_warp", "z_test_voting"]
    assert result.raw_store == f"{made / 'lifted'}/_raw"
    assert result.frames == {SCENE: 6}
    lifted, raw = (result.rows[name].overall for name in ("lifted", "raw"))
    assert lifted.miou > raw.miou
    assert lifted.consistency > raw.consistency
    assert lifted.calibration_error is not None
    assert raw.calibration_error is None
    assert set(read_labels(str(made / "lifted"))["lift_mode"]) == {"depth-label"}


def test_the_rows_are_what_the_functions_say(made: Path) -> None:
    result = evaluate(str(made / "lifted"), str(made / "data"))
    truth, raw = ids_of(made / "data" / SCENE / "label-filt"), ids_of(made / "predictions" / SCENE)
    confusion = confusion_matrix(truth.ravel() - 1, raw.ravel() - 1, 40)
    assert result.rows["raw"].overall.miou == pytest.approx(mean_iou(confusion))
    poses = [np.loadtxt(made / "data" / SCENE / "pose" / f"{k}.txt") for k in range(6)]
    K = np.array([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]])
    views = [View(Camera(K, pose, 48, 64), np.full((48, 64), 2, np.float32)) for pose in poses]
    voted = np.stack(z_test_vote(views, raw - 1, 40))
    assert result.rows["z_test_voting"].overall.accuracy == pytest.approx((voted == truth - 1).mean())


def test_a_second_evaluation_finds_the_raw_labels_made(made: Path) -> None:
    first = evaluate(str(made / "lifted"), str(made / "data"))
    files = {path: path.stat().st_mtime_ns for path in (made / "lifted" / "_raw" / "labels").rglob("*.parquet")}
    assert evaluate(str(made / "lifted"), str(made / "data")) == first
    assert files == {path: path.stat().st_mtime_ns for path in (made / "lifted" / "_raw" / "labels").rglob("*.parquet")}


def test_a_raw_store_is_its_own_raw(made: Path, tmp_path: Path) -> None:
    label(made, tmp_path / "raw", "none")
    result = evaluate(str(tmp_path / "raw"), str(made / "data"))
    assert result.raw_store == str(tmp_path / "raw")
    assert result.rows["lifted"].overall.miou == result.rows["raw"].overall.miou
    assert evaluate(str(made / "lifted"), str(made / "data"), raw_store=str(tmp_path / "raw")).rows["raw"] is not None


def test_without_baselines_only_the_labels_are_scored(made: Path) -> None:
    result = evaluate(str(made / "lifted"), str(made / "data"), baselines=False)
    assert [name for name, row in result.rows.items() if row] == ["lifted"]
    assert result.raw_store is None


def test_without_depth_the_depth_baselines_are_null_with_a_note(made: Path, tmp_path: Path) -> None:
    data = copied(made, tmp_path)
    shutil.rmtree(data / SCENE / "depth")
    result = evaluate(str(made / "lifted"), str(data))
    assert [name for name, row in result.rows.items() if row] == ["lifted", "raw"]
    assert result.rows["lifted"].overall.consistency is None
    assert any("no depth in scene0000_00" in note for note in result.notes)


def test_classes_that_the_label_set_lacks_are_counted_and_not_scored(made: Path, tmp_path: Path) -> None:
    data = copied(made, tmp_path)
    ids = ids_of(data / SCENE / "label-filt")
    ids[:, :4] = 13
    for k, image in enumerate(ids):
        cv2.imwrite(str(data / SCENE / f"label-filt/{k}.png"), image)
    predictions = tmp_path / "predictions"
    shutil.copytree(made / "predictions", predictions)
    label(tmp_path, tmp_path / "store", "none", label_set="scannet20")
    result = evaluate(str(tmp_path / "store"), str(data))
    assert result.label_set == "scannet20"
    assert result.ignored_px == {"blinds": 6 * 4 * 64}
    assert any("blinds" in note for note in result.notes)
    assert result.rows["lifted"].overall.pixels == 6 * 44 * 64


def test_frames_that_the_dataset_lacks_are_left_out_and_said_so(made: Path, tmp_path: Path) -> None:
    data = copied(made, tmp_path)
    (data / SCENE / "color" / "5.jpg").unlink()
    result = evaluate(str(made / "lifted"), str(data))
    assert result.frames == {SCENE: 5}
    assert result.frames_left_out == {SCENE: 1}
    assert any("left out" in note for note in result.notes)


def test_missing_ground_truth_is_an_error_that_says_where(made: Path, tmp_path: Path) -> None:
    data = copied(made, tmp_path)
    shutil.rmtree(data / SCENE / "label-filt")
    with pytest.raises(DatasetError, match="no ground-truth labels for any of the 6 labelled frames"):
        evaluate(str(made / "lifted"), str(data))


def test_another_scene_is_an_error(made: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    copied(made, tmp_path / "other")
    (tmp_path / "other" / "data" / SCENE).rename(tmp_path / "other" / "data" / "scene0001_00")
    with pytest.raises(DatasetError, match="scene0000_00"):
        evaluate(str(made / "lifted"), str(tmp_path / "other" / "data"))


def test_a_broken_depth_map_is_reported_with_scene_and_frame(made: Path, tmp_path: Path) -> None:
    data = copied(made, tmp_path)
    (data / SCENE / "depth" / "3.png").write_bytes(b"not a picture")
    with pytest.raises(FrameError, match="scene 'scene0000_00', frame '3'"):
        evaluate(str(made / "lifted"), str(data))


def test_several_operators_need_a_choice(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "predictions", tmp_path / "predictions")
    (tmp_path / "data").symlink_to(made / "data")
    label(made, tmp_path / "both", "none")
    label(tmp_path, tmp_path / "both", "none")
    found = sorted(read_labels(str(tmp_path / "both"), columns=["frame"])["operator"].unique())
    with pytest.raises(ConfigError, match="of 2 operators"):
        evaluate(str(tmp_path / "both"), str(made / "data"))
    assert evaluate(str(tmp_path / "both"), str(made / "data"), operator=found[0]).operator == found[0]
    with pytest.raises(ConfigError, match="named 'nobody'"):
        evaluate(str(tmp_path / "both"), str(made / "data"), operator="nobody")


def test_raw_labels_of_another_label_set_are_refused(made: Path, tmp_path: Path) -> None:
    label(made, tmp_path / "raw", "none", label_set="scannet20")
    with pytest.raises(ConfigError, match="label set 'scannet20'"):
        evaluate(str(made / "lifted"), str(made / "data"), raw_store=str(tmp_path / "raw"))


def test_without_a_recorded_run_the_way_out_is_named(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "lifted", tmp_path / "store", ignore=shutil.ignore_patterns("_raw", "runs"))
    with pytest.raises(StoreError, match="--lift none"):
        evaluate(str(tmp_path / "store"), str(made / "data"))


def test_json_and_table_have_every_row(made: Path) -> None:
    result = evaluate(str(made / "lifted"), str(made / "data"))
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["rows"]["lifted"]["scenes"][SCENE]["miou"] == result.rows["lifted"].overall.miou
    assert document["boundary_tolerance_px"] == {"64x48": 1}
    table = result.table()
    assert all(name in table for name in result.rows)
    assert max(map(len, table.partition("\n\n")[0].splitlines())) < 120


def test_progress_is_reported(made: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(str(made / "lifted"), str(made / "data"), progress=lambda *step: seen.append(step))
    assert (f"{SCENE}: z-test voting", 6, 6) in seen
