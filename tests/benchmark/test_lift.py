"""The benchmark on a few views of the sample room, through the production path."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from pipeline.benchmark.catalogue import LABELLERS, VIEW_OPERATORS, Entry, Replayed, truth_space
from pipeline.benchmark.cells import NOT_MEASURED, Cells
from pipeline.benchmark.depths import found_depths
from pipeline.benchmark.labelled import measure_entry
from pipeline.benchmark.labels import spoiled
from pipeline.benchmark.lift import SECTION, assemble, benchmark_lift
from pipeline.benchmark.lifts import Memory, Variant, config_of, lift_targets
from pipeline.benchmark.novel import MEAN, WARP, measure_case, warped_values
from pipeline.benchmark.operators import RawRgb
from pipeline.benchmark.options import Options, parse_options
from pipeline.benchmark.scenes import spaced
from pipeline.benchmark.table import BEGIN, END
from schemas.config import LiftConfig, OperatorConfig, ReaderConfig
from schemas.errors import ConfigError
from schemas.label_sets import label_set
from schemas.scene import Asset, FrameBatch

NOVEL = LiftConfig(method="depth", mode="novel", sources=3, weights="none")
RAW_RGB = VIEW_OPERATORS[0]


def test_a_run_measures_writes_its_tables_and_goes_on_where_it_was(sample_room, tmp_path):
    document = tmp_path / "page.md"
    document.write_text(f"{BEGIN.format(name=SECTION)}\n{END.format(name=SECTION)}\n")
    options = parse_options({"parts": "a,e", "sources": "2", "noise": "1", "modes": "depth", "limit_views": 2})
    out = tmp_path / "out"
    report = benchmark_lift([str(sample_room)], out, options, document=document)
    cells = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*.json")}
    assert len(cells) == 4
    assert set(report.tables) == {"a", "e"}
    scores = {(row[0], row[1]): row[3].mean for row in report.tables["a"][0].rows}
    assert scores["clean", "raw"] == 1
    assert scores["1", "lift, depth"] > scores["1", "raw"]
    assert "lift, depth" in document.read_text()
    assert (out / "table.md").read_text() == report.markdown()

    again = benchmark_lift([str(sample_room)], out, options)
    assert again.markdown() == report.markdown()
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*.json")} == cells


def test_a_document_without_the_section_is_refused_before_anything_is_measured(sample_room, tmp_path):
    document = tmp_path / "page.md"
    document.write_text("no markers\n")
    with pytest.raises(ConfigError, match="no lines"):
        benchmark_lift([str(sample_room)], tmp_path / "out", Options(), document=document)
    assert not (tmp_path / "out").exists()


def test_an_operator_whose_weights_are_missing_is_reported_in_the_tables(room, tmp_path):
    cells, deeplab = Cells(tmp_path, {}), LABELLERS[1]
    options = Options(modes=("depth",))
    measure_entry(room, deeplab, lambda: deeplab.build(None), options, cells, Memory())
    found = [cell["values"][NOT_MEASURED] for cell in cells.all()]
    assert len(found) == 3
    assert all("deeplab_voc" in reason and "--weights" in reason for reason in found)


def test_the_clean_level_is_the_truth_and_noise_does_not_depend_on_the_other_views(room):
    assert all(a is b for a, b in zip(spoiled(room, 0.0), room.truth, strict=True))
    fewer = replace(room, scene=replace(room.scene, frames=room.frames[:3]))
    fewer.__dict__["classes"] = room.classes
    for a, b in zip(spoiled(room, 1.0)[:3], spoiled(fewer, 1.0), strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_do_not_depend_on_which_other_views_are_measured(room):
    raw = OperatorConfig(spec="raw")
    variant = Variant(LiftConfig(method="depth", sources=3))
    wide, narrow = replace(room, targets=(0, 1, 4), planned=(0, 1, 4)), replace(room, targets=(1,), planned=(0, 1, 4))
    several = lift_targets(wide, config_of(wide, raw, variant.lift), variant.model(Memory()), RawRgb())
    one = lift_targets(narrow, config_of(narrow, raw, variant.lift), variant.model(Memory()), RawRgb())
    assert [record.frame.id for record in one] == [room.frames[1].id]
    np.testing.assert_array_equal(several[1].value, one[0].value)


def test_depth_is_found_once_and_again_only_for_other_settings(room):
    memory = Memory()
    variant = Variant(LiftConfig(method="rgb", sources=2, planes=8))
    first = found_depths(room, variant, memory)
    kept = list(memory.known.values())
    second = found_depths(room, variant, memory)
    assert [id(value) for value in memory.known.values()] == [id(value) for value in kept]
    for frame, (depth, spread) in first.items():
        np.testing.assert_array_equal(depth, second[frame][0])
        np.testing.assert_array_equal(spread, second[frame][1])
    found_depths(room, Variant(LiftConfig(method="rgb", sources=2, planes=16)), memory)
    assert len(memory.known) == 2


def _predicted(bench, lift):
    """What is lifted for each held-out target, and the two simple predictions beside it."""
    seen = []
    variant = Variant(lift)
    config = config_of(bench, OperatorConfig(spec="raw"), lift)
    lift_targets(bench, config, variant.model(Memory(), lambda one: seen.append((one, warped_values(one)))), RawRgb())
    return seen


@pytest.mark.parametrize("method", ["depth", "rgb"])
def test_neither_the_image_nor_the_depth_of_a_held_out_view_leaks(room, tmp_path, method):
    lift = NOVEL.model_copy(update={"method": method, "planes": 8})
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    # turned about, so that sources are chosen at the same distances
    upside_down = np.rot90(room.views[1].depth * 1000, 2).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "depth.png"), upside_down)
    image, depth = Asset(str(tmp_path / "noise.png")), Asset(str(tmp_path / "depth.png"), scale=1000)
    one = replace(room, targets=(1,), planned=(1,), held_out=True)
    spoilt = replace(one.frames[1], image=image, depth=depth)
    other = replace(one, scene=replace(one.scene, frames=(one.frames[0], spoilt, *one.frames[2:])))
    (honest, simple), (blind, simple_blind) = (_predicted(bench, lift)[0] for bench in (one, other))
    torch.testing.assert_close(honest.lifted.values, blind.lifted.values, rtol=0, atol=0)
    for a, b in zip(simple, simple_blind, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_held_out_views_are_scored_beside_warp_and_mean(room, tmp_path):
    found = measure_case(
        room, RAW_RGB, lambda: RAW_RGB.build(None), "lift", Variant(NOVEL), Cells(tmp_path, {}), Memory()
    )
    assert found["views"] == 2
    assert 0.3 < found["coverage"] <= 1
    for row in ("lift", WARP, MEAN):
        assert found[row]["psnr"] > 15
        assert 0.5 < found[row]["cosine"] <= 1


def test_nearest_view_warp_takes_the_nearest_source_that_sees_the_point(room):
    ((seen, (warp, mean, anyone)),) = _predicted(replace(room, targets=(1,), planned=(1,), held_out=True), NOVEL)
    centres = seen.views.world_from_cam[:, :3, 3]
    distance = (centres[list(seen.sources)] - centres[seen.target]).norm(dim=1)
    truth = seen.features[-1].flatten(1)
    assert distance.argmin() != len(seen.sources)
    assert float((warp - truth)[:, anyone].abs().mean()) < 0.1
    assert float((mean - truth)[:, anyone].abs().mean()) < 0.1
    assert float(warp[:, ~anyone].numel()) == 3 * float((~anyone).sum())


def test_an_operator_encodes_each_view_once_and_the_replay_is_exact():
    class Counting(RawRgb):
        calls = 0

        def encode(self, batch):
            self.calls += len(batch.frames)
            return batch.images

    counting, images = Counting(), torch.rand(2, 3, 4, 5)
    operator = Replayed(counting)
    batch = FrameBatch(images, "scene", ("a", "b"), ())
    for _ in range(3):
        torch.testing.assert_close(operator.encode(batch), images, rtol=0, atol=0)
    assert counting.calls == 2


def test_one_hot_maps_are_replayed_with_their_holes():
    class Classes(RawRgb):
        kind = "classes"
        label_set = label_set("voc21")

    one_hot = torch.nn.functional.one_hot(torch.arange(20).view(1, 4, 5), 21).permute(0, 3, 1, 2).float()
    one_hot[:, :, 0, 0] = 0
    operator = Replayed(Classes())
    for _ in range(2):
        found = operator.encode(FrameBatch(one_hot, "scene", ("a",), ()))
        torch.testing.assert_close(found, one_hot, rtol=0, atol=0)


def test_ground_truth_meets_voc_classes_as_documented():
    nyu = {name: i for i, name in zip(label_set("nyu40").ids, label_set("nyu40").names, strict=True)}
    voc = label_set("voc21")
    asked = np.array([[nyu["table"], nyu["television"], nyu["wall"], nyu["otherprop"], 0]], np.uint16)
    found = truth_space(voc).truth(asked)[0].tolist()
    unscored = len(voc.ids)
    assert found == [voc.names.index("diningtable"), voc.names.index("tvmonitor"), 0, unscored, unscored]


def test_every_entry_names_an_operator_that_can_be_asked_for():
    assert {entry.title for entry in VIEW_OPERATORS if entry.trained_on}
    with pytest.raises(ConfigError):
        Entry("none", "no such operator").build(None)


@pytest.mark.parametrize(
    "values", [{"parts": "a,z"}, {"modes": "sonar"}, {"sources": "4,x"}, {"sources": "0"}, {"noise": ","}]
)
def test_options_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError):
        parse_options(values)


def test_options_are_sorted_and_the_middle_source_count_is_the_usual_one():
    options = parse_options({"sources": "16,4,8", "noise": "2,1"})
    assert options.sources == (4, 8, 16)
    assert options.usual_sources == 8
    assert options.usual_noise == 1
    assert parse_options({"noise": "0.5,2"}).usual_noise == 0.5


def test_measured_views_are_spread_evenly():
    assert spaced(5, None) == spaced(5, 9) == (0, 1, 2, 3, 4)
    assert spaced(60, 4) == (7, 22, 37, 52)


def test_a_source_without_scenes_is_an_error(tmp_path):
    from schemas.errors import DatasetError

    with pytest.raises(DatasetError):
        benchmark_lift([str(tmp_path)], tmp_path / "out", Options(), reader=ReaderConfig())


def test_measurements_with_another_shipped_checkpoint_are_left_out(tmp_path):
    cells = Cells(tmp_path, {})
    labels = {"group": "rooms", "mode": "depth", "sources": 8, "noise": 1.0}
    scores = {"miou": 0.5, "accuracy": 0.5, "boundary_f1": 0.5, "consistency": 0.5}
    for what, weights in (("lift", "default"), ("analytic lift", "none")):
        key = {"lift": {"weights": weights}, "checkpoint": "an older one" if weights == "default" else None}
        cells.measure("a", {**labels, "what": what, "scene": "a"}, key, lambda: scores)
    (table,) = assemble(cells).tables["a"]
    assert [row[1] for row in table.rows] == ["analytic lift, depth"]


def test_the_command_refuses_nonsense_before_it_looks_at_anything(tmp_path, capsys):
    from jobs.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["benchmark", "lift", str(tmp_path / "absent"), "--out", str(tmp_path), "--parts", "a,z"])
    assert stop.value.code == 2
    assert "choose from a,b,c,d,e,f" in capsys.readouterr().err
