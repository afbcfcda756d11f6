"""transforms.json: axes, worlds, lenses, and paths that stay inside the scene."""

import json
import math

import numpy as np
import pytest

from pipeline.assets import decode_depth
from pipeline.readers.nerfstudio import NerfstudioReader
from schemas.errors import DatasetError, FrameError, Reason
from schemas.scene import SceneRef


@pytest.fixture
def load(make, tmp_path):
    """Writes a scene of three views whose transforms.json was changed, and reads it."""
    views = make.make_views(3)

    def write_and_load(change=lambda data: None, data=None):
        data = data or make.transforms_of(views)
        change(data)
        root = make.write_transforms(tmp_path / "scene", views, data)
        return NerfstudioReader().load(SceneRef("scene", str(root), "nerfstudio"))

    write_and_load.views = views
    return write_and_load


def test_axes_become_those_of_opencv(load):
    for frame, view in zip(load().frames, load.views.frames, strict=True):
        np.testing.assert_allclose(frame.camera.world_from_cam, view.pose, atol=1e-12)


def test_ids_are_paths_without_suffix(load):
    assert [frame.id for frame in load().frames] == ["images/0000", "images/0001", "images/0002"]


@pytest.mark.parametrize("path", ["./images/0000.jpg", "images/0000", "images\\0000.jpg", "x/../images/0000.jpg"])
def test_paths_in_every_spelling_find_the_image(load, path):
    scene = load(lambda data: data["frames"][0].update(file_path=path))
    assert scene.frames[0].id == "images/0000"
    assert scene.frames[0].image.uri.endswith("/scene/images/0000.jpg")


def test_an_absolute_path_inside_the_scene_is_inside(load, tmp_path):
    scene = load(lambda data: data["frames"][0].update(file_path=str(tmp_path / "scene/images/0000.jpg")))
    assert scene.frames[0].id == "images/0000"


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/passwd", "images/../../secret.jpg", "..", ".", "", None, 5, "a\0b", "\ud800"]
)
def test_a_path_that_leaves_the_scene_is_refused(load, tmp_path, path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    scene = load(lambda data: data["frames"][1].update(file_path=path))
    assert [frame.id for frame in scene.frames] == ["images/0000", "images/0002"]
    (issue,) = scene.issues
    assert (issue.frame, issue.reason) == ("frames[1]", Reason.IMAGE_MISSING)
    assert issue.message.isprintable()


def test_a_depth_path_that_leaves_the_scene_is_refused(load):
    (issue,) = load(lambda data: data["frames"][1].update(depth_file_path="../depth.png")).issues
    assert (issue.frame, issue.reason) == ("images/0001", Reason.DEPTH_MISSING)


def test_without_sizes_the_images_give_them(load):
    scene = load(lambda data: [data.pop(key) for key in ("w", "h")])
    assert (scene.frames[0].camera.height, scene.frames[0].camera.width) == (24, 32)


def test_intrinsics_of_a_frame_come_before_shared_ones(load):
    scene = load(lambda data: data["frames"][1].update(fl_x=99.0, cx=3.0, w=16, h=12))
    assert [frame.camera.K[0, 0] for frame in scene.frames] == [30.0, 99.0, 30.0]
    assert scene.frames[1].camera.K[0, 2] == 3.5
    assert (scene.frames[1].camera.height, scene.frames[1].camera.width) == (12, 16)


def test_the_field_of_view_gives_the_focal_length(load):
    def only_angle(data):
        for key in ("fl_x", "fl_y", "cx", "cy"):
            del data[key]
        data["camera_angle_x"] = 2 * math.atan(32 / 2 / 40)

    K = load(only_angle).frames[0].camera.K
    np.testing.assert_allclose(K, [[40, 0, 16], [0, 40, 12], [0, 0, 1]])


@pytest.mark.parametrize("key", ["k1", "k4", "p2"])
@pytest.mark.parametrize("value", [1e-4, -0.1, "much", math.nan])
def test_distorted_images_are_never_taken_for_pinhole_ones(load, key, value):
    with pytest.raises(FrameError, match="undistort them first") as caught:
        load(lambda data: data.update({key: value}))
    assert caught.value.reason is Reason.LENS_DISTORTED


@pytest.mark.parametrize(
    "lens", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}, {"camera_model": "EQUIRECTANGULAR"}]
)
def test_other_lenses_are_refused(load, lens):
    with pytest.raises(FrameError, match="camera_model"):
        load(lambda data: data.update(lens))


def test_zero_distortion_is_a_pinhole(load):
    assert len(load(lambda data: data.update(camera_model="OPENCV", k1=0.0, k2=0, p1=0, p2=None)).frames) == 3


def test_one_distorted_image_costs_itself_only(load):
    (issue,) = load(lambda data: data["frames"][2].update(k1=0.1)).issues
    assert (issue.frame, issue.reason) == ("images/0002", Reason.LENS_DISTORTED)


