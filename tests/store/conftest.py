"""A small world to label: scenes, chunks and records made from seeds, so that equal seeds make equal stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.store import RunStamp, Store, operator_slug
from schemas.camera import Camera
from schemas.errors import Reason
from schemas.label_sets import LabelSet
from schemas.record import LabelRecord, QuarantineRecord
from schemas.scene import Asset, Chunk, Frame
from schemas.store import StoreMetadata

H, W = 13, 18
EPOCH = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
CLASSES = LabelSet(
    name="three",
    ids=(1, 2, 300),
    names=("wall", "floor", "lamp"),
    colors=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
    ignore_id=0,
)


class World:
    """Makes what the store is given."""

    label_set = CLASSES
    size = (H, W)

    def run(self, number=0):
        """The stamp of the n-th run, each an hour after the one before."""
        return RunStamp(f"run-{number:03d}", EPOCH + timedelta(hours=number))

    def frame(self, name):
        pose = np.eye(4)
        pose[:3, 3] = [len(name), 1.5, -2.0]
        K = np.array([[20.0, 0, 9], [0, 20, 6.5], [0, 0, 1]])
        return Frame(name, Camera(K, pose, H, W), Asset(f"file:///data/{name}.jpg"))

    def frames(self, count):
        return tuple(self.frame(f"{i:04d}") for i in range(count))

    def record(self, frame, fingerprint, kind="classes", seed=0):
        random = np.random.default_rng([seed, *frame.id.encode()])
        value = {
            "classes": random.choice([0, 1, 2, 300], size=(H, W)).astype(np.uint16),
            "features": random.normal(size=(5, 3, 4)).astype(np.float32),
            "image": random.integers(0, 256, (H, W, 3), dtype=np.uint8),
            "scalar": random.uniform(0, 9, (H, W)).astype(np.float32),
        }[kind]
        return LabelRecord(
            frame=frame,
            kind=kind,
            value=value,
            confidence=random.uniform(0, 1, (H, W)).astype(np.float32),
            consistency=0.75,
            changed=0.25 if kind == "classes" else None,
            sources=("0001", "0002"),
            lift_mode="depth-label",
            model_sha256=None,
            operator_fingerprint="operator-1",
            fingerprint=fingerprint,
        )

    def metadata(self, scene, spec="indoor", kind="classes"):
        return StoreMetadata(
            scene=scene,
            operator=spec,
            kind=kind,
            label_set=CLASSES if kind == "classes" else None,
            provenance={"code": "1"},
        )

    def chunk(self, scene, frames, start, stop, version="a", staged=False):
        """Frames start..stop as one chunk; a frame's fingerprint is `<version>-<id>`."""
        return self.pick(scene, len(frames), range(start, stop), version, staged)

    def pick(self, scene, count, targets, version="a", staged=False):
        """Any of a scene's frames as one chunk."""
        frames = self.frames(count)
        return Chunk(
            scene=scene,
            name=f"{targets[0]:06d}",
            frames=frames,
            targets=tuple(targets),
            sources=((),) * len(frames),
            fingerprints=tuple(f"{version}-{frames[t].id}" for t in targets),
            staged=staged,
        )

    def chunks(self, scene, count, size, version="a", staged=False):
        frames = self.frames(count)
        starts = range(0, count, size)
        return [self.chunk(scene, frames, s, min(s + size, count), version, staged) for s in starts]

    def write(self, store, chunk, run=None, spec="indoor", kind="classes"):
        """Commit a chunk with the records that its frames and fingerprints determine."""
        records = [
            self.record(chunk.frames[t], fingerprint, kind, seed=len(fingerprint))
            for t, fingerprint in zip(chunk.targets, chunk.fingerprints, strict=True)
        ]
        return store.write(
            operator_slug(spec), chunk, records, self.metadata(chunk.scene, spec, kind), run or self.run()
        )

    def label(self, store, scene="room", count=10, size=4, version="a", run=None, staged=False):
        for chunk in self.chunks(scene, count, size, version, staged):
            self.write(store, chunk, run)

    def failed(self, scene, frame, operator="indoor"):
        return QuarantineRecord(scene, frame, operator, "decode", Reason.IMAGE_UNREADABLE, f"cannot read {frame}")


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture
def store(uri):
    store = Store(uri)
    store.prepare()
    return store


@pytest.fixture(scope="module")
def s3():
    """Address of a real S3 server on this machine."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch, request):
    """URI of an empty store on it."""
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{abs(hash(request.node.name))}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/deep/store"
    s3fs.S3FileSystem.clear_instance_cache()
