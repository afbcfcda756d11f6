"""`.sens` files: indexed by seeking, nothing believed."""

import struct
import tracemalloc

import numpy as np
import pytest

from pipeline.assets import decode_depth, decode_image
from pipeline.readers.sens import SensReader
from schemas.errors import DatasetError, Reason
from schemas.scene import SceneRef

NAME_LENGTH_AT, NAME_AT = 4, 12
MATRICES_AT = NAME_AT + len(b"StructureSensor")
FORMAT_AT = MATRICES_AT + 256
FRAMES_AT = FORMAT_AT + 28
FIRST_FRAME_AT = FRAMES_AT + 8


@pytest.fixture
def load(tmp_path):
    """Writes bytes as a .sens file and reads it."""

    def write_and_load(data):
        path = tmp_path / "scene0001_00.sens"
        path.write_bytes(data)
        return SensReader().load(SceneRef("scene0001_00", str(path), "sens"))

    return write_and_load


@pytest.mark.parametrize("color_codec", [1, 2])
@pytest.mark.parametrize("depth_codec", [0, 1])
def test_frames_are_byte_ranges_in_every_coding(make, load, color_codec, depth_codec):
    views = make.make_views(3)
    scene = load(make.sens_bytes(views, color_codec, depth_codec))
    assert [frame.id for frame in scene.frames] == ["0", "1", "2"]
    for frame, view in zip(scene.frames, views.frames, strict=True):
        assert decode_image(frame.image, frame.camera).shape == (24, 32, 3)
        np.testing.assert_allclose(decode_depth(frame.depth), view.depth_mm / 1000, rtol=1e-6)


def test_indexing_reads_headers_and_no_blobs(make, tmp_path):
    """A sparse file of 100 frames of 40 MB: the index must cost neither its bytes nor memory."""
    path, blob = tmp_path / "big.sens", 20_000_000
    frame = np.eye(4, dtype="<f4").tobytes() + struct.pack("<4Q", 0, 0, blob, blob)
    with path.open("wb") as stream:
        stream.write(make.sens_bytes(make.make_views(0), frames=100)[:FIRST_FRAME_AT])
        for _ in range(100):
            stream.write(frame)
            stream.seek(2 * blob, 1)
        stream.truncate()
    tracemalloc.start()
    try:
        scene = SensReader().load(SceneRef("big", str(path), "sens"))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert len(scene.frames) == 100
    assert scene.frames[-1].image.offset > 3_900_000_000


def test_a_remote_file_is_read_by_its_headers_only(make):
    import fsspec

    views = make.make_views(4)
    data = make.sens_bytes(views)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/sens/scene.sens", data)
    scene = SensReader().load(SceneRef("scene", "memory://sens/scene.sens", "sens"))
    assert len(scene.frames) == 4
    assert decode_image(scene.frames[3].image, scene.frames[3].camera).shape == (24, 32, 3)
    fs.rm("/sens", recursive=True)


def test_a_truncated_file_yields_the_frames_that_are_whole(make, load):
    views = make.make_views(3)
    data = make.sens_bytes(views)
    ends = [FIRST_FRAME_AT]
    for view in views.frames:
        ends.append(ends[-1] + len(make.sens_frame(view)))
    for length in range(FIRST_FRAME_AT, len(data), 97):
        if (length - FIRST_FRAME_AT) // 96 < 3:
            continue  # refused as a whole: its header cannot be true
        scene = load(data[:length])
        whole = sum(end <= length for end in ends[1:])
        assert len(scene.frames) == whole
        assert [issue.frame for issue in scene.issues] == [str(i) for i in range(whole, 3)]
        assert {issue.reason for issue in scene.issues} <= {Reason.IMAGE_MISSING}
        assert all(f"byte {length}" in issue.message for issue in scene.issues)