def test_what_the_converter_applied_is_undone(load, make):
    plain = load().frames
    applied = np.eye(4)
    applied[:3, :3], applied[:3, 3] = make.rotation(np.random.default_rng(5)), [1, 2, 3]

    def apply(data):
        for entry in data["frames"]:
            pose = applied @ np.array(entry["transform_matrix"])
            pose[:3, 3] *= 0.25
            entry["transform_matrix"] = pose.tolist()
        data.update(applied_transform=applied[:3].tolist(), applied_scale=0.25)

    for a, b in zip(load(apply).frames, plain, strict=True):
        np.testing.assert_allclose(a.camera.world_from_cam, b.camera.world_from_cam, atol=1e-9)
        # The file's depth is in the file's unit, a quarter of the original one.
        np.testing.assert_allclose(decode_depth(a.depth), 4 * decode_depth(b.depth), rtol=1e-6)


def test_the_unit_of_depth_can_be_given(load):
    plain = decode_depth(load().frames[0].depth)
    half = decode_depth(load(lambda data: data.update(depth_unit_scale_factor=0.0005)).frames[0].depth)
    np.testing.assert_allclose(half, plain / 2, rtol=1e-6)


def test_depth_that_is_named_but_not_there_is_none(load, tmp_path):
    load()
    scene = load(lambda data: data["frames"][0].update(depth_file_path="depth/nothing.png"))
    assert [frame.depth is None for frame in scene.frames] == [True, False, False]


def test_an_image_that_is_listed_twice_counts_once(load):
    scene = load(lambda data: data["frames"].append(data["frames"][0]))
    assert len(scene.frames) == 3
    (issue,) = scene.issues
    assert issue.reason is Reason.DUPLICATE_FRAME
    assert issue.frame == "frames[3] (images/0000.jpg)"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"transform_matrix": [[1, 2], [3]]}, Reason.POSE_UNREADABLE),
        ({"transform_matrix": "identity"}, Reason.POSE_UNREADABLE),
        ({"transform_matrix": [[10**400] * 4] * 4}, Reason.POSE_UNREADABLE),
        ({"transform_matrix": np.full((4, 4), np.nan).tolist()}, Reason.POSE_NOT_FINITE),
        ({"transform_matrix": (2 * np.eye(4)).tolist()}, Reason.POSE_NOT_RIGID),
        ({"transform_matrix": np.diag([1, 1, -1, 1]).tolist()}, Reason.POSE_NOT_RIGID),
        ({"fl_x": "wide"}, Reason.INTRINSICS_INVALID),
        ({"fl_x": -5}, Reason.INTRINSICS_INVALID),
        ({"w": 32.5}, Reason.INTRINSICS_INVALID),
        ({"w": -32, "h": -24}, Reason.INTRINSICS_INVALID),
        ({"w": 10**9, "h": 10**9}, Reason.INTRINSICS_INVALID),
        ({"cx": True}, Reason.INTRINSICS_INVALID),
    ],
)
def test_a_bad_entry_costs_itself_only(load, change, reason):
    scene = load(lambda data: data["frames"][1].update(change))
    assert len(scene.frames) == 2
    (issue,) = scene.issues
    assert (issue.frame, issue.reason) == ("images/0001", reason)


def test_an_entry_without_pose_and_one_that_is_none(load):
    def damage(data):
        del data["frames"][0]["transform_matrix"]
        data["frames"][1] = None

    assert {issue.reason for issue in load(damage).issues} == {Reason.POSE_MISSING, Reason.IMAGE_MISSING}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe\xfa", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 5_000, "is not JSON"),
        (b"[]", "expected an object"),
        (b"{}", "no list of frames"),
        (b'{"frames": {}}', "no list of frames"),
        (b'{"frames": [{"file_path": "a"}]}', "neither fl_x nor camera_angle_x"),
        (b'{"frames": [{}], "fl_x": 1, "applied_scale": 0}', "applied_scale is 0"),
        (b'{"frames": [{}], "fl_x": 1, "depth_unit_scale_factor": -1}', "depth_unit_scale_factor is -1"),
        (b'{"frames": [{}], "fl_x": 1, "applied_transform": [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]}', "ingular"),
    ],
)
def test_a_file_that_makes_no_sense_is_a_dataset_error(tmp_path, content, message):
    (tmp_path / "transforms.json").write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        NerfstudioReader().load(SceneRef("scene", str(tmp_path), "nerfstudio"))
    assert caught.value.remedy


def test_a_byte_order_mark_is_no_damage(make, tmp_path):
    root = make.write_transforms(tmp_path, make.make_views(1))
    file = root / "transforms.json"
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert len(NerfstudioReader().load(SceneRef("scene", str(root), "nerfstudio")).frames) == 1


def test_the_file_itself_names_its_scene(make, tmp_path):
    root = make.write_transforms(tmp_path / "fox", make.make_views(1))
    (ref,) = NerfstudioReader().list_scenes(str(root / "transforms.json"))
    assert (ref.id, ref.uri) == ("fox", str(root))


def test_test_frames_are_not_read(load):
    scene = load(lambda data: data.update(test_frames=json.loads(json.dumps(data["frames"]))))
    assert len(scene.frames) == 3
