"""`lift3d status` from another process than the run's, on a disk and on S3: live, stale and ended runs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.run import run_labeling
from pipeline.store import Store, operator_slug
from pipeline.store.files import open_files
from pipeline.telemetry.live import new_sign, write_sign
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


def test_watching_ends_when_no_run_is_alive(tmp_path):
    uri = str(tmp_path / "store")
    Store(uri).prepare()
    told = []
    show_status(uri, as_json=True, watch=True, write=told.append)
    assert [json.loads(line)["live"] for line in told] == [False]


def test_a_store_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="there is no label store"):
        read_status(str(tmp_path))
