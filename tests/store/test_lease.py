"""One run an operator and store: the second is refused by name, a dead one is replaced, a replaced one stops."""

import logging
import multiprocessing
import os
import re
import signal
import socket
import time

import pytest

from pipeline.store import Store, lease
from pipeline.store.files import open_files
from pipeline.store.lease import Holder, hold_lease, read_lease
from schemas.errors import LeaseError

SLUG = "indoor"
WAYS = multiprocessing.get_context("forkserver")


def aws():
    """What leads to the S3 server: a fork server's processes have its environment, not this one's."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def contend(environment, uri, run_id, ready, start, results):
    """In a process of its own: wait for the signal, then hold the lease for a while or say who has it."""
    os.environ.update(environment)
    files = open_files(uri)
    ready.release()
    start.wait(60)
    try:
        with hold_lease(files, SLUG, run_id):
            results.put((run_id, ""))
            time.sleep(2.0)
    except LeaseError as error:
        results.put((run_id, str(error)))


def hold_for_ever(environment, uri, run_id, ready):
    """In a process of its own, which somebody has to end."""
    os.environ.update(environment)
    with hold_lease(open_files(uri), SLUG, run_id):
        ready.release()
        time.sleep(600)


@pytest.fixture
def place(request, uri):
    """A store on a disk, or on an S3 server."""
    return uri if request.param == "disk" else request.getfixturevalue("bucket")


@pytest.fixture
def files(uri):
    return open_files(uri)


def written(files, **fields):
    """A lease as somebody else left it."""
    now = time.time()
    other = Holder(**{"run_id": "other", "host": "far-away", "pid": 4711, "since": now - 99, "beat": now} | fields)
    files.put(f"_leases/operator={SLUG}.json", other.model_dump_json().encode())
    return other


@pytest.mark.parametrize("place", ["disk", "s3"], indirect=True)
def test_of_several_at_once_one_gets_it_and_the_others_learn_who(place):
    Store(place).prepare()
    ready, start, results = WAYS.Semaphore(0), WAYS.Event(), WAYS.Queue()
    runs = [WAYS.Process(target=contend, args=(aws(), place, f"run-{i}", ready, start, results)) for i in range(4)]
    for run in runs:
        run.start()
    for _ in runs:
        assert ready.acquire(timeout=60)
    start.set()
    found = dict(results.get(timeout=60) for _ in runs)
    for run in runs:
        run.join(60)
    winners = [run for run, refusal in found.items() if not refusal]
    assert len(winners) == 1
    for run, refusal in found.items():
        assert run in winners or f"{winners[0]} (process " in refusal and socket.gethostname() in refusal
    assert read_lease(open_files(place), SLUG) is None


@pytest.mark.parametrize("place", ["disk", "s3"], indirect=True)
def test_what_a_killed_run_holds_is_taken_over(place, monkeypatch, caplog):
    monkeypatch.setattr(lease, "SETTLE_S", 0.05)
    Store(place).prepare()
    files, ready = open_files(place), WAYS.Semaphore(0)
    run = WAYS.Process(target=hold_for_ever, args=(aws(), place, "run-1", ready))
    run.start()
    assert ready.acquire(timeout=60)
    with pytest.raises(LeaseError, match=rf"run-1 \(process {run.pid} on .*last sign of life \d s ago"):
        _acquire(files, "run-2")
    os.kill(run.pid, signal.SIGKILL)
    run.join(60)
    with caplog.at_level(logging.WARNING), hold_lease(files, SLUG, "run-2"):
        assert read_lease(files, SLUG).run_id == "run-2"
    assert "left by run run-1" in caplog.text
    assert read_lease(files, SLUG) is None


@pytest.mark.parametrize("name", ["since", "beat"])
@pytest.mark.parametrize("moment", ["1e300", "-1e300", "NaN", "Infinity"])
def test_a_lease_whose_times_mean_nothing_keeps_nobody_out(files, monkeypatch, name, moment):
    monkeypatch.setattr(lease, "SETTLE_S", 0.05)
    text = written(files).model_dump_json()
    damaged = re.sub(rf'"{name}":[0-9.]+', f'"{name}":{moment}', text)
    assert damaged != text
    files.put(f"_leases/operator={SLUG}.json", damaged.encode())
    with hold_lease(files, SLUG, "run-2"):
        assert read_lease(files, SLUG).run_id == "run-2"


def _acquire(files, run_id):
    with hold_lease(files, SLUG, run_id):
        raise AssertionError("two have it")


@pytest.mark.parametrize(("silent_s", "gone"), [(59, False), (61, True)])
def test_a_run_of_another_machine_is_gone_when_it_falls_silent(files, monkeypatch, silent_s, gone):
    monkeypatch.setattr(lease, "SETTLE_S", 0.0)
    written(files, beat=time.time() - silent_s)
    if gone:
        with hold_lease(files, SLUG, "mine"):
            assert read_lease(files, SLUG).run_id == "mine"
    else:
        with pytest.raises(LeaseError, match="other"):
            _acquire(files, "mine")


def test_a_run_that_was_replaced_stops_and_leaves_the_lease_alone(files, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.02)
    with hold_lease(files, SLUG, "mine") as mine:
        mine.check()
        written(files)
        with pytest.raises(LeaseError, match="mine was silent for too long, and run other"):
            mine.check()
        deadline = time.monotonic() + 20
        while mine.lost is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mine.lost.run_id == "other"
    assert read_lease(files, SLUG).run_id == "other"


def test_a_held_lease_shows_signs_of_life(files, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.02)
    with hold_lease(files, SLUG, "mine") as mine:
        first, deadline = read_lease(files, SLUG).beat, time.monotonic() + 20
        while read_lease(files, SLUG).beat == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_lease(files, SLUG).beat > first
        mine.check()


def test_a_moment_without_storage_does_not_cost_the_lease(files, monkeypatch, uri):
    monkeypatch.setattr(lease, "BEAT_S", 0.02)
    with hold_lease(files, SLUG, "mine") as mine:
        os.rename(uri, f"{uri}-away")
        time.sleep(0.1)
        os.path.exists(uri) or os.rename(f"{uri}-away", uri)
        deadline = time.monotonic() + 20
        while read_lease(files, SLUG) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        mine.check()


def test_operators_do_not_wait_for_each_other(files):
    with hold_lease(files, SLUG, "mine"), hold_lease(files, "dino", "theirs"):
        assert read_lease(files, SLUG).run_id == "mine" and read_lease(files, "dino").run_id == "theirs"


def test_a_lease_that_cannot_be_read_is_taken_over(files, monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_S", 0.0)
    files.put(f"_leases/operator={SLUG}.json", b"{")
    with hold_lease(files, SLUG, "mine") as mine:
        mine.check()
