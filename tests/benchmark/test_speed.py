"""The speed benchmark measures every case that its tables announce; how fast anything is, is not tested here."""

import json
import threading
import time

import pytest
import torch

from pipeline.benchmark.speed import SpeedOptions, benchmark_speed, parse_threads
from pipeline.benchmark.speed_case import Case, measure
from pipeline.benchmark.speed_scene import Waves, inconsistent_predictions, scene_at_size
from pipeline.benchmark.speed_stacks import split_seconds, watched_stacks
from pipeline.operators.contract import check_encoded
from schemas.errors import ConfigError, DatasetError
from schemas.scene import FrameBatch


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    path = tmp_path_factory.mktemp("docs") / "speed.md"
    marks = "<!-- benchmark speed: written by the tool, do not edit -->\nold\n<!-- end of benchmark speed -->\n"
    path.write_text(f"before\n{marks}after\n")
    return path


@pytest.fixture(scope="module")
def report(sample_room, document, tmp_path_factory):
    out = tmp_path_factory.mktemp("speed")
    found = benchmark_speed(SpeedOptions(str(sample_room), channels=8, threads=(1,), quick=True), out, document)
    assert json.loads((out / "results.json").read_text())["tables"] == found.to_json()["tables"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_table_has_every_row(report):
    rows = {table.title: [row[:3] for row in table.rows] for table in report.tables}
    assert [len(found) for found in rows.values()] == [4, 4, 8, 4, 4, 6, 3]
    compared = [row[0].split(",")[0] + " " + row[2] for row in report.tables[0].rows]
    assert compared == ["labels sensor depth", "labels RGB alone", "features sensor depth", "features RGB alone"]
    assert [row[0] for row in rows["Growth with source views"]] == ["4", "8", "12", "16"] * 2
    assert [row[0] for row in rows["Growth with feature channels"]] == ["16", "64", "384", "1024"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_document_gets_the_tables_and_keeps_the_rest(report, document):
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert all(table.title in text for table in report.tables)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_measured_adds_up(report):
    for row in report.to_json()["measurements"]:
        for one in row["rounds"]:
            assert one["seconds"] == pytest.approx(sum(one["stages"].values()))
            assert one["seconds"] > 0
            assert one["peak_mb"] >= one["start_mb"] > 50
        assert not {"source", "folder"} & row["case"].keys()


def test_stages_of_a_case_are_those_of_the_tables(sample_room, tmp_path):
    case = Case(str(sample_room), str(tmp_path), (24, 32), 4, "features", "depth", channels=4)
    measured = measure(case)
    assert set(measured.stages) == {"Stage I", "evidence", "corrector", "propagation", "other", "finishing"}
    assert measured.run >= measured.seconds


def test_a_scene_without_object_ids_is_refused(sample_room, tmp_path):
    scene = scene_at_size(str(sample_room), (24, 32), 3, tmp_path)
    assert [frame.camera.width for frame in scene.frames] == [32] * 3
    bare = type(scene)(scene.id, tuple(type(f)(f.id, f.camera, f.image) for f in scene.frames))
    with pytest.raises(DatasetError, match="ground-truth"):
        inconsistent_predictions(bare, tmp_path)


def test_waves_are_features_of_the_right_shape(sample_room, tmp_path):
    scene = scene_at_size(str(sample_room), (30, 45), 2, tmp_path)
    images = torch.rand(2, 3, 30, 45)
    batch = FrameBatch(images, scene.id, tuple(f.id for f in scene.frames), tuple(f.camera for f in scene.frames))
    features = Waves(5).encode(batch)
    assert features.shape == (2, 5, 3, 4)
    check_encoded(Waves(5), features, batch)


def test_stacks_outside_a_lift_do_not_count():
    with watched_stacks(threading.get_ident()) as seen:
        time.sleep(0.05)
    assert not seen


def test_seconds_are_cut_up_in_proportion():
    seen = {("lift", "evidence"): 1, ("lift", "corrector"): 1, ("lift", ""): 2, ("geometry", "matching"): 9}
    stages = split_seconds({"geometry": 3.0, "lift": 4.0, "decode": 5.0}, seen)
    expected = {"Stage I": 3.0, "evidence": 1.0, "corrector": 1.0, "propagation": 0.0, "other": 0.0, "finishing": 2.0}
    assert stages == expected
    assert sum(split_seconds({"lift": 4.0}, {}).values()) == 4.0


@pytest.mark.parametrize("text", ["", "0", "1,two", "-1", "1,,2"])
def test_threads_are_positive_numbers(text):
    assert parse_threads("2, 1,2") == (2, 1)
    with pytest.raises(ConfigError, match="--threads"):
        parse_threads(text)


def test_a_document_without_the_section_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "bare.md").write_text("nothing\n")
    with pytest.raises(ConfigError, match="bare.md"):
        benchmark_speed(SpeedOptions(quick=True), None, tmp_path / "bare.md")
