"""The local engine cannot interrupt native code, but it says where a chunk is that takes too long."""

import re

from pipeline.run import run_labeling
from pipeline.telemetry.metrics import METRICS


def test_the_local_engine_logs_where_it_is_when_a_chunk_takes_too_long(settings, caplog):
    caplog.set_level("WARNING", "lift3d")
    assert run_labeling(settings({"seconds": 0.2}, no_progress_s=0.3)).frames_labelled == 24
    lines = [record.message for record in caplog.records]
    assert lines
    pattern = r"no chunk finished for 0.3 s .*scene9002_00/0000\d\d by \S+ for \d s on \S+:\d+, \w+ of \d+ for 0 s"
    assert all(re.search(pattern, line) for line in lines if "encode" in line)
    assert any("encode" in line for line in lines)


def test_metrics_are_named_as_ray_exports_them():
    assert all(name.startswith("ray_lift3d_") for name in METRICS)
