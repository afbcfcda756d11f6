"""`runs/<id>.json` from start to end, and the signs of life between."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from pipeline.run import run_labeling
from pipeline.store import Store, latest_run, operator_slug, read_run
from pipeline.store.files import open_files
from pipeline.telemetry.live import DIED, Sign, beating, new_sign, read_signs, sign_path, worst, write_sign
from pipeline.telemetry.stages import Stages
from pipeline.telemetry.tally import Tally
from pipeline.telemetry.trace import Doing, Trace, peak_rss
from schemas.errors import DatasetError, StoreError

STAGES = {"plan", "decode", "encode", "lift", "write"}


def test_a_document_is_there_from_the_start_and_tells_everything_in_the_end(settings):
    config, seen = settings({"failing": ["7"]}), []

    def look(progress):
        seen.append(latest_run(config.store))

    summary = run_labeling(config, on_progress=look)
    first, last = seen[0], read_run(config.store, summary.run_id)
    assert (first["state"], first["error"], first["ended"], first["pid"]) == ("running", None, None, os.getpid())
    assert first["totals"] == {"scenes": 1, "frames": 24, "resumed": 0, "to_do": 24, "set_aside": 0}
    slug, todo = operator_slug(config.operator.sole), {"frames": 24, "to_do": 24}
    assert first["plan"] == [{"operator": slug, "scene": "scene9002_00", **todo, "chunks": 4, "issues": 0}]
    (weights,) = first["operators"][slug].pop("weights")
    assert weights["license"] == "unknown"
    assert first["operators"] == {slug: {**todo, "resumed": 0, "set_aside": 0}}
    assert "summary" not in first
    assert (last["state"], last["run_id"], last["operator"]) == ("finished", summary.run_id, slug)
    counts = last["counts"]
    assert counts.pop("views")["encoded"] >= 23
    assert counts == {"frames_labelled": 23, "chunks": 4, "quarantined": {"operator_failed": 1}, "retries": 0}
    assert last["started"] < last["ended"]
    assert last["seconds"].keys() >= STAGES
    assert last["memory"]["driver_peak_bytes"] > 10 * 2**20
    assert last["engine"] == {"kind": "local", "workers": 1, "device": "cpu"}
    assert last["config"]["operator"]["kwargs"] == {"failing": ["7"]}
    assert {"lift3d", "python", "torch"} <= last["versions"].keys()


def test_the_split_of_the_workers_time_adds_up(settings):
    config = settings({"seconds": 0.02})
    document = read_run(config.store, run_labeling(config).run_id)
    split, seconds = document["split"], document["seconds"]
    assert split["io_s"] == pytest.approx(seconds["decode"] + seconds["write"], abs=0.01)
    assert split["compute_s"] >= seconds["encode"] >= 24 * 0.02
    assert split["compute_s"] + split["io_s"] + split["wait_s"] == pytest.approx(split["labelling_s"], abs=0.01)
    assert split["gpu_s"] == 0.0
    assert document["frames_per_s"] == pytest.approx(24 / split["labelling_s"], rel=0.01)


def test_seconds_of_workers_on_a_gpu_are_their_compute():
    class Status:
        operator, scene, chunk, labelled, quarantined = "op", "a", "0", 3, ()
        counts = {"encoded": 3}
        seconds = {"decode": 1.0, "encode": 4.0, "lift": 2.0, "write": 0.5}
        trace = Trace(wall_s=8.0, tries=3, peak_rss=7)

    tally = Tally()
    tally.add(Status())
    split = tally.split(2, 10.0, on_gpu=True)
    assert split == {"compute_s": 6.0, "io_s": 1.5, "wait_s": 12.5, "gpu_s": 6.0}
    assert (tally.retries, tally.worker_rss, tally.worker_s) == (2, 7, 8.0)


def test_a_run_that_fails_leaves_its_reason(settings, tmp_path):
    config = settings().model_copy(update={"source": str(tmp_path)})
    with pytest.raises(DatasetError) as caught:
        run_labeling(config)
    document = latest_run(config.store)
    assert (document["state"], document["error"]) == ("failed", str(caught.value))
    assert document["counts"]["frames_labelled"] == 0
    assert not read_signs(open_files(config.store))


def test_an_interrupted_run_says_what_it_did(settings):
    config = settings()

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_labeling(config, on_progress=stop)
    document = latest_run(config.store)
    assert (document["state"], document["counts"]["frames_labelled"]) == ("interrupted", 6)
    assert not read_signs(open_files(config.store))


def test_secrets_stay_out_of_the_document(settings, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "hunter2-hunter2")
    config = settings({"failing": ["hunter2-hunter2"]})
    run_labeling(config)
    assert "hunter2" not in "".join(path.read_text() for path in Path(config.store, "runs").iterdir())


def test_a_killed_run_is_buried_by_the_next_one(settings, start, wait_until):
    config = settings({"seconds": 0.2})
    process = start(config)
    files = open_files(config.store)
    dead = wait_until(lambda: {i: s for i, s in read_signs(files).items() if s.phase == "labelling"})
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run_id,) = dead
    assert read_run(config.store, run_id)["state"] == "running"
    summary = run_labeling(settings())
    assert (read_run(config.store, run_id)["state"], read_run(config.store, run_id)["error"]) == ("interrupted", DIED)
    assert read_run(config.store, summary.run_id)["state"] == "finished"
    assert [path.name for path in Path(config.store, "runs").iterdir() if "progress" in path.name] == []


def test_readers_of_run_documents_never_meet_a_sign_of_life(settings):
    config, seen = settings(), []

    def look(progress):
        folder = Path(config.store, "runs")
        seen.append({path.name for path in folder.iterdir()})
        assert all("state" in json.loads(path.read_text()) for path in folder.glob("*.json"))

    summary = run_labeling(config, on_progress=look)
    assert {f"{summary.run_id}.json", f"{summary.run_id}.progress.jsonl"} <= seen[0]


def test_signs_come_at_once_on_demand_and_every_so_often_and_go(tmp_path):
    files, told = open_files(str(tmp_path)), []
    third = threading.Event()

    def look():
        told.append(len(told))
        if len(told) > 2:
            third.set()
        return new_sign("run", ["op"]).model_copy(update={"labelled": len(told)})

    with beating(files, look, every_s=3600) as soon:
        assert read_signs(files)["run"].labelled == 1
        soon()
        while read_signs(files)["run"].labelled < 2:
            pass
    assert read_signs(files) == {}
    with beating(files, look, every_s=0.01):
        assert third.wait(30)
    assert len(told) > 2


def test_storage_that_fails_for_a_moment_costs_a_sign_and_nothing_else(tmp_path):
    files = open_files(str(tmp_path))
    beats = threading.Semaphore(0)

    def look():
        beats.release()
        if (tmp_path / "broken").exists():
            raise StoreError("gone for a moment")
        return new_sign("run", ["op"])

    with beating(files, look, every_s=0.01):
        (tmp_path / "broken").touch()
        assert all(beats.acquire(timeout=30) for _ in range(3))
        files.delete(sign_path("run"))
        (tmp_path / "broken").unlink()
        while not read_signs(files):
            assert beats.acquire(timeout=30)


def test_a_damaged_sign_is_no_sign(tmp_path):
    files = open_files(str(tmp_path))
    write_sign(files, new_sign("good", ["op"]))
    files.put(sign_path("bad"), b"{")
    assert set(read_signs(files)) == {"good"}
    assert read_signs(files)["good"].is_fresh()


def test_a_sign_is_stale_when_it_is_old_or_its_process_is_gone():
    sign = new_sign("run", ["op"])
    assert sign.is_fresh()
    assert not sign.model_copy(update={"pid": 2**22 + 1}).is_fresh()
    assert sign.model_copy(update={"host": "elsewhere", "pid": 2**22 + 1}).is_fresh()
    assert not sign.model_copy(update={"host": "elsewhere", "beat": sign.beat - 61}).is_fresh()
    assert Sign.model_validate_json(sign.model_dump_json()) == sign


def test_what_is_under_way_is_told_in_words_the_longest_first():
    doing = [Doing("s", f"{i:06d}", "host:1", float(i)) for i in range(12)]
    assert worst(doing)[0] == "s/000011 for 11 s on host:1"
    assert (len(worst(doing)), worst(doing)[-1]) == (9, "and 4 more")
    whole = Doing("s", "0", "h:1", 70.0, "encode", ("a", "b"), 60.4, 1.0, 2)
    assert str(whole) == "s/0 for 70 s on h:1, encode of a and 1 more for 60 s, try 2"


def test_a_worker_tells_what_it_is_at_only_if_it_takes_long():
    told, stages = threading.Event(), Stages()
    heard = []

    def tell(step):
        heard.append(step)
        told.set()

    with stages.told(tell, every_s=3600):
        stages.enter("encode", "a")
    assert not heard
    with stages.told(tell, every_s=0.01):
        stages.enter("lift", "b")
        assert told.wait(30)
    assert (heard[0].stage, heard[0].frames) == ("lift", ("b",))


def test_the_peak_of_memory_only_rises():
    before = peak_rss()
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_rss() >= max(before, 64 * 2**20)


def test_the_document_of_a_run_without_a_store_is_an_error(settings, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        run_labeling(settings(store=str(tmp_path / "file" / "store")))
    assert Store(str(tmp_path / "store")).uri
