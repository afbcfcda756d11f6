"""Chunks into records: what labels may not depend on, the modes of lifting, and every kind of operator."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.evaluation.calibration import auroc, confidence_histogram
from pipeline.plan import choose_sources
from schemas.camera import Camera
from schemas.config import LiftConfig

IGNORE = 0


def _bytes(record):
    """Everything of a record that is stored."""
    arrays = [(a.dtype.str, a.shape, a.tobytes()) for a in (record.value, record.confidence)]
    others = (record.kind, record.consistency, record.changed, record.sources, record.lift_mode, record.fingerprint)
    return (*arrays, *others)


def _assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if _bytes(found[name]) != _bytes(expected[name])] == []


def _right(records, room):
    return np.mean([np.mean(records[f.id].value == room.truth[i]) for i, f in enumerate(room.scene.frames)])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, sound_room):
    """The room's scene with all images but the last cropped, so that views of two sizes share some chunks."""
    folder, frames = tmp_path_factory.mktemp("mixed"), []
    for i, frame in enumerate(sound_room.scene.frames):
        if i < 5:
            picture = cv2.imread(frame.image.uri)[:37, :50]
            cv2.imwrite(str(folder / f"{i}.png"), picture)
            camera = Camera(frame.camera.K, frame.camera.world_from_cam, 37, 50)
            image = replace(frame.image, uri=str(folder / f"{i}.png"), size=None)
            frames.append(replace(frame, camera=camera, image=image))
        else:
            frames.append(frame)
    return replace(sound_room.scene, frames=tuple(frames))


@pytest.mark.parametrize(
    ("soft", "method", "mode"),
    [
        (False, "depth", "label"),
        (True, "depth", "label"),
        (False, "depth", "novel"),
        (False, "rgb", "label"),
        (True, "rgb", "novel"),
    ],
)
def test_labels_depend_neither_on_chunks_nor_on_batches(sound_room, label, operators, soft, method, mode):
    def run(**sizes):
        operator = operators["classes"]() if soft else None
        records, quarantined = label(sound_room, operator, method=method, mode=mode, sources=2, planes=8, **sizes)
        assert not quarantined
        return records

    expected = run(chunk=32, batch=4)
    for chunk, batch in ((1, 1), (3, 32)):
        _assert_equal(run(chunk=chunk, batch=batch), expected)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("precomputed", "depth"),
        ("classes", "depth"),
        ("features", "depth"),
        ("scalar", "depth"),
        ("precomputed", "rgb"),
    ],
)
def test_nor_do_they_where_views_differ_in_size(sound_room, mixed, label, operators, kind, method):
    def run(chunk, batch):
        operator = None if kind == "precomputed" else operators[kind]()
        records, quarantined = label(
            sound_room, operator, scene=mixed, chunk=chunk, batch=batch, method=method, sources=2, planes=8
        )
        assert not quarantined
        return records

    expected = run(6, 4)
    for frame in mixed.frames:
        assert expected[frame.id].confidence.shape == (frame.camera.height, frame.camera.width)
    for name, record in run(1, 1).items():
        np.testing.assert_allclose(record.value, expected[name].value, atol=1e-6)
        assert record.sources == expected[name].sources
        # Where a vector ends depends on the padding, and with it the last bit of an exponential.
        np.testing.assert_allclose(record.confidence, expected[name].confidence, atol=1e-6)
        assert record.consistency == pytest.approx(expected[name].consistency, abs=1e-6)


