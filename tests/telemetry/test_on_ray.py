"""A run on a real Ray cluster of this machine: what its workers tell, live, in a dump and to Prometheus."""

import re
import time
import urllib.error
import urllib.request

import pytest

from pipeline.run import run_labeling
from pipeline.store import read_run
from pipeline.store.files import open_files
from pipeline.telemetry.events import ChunkFinished, ChunkStarted, parse_event
from pipeline.telemetry.live import read_signs
from pipeline.telemetry.metrics import METRICS
from schemas.errors import EngineError

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray Data sets options of its own that it has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]


def scraped(port):
    """What the metrics endpoint of this machine's node says; empty while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.URLError:
        return ""


def test_workers_tell_who_they_are_what_they_are_at_and_what_they_counted(cluster, settings, tmp_path):
    import ray

    path, signs = tmp_path / "events", []
    config = settings({"failing": ["7"]}, kind="ray", workers=2, events=str(path))
    summary = run_labeling(config, on_progress=lambda _: signs.append(read_signs(open_files(config.store))))
    assert summary.frames_labelled == 23
    events = [parse_event(line) for line in path.read_bytes().splitlines()]
    chunks = [one for one in events if isinstance(one, ChunkFinished)]
    begun = [one for one in events if isinstance(one, ChunkStarted)]
    assert len(chunks) == len(begun) == 4
    assert all(re.fullmatch(r".+:\d+", one.worker) and one.tries == 1 for one in chunks)
    assert all(sign[summary.run_id].phase == "labelling" or sign[summary.run_id].total == 0 for sign in signs)
    document = read_run(config.store, summary.run_id)
    assert document["ray"]["job_id"] == ray.get_runtime_context().get_job_id()
    assert document["memory"]["worker_peak_bytes"] > 100 * 2**20
    assert document["split"]["wait_s"] > 0
    (node,) = (node for node in ray.nodes() if node["Alive"])
    wanted = [name for name in METRICS if "retried" not in name]
    deadline = time.monotonic() + 60
    while not all(name in (text := scraped(node["MetricsExportPort"])) for name in wanted):
        assert time.monotonic() < deadline, f"missing: {[name for name in wanted if name not in text]}"
        time.sleep(0.5)
    ours = [line for line in text.splitlines() if line.startswith(METRICS[0] + "{") and "slow_models" in line]
    counted = [float(line.rpartition(" ")[2]) for line in ours]
    assert sum(counted) == 23
    assert 'reason="operator_failed"' in text
    assert 'stage="encode"' in text


def test_a_stall_says_which_worker_is_at_which_stage_of_which_frame(cluster, settings):
    config = settings({"hanging": "1"}, kind="ray", workers=1, no_progress_s=40)
    pattern = r"scene9002_00/000000 by \S+ for \d+ s on \S+:\d+, encode of 1 for \d+ s"
    with pytest.raises(EngineError, match=f"no chunk finished for 40 s. Being worked on: {pattern}"):
        run_labeling(config)
    text = open_files(config.store).list("runs")
    assert len(text) == 1
