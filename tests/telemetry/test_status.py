"""`lift3d status` from another process than the run's, on a disk and on S3: live, stale and ended runs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.care.explain import explain
from pipeline.run import run_labeling
from pipeline.store import Store, operator_slug, validate
from pipeline.store.files import open_files
from pipeline.telemetry.live import bury, new_sign, write_sign
from pipeline.telemetry.show import show_status, status_text
from pipeline.telemetry.status import read_status
from schemas.errors import StoreError


def status_of(store):
    """`lift3d status --json` in a process of its own."""
    command = [sys.executable, "-m", "jobs.cli", "status", store, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    return json.loads(done.stdout)


@pytest.mark.parametrize("place", [pytest.param("disk", marks=pytest.mark.slow), "s3"])
def test_another_shell_sees_a_run_live_then_dead_then_finished(settings, start, wait_until, request, place):
    store = request.getfixturevalue("bucket") if place == "s3" else None
    config = settings({"seconds": 0.25, "failing": ["0"]}, store=store)
    process = start(config)

    wait_until(lambda: open_files(config.store).list("_commits"))
    seen = status_of(config.store)
    (run,) = seen["runs"]
    assert seen["live"]
    assert (run["state"], run["pid"], run["phase"], run["total"]) == ("live", process.pid, "labelling", 24)
    assert run["silent_s"] < 30
    process.send_signal(signal.SIGKILL)
    process.wait()
    dead = read_status(config.store)
    assert not dead.live
    assert dead.runs[0].state == "stale"
    assert "died without a word: run the same command again" in status_text(dead)
    again = settings({"failing": ["0"]}, store=store)
    run_labeling(again)
    ended = read_status(config.store)
    assert [one.state for one in ended.runs] == ["finished", "interrupted"]
    (operator,) = ended.operators
    assert (operator.operator, operator.scenes, operator.frames_labelled) == (
        operator_slug(config.operator.spec),
        1,
        23,
    )
    assert (operator.quarantined, operator.frames_planned) == ({"operator_failed": 1}, 24)
    assert operator.share == pytest.approx(23 / 24)
    assert "23 of 24 (96%) frames in 1 scenes labelled, 1 quarantined (1 operator_failed)" in status_text(ended)


def test_a_run_on_another_machine_is_live_while_it_gives_signs(settings, tmp_path):
    uri = str(tmp_path / "store")
    Store(uri).prepare()
    files = open_files(uri)
    sign = new_sign("run-1", ["indoor"]).model_copy(
        update={
            "host": "far",
            "phase": "labelling",
            "labelled": 30,
            "quarantined": {"timeout": 2},
            "total": 128,
            "frames_per_s": 0.5,
            "left_s": 192.0,
            "doing": ("a/000032 for 12 s on far:7, lift of 45 for 2 s",),
        }
    )
    write_sign(files, sign)
    text = status_text(read_status(uri))
    assert "run run-1 by indoor: live, 32/128 frames, 2 quarantined, 0.50/s, 3:1" in text
    assert "    a/000032 for 12 s on far:7, lift of 45 for 2 s" in text
    write_sign(files, sign.model_copy(update={"beat": time.time() - 300}))
    found = read_status(uri)
    assert (found.runs[0].state, found.runs[0].left_s) == ("stale", None)
    assert "last sign of life 5:00 ago" in status_text(found)


def test_documents_of_early_versions_and_damaged_ones_are_borne(tmp_path):
    uri = str(tmp_path / "store")
    store = Store(uri)
    store.prepare()
    early = {"summary": {"frames_labelled": 5, "frames_quarantined": 1}, "config": {"operator": {"spec": "indoor"}}}
    store.write_run("20260101-a", early)
    open_files(uri).put("runs/20260102-b.json", b"[[[")
    (run,) = read_status(uri).runs
    assert (run.state, run.operator, run.labelled, run.quarantined) == ("finished", "indoor", 5, 1)


def test_a_run_that_finished_is_counted_with_what_could_not_be_used(settings, sample_room, tmp_path):
    import shutil

    room = tmp_path / "room"
    shutil.copytree(sample_room, room)
    (room / "scene9002_00" / "color" / "3.jpg").write_bytes(b"")
    config = settings({"failing": ["0"]}).model_copy(update={"source": str(room)})
    summary = run_labeling(config)
    assert (summary.frames_labelled, summary.frames_quarantined) == (22, 2)
    (run,) = read_status(config.store).runs
    assert (run.labelled, run.quarantined, run.total) == (22, 2, 24)
    assert "finished, 24/24 frames, 2 quarantined" in status_text(read_status(config.store))


def test_a_run_that_could_not_even_say_that_it_ended_is_buried_by_the_next(settings):
    """On a full disk, neither a last document nor a sign of life can be written."""
    config = settings()
    store = Store(config.store)
    store.prepare()
    slug = operator_slug(config.operator.spec)
    for name, operator in (("20260101-a", slug), ("20260102-b", "another")):
        store.write_run(name, {"run_id": name, "state": "running", "operator": operator})
    assert [run.state for run in read_status(config.store).runs] == ["stale", "stale"]
    run_labeling(config)
    assert [run.state for run in read_status(config.store).runs] == ["finished", "stale", "interrupted"]


@pytest.mark.parametrize(
    "document",
    [
        {"config": 5},
        {"summary": {"frames_labelled": "x"}},
        {"operators": {"indoor": {"frames": "many"}}},
        {"counts": {"quarantined": [1]}, "state": "failed"},
    ],
    ids=str,
)
def test_documents_that_cannot_be_understood_are_left_out_and_named_by_validate(settings, document):
    config = settings()
    run_labeling(config)
    (path,) = open_files(config.store).list("runs")
    open_files(config.store).put(path, json.dumps(document).encode())
    assert read_status(config.store).runs == ()
    (problem,) = validate(config.store).problems
    assert (problem.path, problem.message[:38]) == (path, "the run document cannot be understood:")
    (told,) = explain(config.store, "scene9002_00", "0")
    assert "not known" in told.text()


@pytest.mark.parametrize("value", ["1e300", "-1", "NaN", "Infinity", "1" * 5000])
@pytest.mark.parametrize("name", ["beat", "left_s", "labelled"])
def test_signs_of_life_that_mean_nothing_are_left_out(tmp_path, name, value):
    store = Store(str(tmp_path / "store"))
    store.prepare()
    files = open_files(store.uri)
    store.write_run("run-1", {"run_id": "run-1", "state": "running", "operator": "indoor"})
    sign = json.loads(new_sign("run-1", ["indoor"]).model_dump_json())
    text = json.dumps({**sign, name: "here"}).replace('"here"', value)
    files.put("runs/run-1.progress.jsonl", text.encode())
    assert [run.state for run in read_status(store.uri).runs] == ["stale"]
    bury(files, store.write_run, ["indoor"])
    assert [run.state for run in read_status(store.uri).runs] == ["interrupted"]


def test_what_is_shown_gives_the_terminal_no_commands(tmp_path):
    store = Store(str(tmp_path / "store"))
    store.prepare()
    store.write_run("run-1", {"state": "failed", "error": "\x1b]0;mine\x07", "operator": "\x1b[2J"})
    text = status_text(read_status(store.uri))
    assert "\\x1b]0;mine\\x07" in text
    assert "\x1b" not in text


def test_watching_ends_when_no_run_is_alive(tmp_path):
    uri = str(tmp_path / "store")
    Store(uri).prepare()
    told = []
    show_status(uri, as_json=True, watch=True, write=told.append)
    assert [json.loads(line)["live"] for line in told] == [False]


def test_a_store_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="there is no label store"):
        read_status(str(tmp_path))
