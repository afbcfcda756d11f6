"""Ground truth as NYU40 ids, from files that hold them or raw ScanNet ids."""

import numpy as np
import pytest

from pipeline.readers import ground_truth
from schemas.camera import Camera
from schemas.config import ReaderConfig
from schemas.errors import ConfigError, FrameError, Reason
from schemas.scene import Asset, Frame

HEADER = "id\traw_category\tnyu40id\tnyu40class\n"


@pytest.fixture
def frame_of(make, tmp_path):
    """Writes ids as a label file and returns its frame."""

    def write(ids):
        (tmp_path / "label.png").write_bytes(make.encode(np.array(ids, np.uint16), ".png"))
        camera = Camera(np.eye(3), np.eye(4), 2, 2)
        return Frame("7", camera, Asset("image.jpg"), label=Asset(str(tmp_path / "label.png")))

    return write


@pytest.fixture
def table(tmp_path):
    """Writes a label table and returns the config that names it."""

    def write(text):
        (tmp_path / f"{abs(hash(text))}.tsv").write_text(text)
        return ReaderConfig(labels="raw", label_tsv=str(tmp_path / f"{abs(hash(text))}.tsv"))

    return write


def test_nyu40_ids_are_returned_as_they_are(frame_of):
    ids = np.arange(0, 41, dtype=np.uint16).reshape(1, 41)
    assert np.array_equal(ground_truth(frame_of(ids), ReaderConfig()), ids)


def test_raw_ids_taken_for_nyu40_are_caught_and_the_remedy_is_what_to_type(frame_of):
    with pytest.raises(ConfigError, match=r"holds id 1191.*--set reader.labels=raw --set reader.label_tsv="):
        ground_truth(frame_of([[1, 1191]]), ReaderConfig())


def test_raw_ids_go_through_the_table(frame_of, table):
    config = table(HEADER + "1\twall\t1\twall\n22\tchair\t5\tchair\n1191\tmattress\t39\tx\n99\tx\t0\tvoid\n")
    assert ground_truth(frame_of([[0, 1, 22], [1191, 99, 22]]), config).tolist() == [[0, 1, 5], [39, 0, 5]]


def test_raw_ids_need_a_table(frame_of):
    with pytest.raises(ConfigError, match=r"label_tsv is not set.*--set reader.label_tsv="):
        ground_truth(frame_of([[1]]), ReaderConfig(labels="raw"))


def test_ids_that_the_table_does_not_list_are_named(frame_of, table):
    with pytest.raises(ConfigError, match=r"ids \[7, 9\]"):
        ground_truth(frame_of([[1, 9, 7, 7]]), table(HEADER + "1\twall\t1\twall\n"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id\traw_category\n1\twall\n",
        "id,nyu40id\n1,1\n",
        HEADER + "1\twall\n",
        HEADER + "1\twall\tone\twall\n",
        HEADER + "1\twall\t41\twall\n",
        HEADER + "70000\twall\t1\twall\n",
        HEADER + "1\twall\t\twall\n",
    ],
)
def test_a_table_that_is_no_label_table_is_a_config_error(frame_of, table, text):
    with pytest.raises(ConfigError, match=r"tab-separated, with columns id and nyu40id|does not list"):
        ground_truth(frame_of([[1]]), table(text))


def test_a_table_that_is_missing_is_a_config_error(frame_of, tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        ground_truth(frame_of([[1]]), ReaderConfig(labels="raw", label_tsv=str(tmp_path / "nothing.tsv")))


def test_a_frame_without_ground_truth_says_so():
    frame = Frame("7", Camera(np.eye(3), np.eye(4), 2, 2), Asset("image.jpg"))
    with pytest.raises(FrameError, match="frame '7': the frame has no ground truth") as caught:
        ground_truth(frame, ReaderConfig())
    assert caught.value.reason is Reason.LABEL_UNREADABLE