def test_every_cut_inside_the_header_is_refused(make, load):
    data = make.sens_bytes(make.make_views(1))
    for length in range(FIRST_FRAME_AT):
        with pytest.raises(DatasetError, match=r"scene0001_00.*byte \d+.*version 4"):
            load(data[:length])


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (0, "<I", 3, "byte 0: version 3, expected 4"),
        (NAME_LENGTH_AT, "<Q", 2**63, "byte 4: a sensor name of 9223372036854775808 bytes"),
        (NAME_LENGTH_AT, "<Q", 4000, "within the intrinsics"),
        (MATRICES_AT, "<f", -1.0, f"byte {MATRICES_AT}: intrinsics"),
        (MATRICES_AT, "<f", float("nan"), f"byte {MATRICES_AT}: intrinsics"),
        (MATRICES_AT + 128, "<f", 0.0, f"byte {MATRICES_AT + 128}: intrinsics"),
        (FORMAT_AT, "<i", 0, "colour coded as 0"),
        (FORMAT_AT, "<i", -1, "colour coded as -1"),
        (FORMAT_AT + 4, "<i", 2, "depth as 2"),
        (FORMAT_AT + 8, "<I", 2**31, "2147483648 x 24 pixels"),
        (FORMAT_AT + 16, "<I", 0, "0 x 12 pixels"),
        (FORMAT_AT + 24, "<f", 0.0, "depth steps"),
        (FORMAT_AT + 24, "<f", float("inf"), "depth steps"),
        (FRAMES_AT, "<Q", 2**60, f"byte {FRAMES_AT}: {2**60} frames"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_at_its_byte(make, load, offset, layout, value, message):
    data = bytearray(make.sens_bytes(make.make_views(1)))
    struct.pack_into(layout, data, offset, value)
    with pytest.raises(DatasetError, match=message):
        load(bytes(data))


def test_sizes_beyond_the_file_cost_the_frames_from_there_on(make, load):
    views = make.make_views(3)
    data = bytearray(make.sens_bytes(views))
    second = FIRST_FRAME_AT + len(make.sens_frame(views.frames[0]))
    struct.pack_into("<Q", data, second + 80, 2**63)
    scene = load(bytes(data))
    assert [frame.id for frame in scene.frames] == ["0"]
    assert [issue.frame for issue in scene.issues] == ["1", "2"]


def test_a_frame_without_colour_or_depth_bytes(make, load):
    views = make.make_views(2)
    head = make.sens_bytes(views)[:FIRST_FRAME_AT]
    pose = np.eye(4, dtype="<f4").tobytes()
    color = make.encode(views.frames[0].image, ".jpg")
    no_depth = pose + struct.pack("<4Q", 0, 0, len(color), 0) + color
    scene = load(head + no_depth + pose + struct.pack("<4Q", 0, 0, 0, 0))
    assert [(frame.id, frame.depth) for frame in scene.frames] == [("0", None)]
    assert [(issue.frame, issue.reason) for issue in scene.issues] == [("1", Reason.IMAGE_UNREADABLE)]


def test_lost_tracking_is_an_issue(make, load):
    views = make.make_views(2)
    views.frames[1].pose[:] = -np.inf
    scene = load(make.sens_bytes(views))
    assert [(issue.frame, issue.reason) for issue in scene.issues] == [("1", Reason.POSE_NOT_FINITE)]


def test_scenes_are_named_by_their_files(make, tmp_path):
    reader = SensReader()
    make.write_sens(tmp_path / "a" / "scene0002_00", make.make_views(1))
    (tmp_path / "b").mkdir()
    for name in ("scene10", "scene9"):
        (tmp_path / "b" / f"{name}.sens").write_bytes(make.sens_bytes(make.make_views(1)))
    assert [ref.id for ref in reader.list_scenes(str(tmp_path / "a"))] == ["scene0002_00"]
    assert [ref.id for ref in reader.list_scenes(str(tmp_path / "b"))] == ["scene9", "scene10"]
    assert [ref.id for ref in reader.list_scenes(str(tmp_path / "b" / "scene9.sens"))] == ["scene9"]


def test_labels_that_were_unpacked_beside_the_file_are_found(make, tmp_path):
    views = make.make_views(2)
    path = make.write_sens(tmp_path / "scene0003_00", views)
    (path.parent / "label-filt").mkdir()
    (path.parent / "label-filt" / "1.png").write_bytes(make.encode(views.frames[1].label, ".png"))
    scene = SensReader().load(SceneRef("scene0003_00", str(path), "sens"))
    assert [frame.label is not None for frame in scene.frames] == [False, True]


def test_a_file_that_does_not_exist_says_so(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        SensReader().load(SceneRef("x", str(tmp_path / "x.sens"), "sens"))
