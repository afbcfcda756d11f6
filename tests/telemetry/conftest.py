"""Runs of the sample room that take a moment, an operator that can be told to be slow, and an S3 server."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.config import parse_config

OPERATOR = '''
import time

import torch

from schemas.label_sets import label_set


class Slow:
    """Says of everything that it is wall. Takes its time, and fails on some frames."""

    name, stride, kind, label_set = "slow", 16, "classes", label_set("nyu40")

    def __init__(self, seconds=0.0, failing=(), hanging=None):
        self.seconds, self.failing, self.hanging = seconds, set(failing), hanging

    def encode(self, batch):
        if self.failing & set(batch.frames):
            raise ArithmeticError("secret_key=hunter2 is not a number")
        time.sleep(3600 if self.hanging in batch.frames else self.seconds)
        scores = torch.zeros(len(batch.frames), len(self.label_set.ids), 15, 20)
        scores[:, 0] = 1
        return scores

    def decode(self, features, size):
        return torch.nn.functional.interpolate(features, size)

    def fingerprint(self):
        return "slow-1"
'''


@pytest.fixture(scope="session")
def slow(importable):
    """SPEC of the operator above."""
    (importable / "slow_models").mkdir()
    (importable / "slow_models" / "operators.py").write_text(OPERATOR, encoding="utf-8")
    return "slow_models.operators:Slow"


@pytest.fixture
def settings(sample_room, slow, tmp_path):
    """Config of an unlifted run over the sample room with the local engine, in chunks of 6."""

    def build(operator=None, store=None, **engine):
        return parse_config(
            {
                "source": str(sample_room),
                "store": store or str(tmp_path / "store"),
                "operator": {"spec": slow, "kwargs": operator or {}, "batch_size": 1},
                "lift": {"method": "none"},
                "plan": {"chunk": 6},
                "engine": {"kind": "local", **engine},
            }
        )

    return build


@pytest.fixture
def start():
    """Begin a run in a process of its own: `start(config)`; it ends with the test."""
    running = []
    program = (
        "import sys; from pipeline.run import run_labeling; from schemas.config import LabelingConfig;"
        "run_labeling(LabelingConfig.model_validate_json(sys.argv[1]))"
    )

    def begin(config):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", program, config.model_dump_json()]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def wait_until():
    """`wait_until(condition)` -> its first true value; fails after half a minute."""

    def wait(condition, limit_s=30.0):
        deadline = time.monotonic() + limit_s
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)
        return found

    return wait


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """URI of a store in an empty bucket on a real S3 server of this machine."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(Path(tmp_path).name)
    yield f"s3://{Path(tmp_path).name}/store"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()
