"""What goes into a row comes out of it again, and what cannot go in is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.store import decode_confidence, decode_features, decode_image, decode_label_map, decode_scalar
from pipeline.store.codec import decode_payload, encode_record
from schemas.camera import Camera
from schemas.errors import StoreError
from schemas.scene import Asset, Frame

sizes = st.tuples(st.integers(1, 23), st.integers(1, 23))
masks = sizes.flatmap(
    lambda size: st.one_of(
        hnp.arrays(np.uint16, size, elements=st.sampled_from([0, 1, 2, 300])),
        hnp.arrays(np.uint16, size, elements=st.just(300)),
        hnp.arrays(np.uint16, size, elements=st.just(0)),
    )
)


def _encoded(world, value, kind, confidence=None):
    height, width = value.shape[:2] if kind != "features" else (6, 7)
    camera = Camera(np.eye(3), np.eye(4), height, width)
    frame = Frame("f", camera, Asset("f.jpg"))
    if confidence is None:
        confidence = np.full((height, width), 0.5, np.float32)
    record = replace(world.record(world.frame("f"), "x"), frame=frame, kind=kind, value=value, confidence=confidence)
    run = world.run()
    return encode_record(record, world.label_set if kind == "classes" else None, run.run_id, run.created_at)


@given(mask=masks)
def test_label_maps_come_back_exactly_with_their_histogram(world, mask):
    row = _encoded(world, mask, "classes")
    decoded = decode_label_map(row)
    assert decoded.dtype == np.uint16 and np.array_equal(decoded, mask)
    assert sum(row["class_px"]) == mask.size
    assert {i: int((mask == i).sum()) for i in row["class_ids"]} == dict(
        zip(row["class_ids"], row["class_px"], strict=True)
    )


@given(mask=sizes.flatmap(lambda size: hnp.arrays(np.uint16, size)))
def test_without_a_label_set_any_16_bit_ids_come_back(world, mask):
    confidence = np.zeros(mask.shape, np.float32)
    record = replace(
        world.record(world.frame("f"), "x"),
        frame=Frame("f", Camera(np.eye(3), np.eye(4), *mask.shape), Asset("f")),
        value=mask,
        confidence=confidence,
    )
    row = encode_record(record, None, "r", world.run().created_at)
    assert np.array_equal(decode_label_map(row), mask)
    assert (decode_label_map(row).dtype == np.uint8) == (mask.max() < 256)


@given(sizes.flatmap(lambda size: hnp.arrays(np.float32, size, elements=st.floats(0, 1, width=32))))
def test_confidence_is_the_mean_of_2x2_pixels_to_half_a_step(world, confidence):
    row = _encoded(world, np.zeros(confidence.shape, np.uint16), "classes", confidence)
    decoded = decode_confidence(row)
    assert decoded.dtype == np.float32 and decoded.shape == confidence.shape
    for i in range(0, confidence.shape[0], 2):
        for j in range(0, confidence.shape[1], 2):
            cell = decoded[i : i + 2, j : j + 2]
            assert np.ptp(cell) == 0
            assert abs(cell[0, 0] - confidence[i : i + 2, j : j + 2].mean(dtype=np.float64)) <= 0.5 / 255 + 1e-6
    assert abs(row["mean_confidence"] - decoded.mean(dtype=np.float64)) <= 0.5 / 255 + 1e-6


def test_confidence_rounds_half_up():
    from pipeline.store.codec import _encode_confidence

    half = np.full((2, 2), 2.5 / 255)
    assert (
        round(float(decode_confidence({"confidence": _encode_confidence(half), "height": 2, "width": 2})[0, 0]) * 255)
        == 3
    )


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3), elements=st.floats(-1e6, 1e6, width=32)))
def test_features_keep_half_precision_and_saturate(world, features):
    decoded = decode_features(_encoded(world, features, "features"))
    assert np.array_equal(decoded, np.clip(features, -65504, 65504).astype(np.float16).astype(np.float32))


@given(sizes.flatmap(lambda size: hnp.arrays(np.float32, size, elements=st.floats(-10, 10, width=32))))
def test_scalars_keep_half_precision(world, scalar):
    decoded = decode_scalar(_encoded(world, scalar, "scalar"))
    assert np.array_equal(decoded, scalar.astype(np.float16).astype(np.float32))


@given(sizes.flatmap(lambda size: hnp.arrays(np.uint8, (*size, 3))))
def test_images_come_back_exactly_and_are_rgb_pngs(world, image):
    import cv2

    row = _encoded(world, image, "image")
    assert np.array_equal(decode_image(row), image)
    bgr = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(bgr[..., ::-1], image)


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("classes", {"value": np.zeros((3, 3), np.uint8)}, r"\(3, 3\), expected \(13, 18\)"),
        ("classes", {"value": np.full((13, 18), -1)}, "-1..-1"),
        ("classes", {"value": np.full((13, 18), 70000)}, "70000"),
        ("features", {"value": np.zeros((3, 3), np.float32)}, r"expected \[C, h, w\]"),
        ("features", {"value": np.full((1, 3, 3), np.nan)}, "NaN"),
        ("scalar", {"value": np.full((13, 18), np.inf)}, "infinite"),
        ("image", {"value": np.zeros((13, 18, 3), np.float32)}, "expected uint8"),
        ("image", {"value": np.zeros((13, 18), np.uint8)}, "expected"),
        ("classes", {"confidence": np.full((13, 18), np.nan)}, "not a number"),
        ("classes", {"confidence": np.full((13, 18), 1.5)}, "leaves"),
        ("classes", {"confidence": np.zeros((2, 2))}, "confidence is"),
        ("classes", {"sources": ("\udcff",)}, "Unicode"),
    ],
)
def test_a_record_that_cannot_be_stored_is_refused_by_its_frame(world, kind, change, says):
    record = replace(world.record(world.frame("bad"), "x", kind), **change)
    with pytest.raises(StoreError, match=says) as caught:
        encode_record(record, world.label_set if kind == "classes" else None, "r", world.run().created_at)
    assert caught.value.frame == "bad" and caught.value.remedy


DECODERS = {
    "classes": decode_label_map,
    "features": decode_features,
    "image": decode_image,
    "scalar": decode_scalar,
}


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_only_the_kind_s_own_decoder_reads_a_row(world, kind, decoder):
    row = encode_record(world.record(world.frame("f"), "x", kind), None, "r", world.run().created_at)
    empty = dict.fromkeys(("label", "features", "image", "scalar", "channels", "h", "w"))
    row = {**empty, **row}
    if kind == decoder:
        assert np.array_equal(DECODERS[decoder](row), decode_payload(row))
    else:
        with pytest.raises(StoreError, match=f"row's kind is {kind}, expected kind {decoder}") as caught:
            DECODERS[decoder](row)
        assert caught.value.frame == "f"


def test_a_column_that_was_not_read_is_named(world):
    with pytest.raises(StoreError, match=r"columns=\[\.\.\., 'label'\]"):
        decode_label_map({"frame": "f", "kind": "classes", "height": 2, "width": 2})


@settings(max_examples=120)
@given(kind=st.sampled_from(list(DECODERS)), data=st.data())
def test_damaged_cells_give_a_store_error_or_the_old_pixels(world, kind, data):
    row = encode_record(world.record(world.frame("f"), "x", kind), None, "r", world.run().created_at)
    column = {"classes": "label"}.get(kind, kind)
    blob = bytearray(row[column])
    position = data.draw(st.integers(0, len(blob) - 1))
    action = data.draw(st.sampled_from(["flip", "cut", "size", "empty", "text"]))
    before = decode_payload(row)
    if action == "flip":
        blob[position] ^= data.draw(st.integers(1, 255))
    row[column] = {"cut": bytes(blob[:position]), "empty": None, "text": "text"}.get(action, bytes(blob))
    if action == "size":
        row |= dict.fromkeys(("height", "h", "width"), data.draw(st.integers(-5, 2**31)))
    try:
        after = decode_payload(row)
    except StoreError as error:
        assert error.frame == "f" and error.remedy
    else:
        # zstd frames carry no checksum of their own: the file's sha256 and page checksums stand for them.
        assert after.shape == before.shape and (kind in ("features", "scalar") or np.array_equal(after, before))
