"""ScanNet's exported folders."""

import shutil

import numpy as np
import pytest

from pipeline.readers.scannet import ScannetReader
from schemas.errors import DatasetError, Reason
from schemas.scene import SceneRef


@pytest.fixture
def scene(make, tmp_path):
    return make.write_scannet(tmp_path / "scene0000_00", make.make_views(12))


def load(root):
    return ScannetReader().load(SceneRef(root.name, str(root), "scannet"))


def test_frames_come_in_the_order_of_their_numbers(scene):
    assert [frame.id for frame in load(scene).frames] == [str(i) for i in range(12)]


def test_ids_are_file_stems_exactly(make, tmp_path):
    root = make.write_scannet(tmp_path / "s", make.make_views(1), suffix=".png")
    for folder, suffix in (("color", "png"), ("depth", "png"), ("pose", "txt"), ("label-filt", "png")):
        (root / folder / f"0.{suffix}").rename(root / folder / f"000.5_a.{suffix}")
    (frame,) = load(root).frames
    assert frame.id == "000.5_a"
    assert frame.depth
    assert frame.label


def test_a_scene_without_depth_has_images_only(make, tmp_path):
    frames = load(make.write_scannet(tmp_path / "s", make.make_views(2), depth=False, labels=False)).frames
    assert [(f.depth, f.depth_camera, f.label) for f in frames] == [(None, None, None)] * 2


def test_a_frame_without_depth_in_a_scene_with_depth_stays(scene):
    (scene / "depth" / "3.png").unlink()
    frames = load(scene).frames
    assert [f.id for f in frames if f.depth is None] == ["3"]
    assert frames[3].depth_camera is None
    assert frames[4].depth.shape == (12, 16)


def test_filtered_labels_come_first(scene):
    shutil.copytree(scene / "label-filt", scene / "label")
    assert "label-filt" in load(scene).frames[0].label.uri
    shutil.rmtree(scene / "label-filt")
    assert "/label/" in load(scene).frames[0].label.uri


def test_the_first_readable_image_gives_the_size(scene):
    (scene / "color" / "0.jpg").write_bytes(b"")
    (scene / "color" / "1.jpg").write_bytes(b"no picture")
    loaded = load(scene)
    assert (loaded.frames[0].id, loaded.frames[0].camera.height, loaded.frames[0].camera.width) == ("1", 24, 32)


@pytest.mark.parametrize("kind", ["color", "depth"])
@pytest.mark.parametrize("content", [None, "", "1 2 3", "0 " * 16, "nan " * 16, "\xff"])
def test_intrinsics_that_are_missing_or_wrong_name_the_file_and_the_remedy(scene, kind, content):
    file = scene / "intrinsic" / f"intrinsic_{kind}.txt"
    file.unlink()
    if content is not None:
        file.write_text(content, encoding="latin-1")
    with pytest.raises(DatasetError, match="--export_intrinsics") as caught:
        load(scene)
    assert str(file) in str(caught.value)
    assert "scene0000_00" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_scene_without_a_readable_image_says_so(scene, content):
    for file in (scene / "color").iterdir():
        file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(DatasetError, match="no image in .* can be read"):
        load(scene)


def test_poses_of_images_that_were_not_exported_are_issues(scene):
    (scene / "color" / "5.jpg").unlink()
    (issue,) = load(scene).issues
    assert (issue.frame, issue.reason) == ("5", Reason.IMAGE_MISSING)


def test_rounded_rotations_pass_as_they_are(scene, make):
    pose = np.eye(4)
    pose[:3, :3] = np.round(make.rotation(np.random.default_rng(1)), 4)
    (scene / "pose" / "0.txt").write_text(make.text(pose))
    assert np.array_equal(load(scene).frames[0].camera.world_from_cam, pose)


def test_other_files_are_no_frames(scene):
    (scene / "color" / "._0.jpg").write_bytes(b"resource fork")
    (scene / "color" / "Thumbs.db").write_bytes(b"thumbnails")
    (scene / "pose" / "notes.md").write_text("")
    loaded = load(scene)
    assert len(loaded.frames) == 12
    assert not loaded.issues
