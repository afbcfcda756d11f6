"""The engine benchmark: what its figures mean, that its rooms are exact, and that every part runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.assets import decode_depth, decode_image
from pipeline.benchmark.engine import EngineOptions, benchmark_engine, parse_parts
from pipeline.benchmark.engine_case import EngineCase, EngineRun, Span, tree_cpu_s
from pipeline.benchmark.engine_data import HEIGHT, RADIUS, RINGS, Bands, many_rooms, round_rooms
from pipeline.benchmark.engine_scratch import keeping
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.readers import load_scene, open_dataset
from schemas.config import ReaderConfig
from schemas.errors import ConfigError
from schemas.scene import FrameBatch


def _run(*spans):
    return EngineRun(tuple(Span(*span) for span in spans), 1.0, 10.0)


def test_the_rate_leaves_out_the_start_and_what_is_idle_in_the_end_but_not_pauses():
    one = _run(("a", 5.0, 7.0, 10), ("a", 7.0, 9.0, 10), ("a", 10.0, 12.0, 10))
    assert one.rate == pytest.approx(20 / 5)
    two = replace(one, spans=(*one.spans, Span("b", 6.0, 8.0, 10), Span("b", 8.0, 9.0, 10)))
    assert two.rate == pytest.approx(20 / 5 + 10)
    assert _run(("a", 0.0, 1.0, 5)).rate == 0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 5))
def test_no_makespan_is_better_than_ideal_and_a_busy_one_is(lengths, workers):
    spans, now = [], 0.0
    for length in lengths:
        spans += [(str(w), now, now + length, 1) for w in range(workers)]
        now += length
    assert _run(*spans).makespan(workers) == pytest.approx(1)
    assert _run(*spans, ("0", now, now + 1, 1)).makespan(workers) >= 1 - 1e-9


def test_processor_time_grows_with_work():
    before = tree_cpu_s()
    for _ in range(40):
        torch.randn(400, 400) @ torch.randn(400, 400)
    after = tree_cpu_s()
    assert after > before > 0 or after == before == 0  # no /proc


def test_the_round_room_is_round(tmp_path):
    source = round_rooms(tmp_path, {"a": 12, "b": 2}, (30, 40))
    refs = open_dataset(str(source), ReaderConfig())
    assert [ref.id for ref in refs] == ["a", "b"]
    scene = load_scene(refs[0], ReaderConfig())
    assert len(scene.frames) == 12
    for frame in scene.frames:
        depth = decode_depth(frame.depth)
        ys, xs = np.mgrid[:30, :40] + 0.5
        local = np.stack([xs, ys, np.ones_like(xs)], -1) @ np.linalg.inv(frame.camera.K).T * depth[..., None]
        pose = frame.camera.world_from_cam
        points = local @ pose[:3, :3].T + pose[:3, 3]
        from_axis, level = np.hypot(points[..., 0], points[..., 1]), points[..., 2]
        on_wall, on_level = abs(from_axis - RADIUS) < 0.01, np.minimum(abs(level), abs(level - HEIGHT)) < 0.01
        assert (on_wall | on_level).all()
        assert on_wall.any()
    views = [decode_image(frame.image, frame.camera) for frame in scene.frames]
    assert all((views[i] == views[i % len(RINGS)]).all() for i in range(12))


def test_a_room_many_times_over_is_read_as_so_many_scenes(sample_room, tmp_path):
    source = many_rooms(sample_room / "scene9002_00", tmp_path / "rooms", 3)
    scenes = [load_scene(ref, ReaderConfig()) for ref in open_dataset(str(source), ReaderConfig())]
    assert [len(scene.frames) for scene in scenes] == [24] * 3
    assert len({scene.id for scene in scenes}) == 3


def test_bands_keep_the_contract_and_tell_brightness():
    dark_to_bright = torch.linspace(0, 1, 8).view(1, 1, 1, 8).expand(1, 3, 8, 8).contiguous()
    batch = FrameBatch(dark_to_bright, "scene", ("0",), ())
    operator = Bands()
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    scores = operator.decode(features, (8, 8))
    check_decoded(operator, scores, (8, 8), 1)
    ids = scores[0].argmax(0)
    assert (ids[:, 0] < ids[:, -1]).all()


def test_what_keeping_costs_is_told_for_every_size(tmp_path):
    table = keeping(tmp_path, 1)
    assert len(table.rows) == 5
    assert all(float(row[4]) == pytest.approx(float(row[2]) + float(row[3]), abs=0.11) for row in table.rows)
    assert not list(tmp_path.iterdir())


def test_parts_are_named(tmp_path):
    assert parse_parts(None) == ("overhead", "turns", "scratch", "memory", "makespan", "passes")
    assert parse_parts("memory, scratch,memory") == ("memory", "scratch")
    with pytest.raises(ConfigError, match="no part 'speed'"):
        parse_parts("speed")
    (tmp_path / "bare.md").write_text("nothing\n")
    with pytest.raises(ConfigError, match=r"bare\.md"):
        benchmark_engine(EngineOptions(quick=True), None, tmp_path / "bare.md")


def test_a_case_is_a_config_of_its_own():
    case = EngineCase("loop", "/rooms", "/store", {"spec": "x"}, {"method": "none"}, workers=2, chunk=3, scratch="none")
    config = case.config()
    assert (config.engine.kind, config.engine.workers, config.plan.chunk) == ("local", None, 3)
    ray = replace(case, how="ray").config("/events")
    assert (ray.engine.kind, ray.engine.workers, ray.engine.scratch) == ("ray", 2, "none")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_local_engine_and_the_loop_take_turns():
    (table,) = benchmark_engine(EngineOptions(("turns",), quick=True)).tables["turns"]
    assert "2 turns" in table.title
    for _, altogether, a_turn in table.rows:
        least, greatest = map(float, a_turn.partition("(")[2].strip(")").split(" to "))
        assert 0 < least <= greatest
        assert least - 0.01 <= float(altogether) <= greatest + 0.01


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_operators_of_one_pass_are_timed_beside_runs_of_their_own():
    (table,) = benchmark_engine(EngineOptions(("passes",), quick=True)).tables["passes"]
    ((operators, lift, apart, together, *_),) = table.rows
    assert (operators, lift) == ("class maps from files", "depth")
    assert float(together) > 0
    assert float(apart) > 0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_every_part_that_starts_ray_runs_and_is_kept(tmp_path):
    document = tmp_path / "speed.md"
    document.write_text(
        "<!-- benchmark engine: written by the tool, do not edit -->\n<!-- end of benchmark engine -->\n"
    )
    out = tmp_path / "out"
    (overhead,) = benchmark_engine(EngineOptions(("overhead",), workers=(1,), quick=True), out).tables["overhead"]
    assert [row[1] for row in overhead.rows] == ["plain loop", "--engine local", "Ray"]
    assert [row[2] for row in overhead.rows][0] == "1"
    assert all(float(row[4]) > 0 for row in overhead.rows)
    report = benchmark_engine(EngineOptions(("memory",), quick=True), out, document)
    assert list(report.tables) == ["overhead", "memory"]
    assert all(table.title in document.read_text() for tables in report.tables.values() for table in tables)
    assert {path.name for path in out.iterdir()} == {"overhead.json", "memory.json"}
    assert json.loads((out / "memory.json").read_text())["tables"][0]["rows"][0][0] == 10
