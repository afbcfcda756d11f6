"""The same scene gives the same cameras, pixels and ids, whatever layout it is written in."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.assets import decode_depth, decode_image
from pipeline.readers import ground_truth, load_scene, open_dataset
from schemas.camera import Camera
from schemas.config import ReaderConfig
from schemas.scene import frame_from_json, frame_to_json

WRITERS = {"scannet": "write_scannet", "sens": "write_sens", "nerfstudio": "write_transforms"}


def read(uri, **reader):
    """The only scene at `uri`."""
    config = ReaderConfig(**reader)
    (ref,) = open_dataset(str(uri), config)
    return load_scene(ref, config)


def same_camera(a, b, atol):
    np.testing.assert_allclose(a.K, b.K, atol=atol)
    np.testing.assert_allclose(a.world_from_cam, b.world_from_cam, atol=atol)
    assert (a.height, a.width) == (b.height, b.width)


def expected_cameras(make, views):
    """Cameras as the contract wants them: pixel centres at +0.5."""
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    return [
        (Camera(views.color_K + half, v.pose, *make.color_size), Camera(views.depth_K + half, v.pose, *make.depth_size))
        for v in views.frames
    ]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("layout", WRITERS)
def test_cameras_survive_every_layout(layout, make, tmp_path_factory, seed, count):
    views = make.make_views(count, seed)
    root = tmp_path_factory.mktemp("scene")
    getattr(make, WRITERS[layout])(root, views)
    scene = read(root)
    assert not scene.issues
    assert len(scene.frames) == count
    for frame, (color, depth) in zip(scene.frames, expected_cameras(make, views), strict=True):
        same_camera(frame.camera, color, atol=2e-5)
        # A transforms.json has no depth intrinsics: they are those of colour, resized.
        same_camera(frame.depth_camera, color.resized(12, 16) if layout == "nerfstudio" else depth, atol=2e-5)


@pytest.mark.parametrize("layout", WRITERS)
def test_pixels_survive_every_layout(layout, make, tmp_path):
    views = make.make_views(2)
    getattr(make, WRITERS[layout])(tmp_path / "scene", views)
    for frame, view in zip(read(tmp_path / "scene").frames, views.frames, strict=True):
        image = decode_image(frame.image, frame.camera)
        assert np.abs(image[..., ::-1].astype(int) - view.image).mean() < 10
        np.testing.assert_allclose(decode_depth(frame.depth), view.depth_mm / 1000, rtol=1e-6)
        assert frame.image.size > 0
        assert str(frame_from_json(frame_to_json(frame))) != ""
        if frame.label:
            assert np.array_equal(ground_truth(frame, ReaderConfig()), view.label)


@pytest.mark.parametrize("layout", WRITERS)
def test_a_dataset_is_a_folder_of_scenes(layout, make, tmp_path):
    for name in ("scene10", "scene9", "other", "scene9b"):
        getattr(make, WRITERS[layout])(tmp_path / name, make.make_views(1))
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.txt").write_text("nothing to read here")
    refs = open_dataset(str(tmp_path), ReaderConfig())
    assert [ref.id for ref in refs] == ["other", "scene9", "scene9b", "scene10"]
    assert {ref.reader for ref in refs} == {layout}
    chosen = open_dataset(str(tmp_path), ReaderConfig(scenes="scene*", limit=2, name=layout))
    assert [ref.id for ref in chosen] == ["scene9", "scene9b"]


@pytest.mark.parametrize("layout", WRITERS)
def test_a_scene_of_linked_folders_is_read(layout, make, tmp_path):
    getattr(make, WRITERS[layout])(tmp_path / "disk" / "scene", make.make_views(1))
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "scene").symlink_to(tmp_path / "disk" / "scene")
    scene = read(tmp_path / "dataset")
    assert scene.id == "scene"
    assert len(scene.frames) == 1


def test_addresses_are_absolute_so_that_workers_find_them(make, tmp_path, monkeypatch):
    make.write_scannet(tmp_path / "scene", make.make_views(1))
    monkeypatch.chdir(tmp_path / "scene")
    scene = read(".")
    assert scene.id == "scene"
    assert scene.frames[0].image.uri == str(tmp_path / "scene" / "color" / "0.jpg")


def test_names_with_glob_characters_are_names(make, tmp_path):
    make.write_scannet(tmp_path / "scene[1]*", make.make_views(2))
    scene = read(tmp_path)
    assert scene.id == "scene[1]*"
    assert len(scene.frames) == 2
