"""Events: a schema that every line keeps, an order, and lines that outlive the process."""

import io
import os
import signal
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.run import run_labeling
from pipeline.telemetry.events import (
    ChunkFinished,
    EventLog,
    FrameQuarantined,
    RunStarted,
    events_json_schema,
    open_events,
    parse_event,
)
from schemas.errors import ConfigError
from schemas.text import masked


def events_of(path):
    """Every event of a file, each checked against the schema."""
    return [parse_event(line) for line in path.read_bytes().splitlines()]


def test_a_run_tells_its_story_in_order(settings, tmp_path):
    path = tmp_path / "events.jsonl"
    summary = run_labeling(settings({"failing": ["7", "8"]}, events=str(path)))
    found = events_of(path)
    kinds = [one.event for one in found]
    assert (kinds[0], kinds[1], kinds[-1]) == ("run_started", "scene_planned", "run_finished")
    assert Counter(kinds) == {
        "run_started": 1,
        "scene_planned": 1,
        "chunk_started": 4,
        "chunk_finished": 4,
        "frame_quarantined": 2,
        "scene_published": 1,
        "run_finished": 1,
    }
    assert {one.run_id for one in found} == {summary.run_id}
    chunks = [one for one in found if isinstance(one, ChunkFinished)]
    assert sum(one.frames for one in chunks) == summary.frames_labelled == 22
    assert all({"decode", "encode", "lift", "write"} <= one.seconds.keys() for one in chunks)
    assert all(one.wall_s >= sum(one.seconds.values()) * 0.99 - 0.01 and one.views == 6 for one in chunks)
    assert all(one.worker.endswith(f":{os.getpid()}") for one in chunks)
    assert (found[-1].state, found[-1].frames_quarantined) == ("finished", 2)
    assert [one.frame for one in found if isinstance(one, FrameQuarantined)] == ["7", "8"]
    assert kinds.index("scene_published") > max(i for i, kind in enumerate(kinds) if kind == "chunk_finished")


def test_credentials_do_not_reach_events(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "hunter2-hunter2")
    path = tmp_path / "events.jsonl"
    with open_events(str(path), "r") as log:
        log(FrameQuarantined(scene="a", frame="b", stage="c", reason="d", message="hunter2-hunter2", attempts=1))
        log(started(source="s3://key:geheim@bucket/x"))
    assert "hunter2" not in path.read_text()
    assert "geheim" not in path.read_text()
    assert len(events_of(path)) == 2


def started(**more):
    values = {"operator": "o", "source": "s", "store": "t", "engine": "ray", "workers": 1, "device": "cpu", "host": "h"}
    return RunStarted(**{**values, "pid": 1, **more})


def test_a_killed_run_leaves_whole_lines_and_the_next_one_appends(settings, start, wait_until, tmp_path):
    path = tmp_path / "events.jsonl"
    process = start(settings({"seconds": 0.2}, events=str(path)))
    wait_until(lambda: path.exists() and b"chunk_finished" in path.read_bytes())
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = events_of(path)
    assert survived[-1].event != "run_finished"
    with path.open("a") as file:
        file.write('{"event": "torn')
    run_labeling(settings(events=str(path)))
    lines = path.read_bytes().splitlines()
    assert lines[len(survived)] == b'{"event": "torn'
    assert parse_event(lines[len(survived) + 1]).event == "run_started"
    assert parse_event(lines[-1]).event == "run_finished"


def test_a_failed_and_an_interrupted_run_say_so(settings, tmp_path):
    path = tmp_path / "events.jsonl"

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_labeling(settings(events=str(path)), on_progress=stop)
    assert (events_of(path)[-1].state, events_of(path)[-1].frames_labelled) == ("interrupted", 6)


def test_events_go_to_stdout_before_the_summary(settings, capsys):
    run_labeling(settings(events="-"))
    lines = capsys.readouterr().out.splitlines()
    assert {parse_event(line).event for line in lines} >= {"run_started", "chunk_finished", "run_finished"}


@pytest.mark.parametrize("target", ["s3://bucket/events.jsonl", "{folder}", "{folder}/none/events.jsonl"])
def test_a_file_that_cannot_be_written_is_refused_before_any_work(settings, tmp_path, target):
    with pytest.raises(ConfigError, match=r"events cannot be written.*- for stdout"):
        run_labeling(settings(events=target.format(folder=tmp_path)))
    assert not (tmp_path / "store").exists()


def test_a_full_disk_costs_events_not_the_run(settings):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    assert run_labeling(settings(events="/dev/full")).frames_labelled == 24


def test_the_schema_is_published_and_names_every_event():
    schema = events_json_schema()
    assert set(schema["discriminator"]["mapping"]) == {
        *("run_started", "scene_planned", "chunk_started", "chunk_finished"),
        *("frame_quarantined", "scene_published", "run_finished"),
    }
    for event in schema["$defs"].values():
        assert all(value.get("description") or name == "event" for name, value in event.get("properties", {}).items())


@given(st.text(), st.text() | st.none())
def test_any_name_comes_through_as_one_line(scene, frame):
    stream = io.StringIO()
    told = FrameQuarantined(scene=scene, frame=frame, stage="s", reason="r", message=scene, attempts=1)
    EventLog(stream, "r")(told)
    assert stream.getvalue().isascii()
    assert len(stream.getvalue().splitlines()) == 1
    assert parse_event(stream.getvalue()) == told.model_copy(update={"run_id": "r", "scene": masked(scene)})