def test_without_lifting_the_raw_prediction_comes_out(sound_room, label):
    records, _ = label(sound_room, method="none")
    for name, record in records.items():
        raw = cv2.imread(str(sound_room.predictions / "scene0000_00" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(record.value, raw)
        assert (record.lift_mode, record.sources, record.consistency, record.changed) == ("none", (), None, 0.0)
        assert (record.confidence == 1).all()


@pytest.mark.parametrize("method", ["depth", "rgb"])
def test_lifting_mends_what_is_noisy(sound_room, label, method):
    raw, _ = label(sound_room, method="none")
    lifted, _ = label(sound_room, method=method)
    assert _right(lifted, sound_room) > _right(raw, sound_room) + 0.1
    frames = sound_room.scene.frames
    sources = choose_sources(frames, LiftConfig(sources=4, method=method))
    for i, frame in enumerate(frames):
        record = lifted[frame.id]
        assert record.sources == tuple(frames[s].id for s in sources[i])
        assert record.lift_mode == f"{method}-label"
        assert 0 < record.changed < 0.4
        assert 0.5 < record.consistency <= 1
        assert record.confidence.dtype == np.float32
        assert 0 <= record.confidence.min() <= record.confidence.max() <= 1


def test_right_pixels_are_more_confident_than_wrong_ones(sound_room, label):
    records, _ = label(sound_room, sources=4)
    right = np.concatenate(
        [(records[f.id].value == t).ravel() for f, t in zip(sound_room.scene.frames, sound_room.truth, strict=True)]
    )
    confidence = np.concatenate([records[f.id].confidence.ravel() for f in sound_room.scene.frames])
    found = auroc(confidence_histogram(confidence, ~right))
    assert found is not None and found > 0.8


@pytest.mark.parametrize("method", ["depth", "rgb"])
def test_a_novel_view_says_nothing_of_what_nobody_saw(sound_room, label, method):
    records, _ = label(sound_room, method=method, mode="novel", sources=1)
    unseen = np.stack([record.value == IGNORE for record in records.values()])
    confidence = np.stack([record.confidence for record in records.values()])
    assert 0.02 < unseen.mean() < 0.7
    assert np.array_equal(unseen, confidence == 0)
    seen = np.stack([records[f.id].value == t for f, t in zip(sound_room.scene.frames, sound_room.truth, strict=True)])
    assert seen[~unseen].mean() > 0.75
    assert {record.lift_mode for record in records.values()} == {f"{method}-novel"}
    assert {record.changed for record in records.values()} == {None}


def test_a_novel_view_looks_at_nothing_of_its_own(room, label):
    frames = [
        replace(f, image=replace(f.image, size=None), depth=replace(f.depth, size=None)) for f in room.scene.frames
    ]
    scene, frame = replace(room.scene, frames=tuple(frames)), frames[2]
    before, _ = label(room, scene=scene, method="depth", mode="novel")
    cv2.imwrite(frame.image.uri, np.zeros((48, 64, 3), np.uint8))
    cv2.imwrite(frame.depth.uri, cv2.imread(frame.depth.uri, cv2.IMREAD_UNCHANGED)[::-1])
    cv2.imwrite(str(room.predictions / "scene0000_00" / "2.png"), np.full((48, 64), 7, np.uint8))
    after, _ = label(room, scene=scene, method="depth", mode="novel")
    assert after["2"].sources == before["2"].sources
    assert np.array_equal(after["2"].value, before["2"].value)
    assert np.array_equal(after["2"].confidence, before["2"].confidence)


@pytest.mark.parametrize("kind", ["precomputed", "classes", "features", "image", "scalar"])
def test_a_view_alone_is_empty_where_it_is_novel_and_raw_where_it_is_not(sound_room, label, operators, kind):
    alone = replace(sound_room.scene, frames=sound_room.scene.frames[:1])
    operator = None if kind == "precomputed" else operators[kind]()
    novel, _ = label(sound_room, operator, scene=alone, mode="novel")
    assert not novel["0"].value.any()
    assert not novel["0"].confidence.any()
    assert novel["0"].consistency is None
    lifted, _ = label(sound_room, operator, scene=alone, method="rgb")
    raw, _ = label(sound_room, operator, scene=alone, method="none")
    assert np.isclose(lifted["0"].value, raw["0"].value, atol=1e-6).mean() > 0.995  # rounding decides between equals
    assert lifted["0"].consistency is None
    assert (lifted["0"].confidence < 1).all()


def test_pixels_without_a_prediction_stay_without_one(room, label):
    for path in (room.predictions / "scene0000_00").glob("*.png"):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), ids * 0)
    for method in ("none", "depth"):
        records, _ = label(room, method=method)
        for record in records.values():
            assert not record.value.any()
            assert not record.confidence.any()


@pytest.mark.parametrize(
    ("kind", "shape", "dtype"),
    [
        ("features", (3, 12, 16), "float32"),
        ("image", (48, 64, 3), "uint8"),
        ("scalar", (48, 64), "float32"),
        ("classes", (48, 64), "uint8"),
    ],
)
@pytest.mark.parametrize("method", ["none", "depth"])
def test_every_kind_of_operator_is_lifted(sound_room, label, operators, kind, shape, dtype, method):
    records, quarantined = label(sound_room, operators[kind](), method=method)
    assert not quarantined
    for record in records.values():
        assert record.kind == kind
        assert (record.value.shape, record.value.dtype) == (shape, dtype)
        assert np.isfinite(record.value).all()
        assert record.confidence.shape == (48, 64)
        assert (record.changed is None) == (kind == "features")
        assert record.operator_fingerprint == operators[kind]().fingerprint()


def test_lifted_pictures_are_the_pictures(sound_room, label, operators):
    lifted, _ = label(sound_room, operators["image"](), method="depth")
    raw, _ = label(sound_room, operators["image"](), method="none")
    for name, record in lifted.items():
        assert np.abs(record.value.astype(int) - raw[name].value.astype(int)).mean() < 12
        assert record.consistency > 0.85


def test_depth_is_used_where_there_is_some(sound_room, label):
    frames = [replace(f, depth=None, depth_camera=None) if i < 3 else f for i, f in enumerate(sound_room.scene.frames)]
    records, _ = label(
        sound_room, scene=replace(sound_room.scene, frames=tuple(frames)), method="auto", planes=8, sources=2
    )
    assert [records[f.id].lift_mode for f in frames] == ["rgb-label"] * 3 + ["depth-label"] * 3
