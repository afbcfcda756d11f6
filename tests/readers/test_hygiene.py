"""Twelve seeded defects: each found, with its reason, and no frame accused that is sound."""

from collections import Counter

import numpy as np
import pytest

from pipeline.assets import decode_depth, decode_image
from pipeline.readers import load_scene, open_dataset
from schemas.config import ReaderConfig
from schemas.errors import FrameError, Reason

COUNT = 30


def defects(root, make):
    """Seed the scene; returns frame -> reason that must be found when it is read, and when it is decoded."""
    views = make.make_views(1)
    mirrored, scaled = np.diag([1.0, 1, -1, 1]), np.diag([1.5, 1.5, 1.5, 1])
    (root / "pose" / "1.txt").write_text(("-inf " * 4 + "\n") * 4)
    (root / "pose" / "3.txt").write_text(("nan " * 4 + "\n") * 4)
    (root / "pose" / "5.txt").write_text(make.text(mirrored))
    (root / "pose" / "7.txt").write_text(make.text(scaled))
    (root / "pose" / "9.txt").write_text("1 0 0 oops")
    (root / "pose" / "11.txt").unlink()
    (root / "color" / "13.jpg").unlink()
    (root / "color" / "15.jpg").write_bytes(b"")
    (root / "depth" / "17.png").write_bytes(b"")
    (root / "color" / "19.png").write_bytes(make.encode(views.frames[0].image, ".png"))
    truncated = root / "color" / "21.jpg"
    truncated.write_bytes(truncated.read_bytes()[:-40])
    (root / "color" / "23.jpg").write_bytes(make.encode(views.frames[0].image[:20], ".jpg"))
    when_read = {
        "1": Reason.POSE_NOT_FINITE,
        "3": Reason.POSE_NOT_FINITE,
        "5": Reason.POSE_NOT_RIGID,
        "7": Reason.POSE_NOT_RIGID,
        "9": Reason.POSE_UNREADABLE,
        "11": Reason.POSE_MISSING,
        "13": Reason.IMAGE_MISSING,
        "15": Reason.IMAGE_UNREADABLE,
        "17": Reason.DEPTH_UNREADABLE,
        "19.png": Reason.DUPLICATE_FRAME,
    }
    when_decoded = {"21": Reason.IMAGE_UNREADABLE, "23": Reason.IMAGE_SIZE_MISMATCH}
    return when_read, when_decoded


def decoded_issues(scene):
    """frame -> reason of frames whose pixels cannot be used."""
    found = {}
    for frame in scene.frames:
        try:
            decode_image(frame.image, frame.camera)
            decode_depth(frame.depth)
        except FrameError as error:
            found[frame.id] = error.reason
    return found


@pytest.mark.parametrize("name", ["scannet", "auto"])
def test_twelve_of_twelve_defects_are_found_and_nothing_else(make, tmp_path, name):
    root = make.write_scannet(tmp_path / "scene0000_00", make.make_views(COUNT))
    when_read, when_decoded = defects(root, make)
    assert len(when_read) + len(when_decoded) == 12
    config = ReaderConfig(name=name)
    scene = load_scene(open_dataset(str(tmp_path), config)[0], config)
    assert {issue.frame: issue.reason for issue in scene.issues} == when_read
    assert decoded_issues(scene) == when_decoded
    sound = {str(i) for i in range(COUNT)} - when_read.keys()
    assert {frame.id for frame in scene.frames} == sound
    assert all(len(issue.message) > 20 and issue.message.isprintable() for issue in scene.issues)


def test_the_same_number_in_two_spellings_is_one_frame(make, tmp_path):
    root = make.write_scannet(tmp_path / "s", make.make_views(2))
    for folder, suffix in (("color", "jpg"), ("pose", "txt")):
        (root / folder / f"001.{suffix}").write_bytes((root / folder / f"1.{suffix}").read_bytes())
    scene = load_scene(open_dataset(str(root), ReaderConfig())[0], ReaderConfig())
    assert [frame.id for frame in scene.frames] == ["0", "1"]
    assert [(issue.frame, issue.reason) for issue in scene.issues] == [("001", Reason.DUPLICATE_FRAME)]


def test_a_scene_of_bad_frames_is_still_a_scene(make, tmp_path):
    root = make.write_scannet(tmp_path / "s", make.make_views(3))
    for pose in (root / "pose").iterdir():
        pose.write_text("inf " * 16)
    scene = load_scene(open_dataset(str(root), ReaderConfig())[0], ReaderConfig())
    assert scene.frames == ()
    assert Counter(issue.reason for issue in scene.issues) == {Reason.POSE_NOT_FINITE: 3}
