"""The same readers on an S3 server that really runs: listings, ranged reads, and errors in plain words."""

import pytest

from pipeline import digests
from pipeline.assets import decode_depth, decode_image
from pipeline.readers import load_scene, open_dataset
from schemas.config import LiftConfig, ReaderConfig
from schemas.errors import DatasetError, FrameError, Reason
from schemas.scene import Asset

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

BUCKET = "scenes"


@pytest.fixture(scope="module")
def server():
    """Address of a moto server on a free port."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(server, monkeypatch):
    """An empty bucket, found the way users point s3:// at a server of their own: by environment."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    fs.mkdir(BUCKET)
    yield fs
    fs.rm(BUCKET, recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("layout", ["write_scannet", "write_sens", "write_transforms"])
def test_a_dataset_on_s3_is_the_one_on_disk(make, tmp_path, s3, layout):
    for index, name in enumerate(("scene10", "scene9")):
        getattr(make, layout)(tmp_path / name, make.make_views(3, index))
    s3.put(f"{tmp_path}/", f"{BUCKET}/dataset/", recursive=True)
    config = ReaderConfig()
    remote, local = (open_dataset(uri, config) for uri in (f"s3://{BUCKET}/dataset/", str(tmp_path)))
    assert [ref.id for ref in remote] == [ref.id for ref in local] == ["scene9", "scene10"]
    for there, here in zip(remote, local, strict=True):
        scenes = [load_scene(ref, config) for ref in (there, here)]
        assert not scenes[0].issues
        for a, b in zip(*(scene.frames for scene in scenes), strict=True):
            assert (a.id, a.camera.to_json(), a.image.size) == (b.id, b.camera.to_json(), b.image.size)
            assert a.image.uri.startswith(f"s3://{BUCKET}/dataset/scene")
            assert (decode_image(a.image, a.camera) == decode_image(b.image, b.camera)).all()
            assert (decode_depth(a.depth) == decode_depth(b.depth)).all()


def test_a_large_sens_file_is_read_by_ranges(make, s3, monkeypatch):
    views = make.make_views(2)
    data = make.sens_bytes(views)
    padded = data[:-8] + bytes(3_000_000)  # a tail that only a full download would fetch
    s3.pipe_file(f"{BUCKET}/big/big.sens", padded)
    asked = []
    monkeypatch.setattr(s3fs.core, "_fetch_range", _recording(s3fs.core._fetch_range, asked))
    config = ReaderConfig()
    scene = load_scene(open_dataset(f"s3://{BUCKET}/big", config)[0], config)
    assert len(scene.frames) == 2
    assert 0 < sum(asked) < 2_000


def _recording(fetch, asked):
    def record(fs, bucket, key, version_id, start, end, **options):
        asked.append(end - start)
        return fetch(fs, bucket, key, version_id, start, end, **options)

    return record


def test_a_listing_is_never_stale(make, tmp_path, s3):
    make.write_scannet(tmp_path / "scene1", make.make_views(2))
    s3.put(f"{tmp_path}/", f"{BUCKET}/dataset/", recursive=True)
    config = ReaderConfig()
    (ref,) = open_dataset(f"s3://{BUCKET}/dataset", config)
    assert not load_scene(ref, config).issues
    s3fs.S3FileSystem(skip_instance_cache=True).rm_file(f"{BUCKET}/dataset/scene1/pose/0.txt")
    assert [issue.reason for issue in load_scene(ref, config).issues] == [Reason.POSE_MISSING]


def test_what_is_missing_on_s3_is_missing(s3):
    with pytest.raises(DatasetError, match=f"s3://{BUCKET}/nothing"):
        open_dataset(f"s3://{BUCKET}/nothing", ReaderConfig())
    with pytest.raises(DatasetError, match="cannot be listed"):
        open_dataset("s3://no-such-bucket/dataset", ReaderConfig())
    with pytest.raises(FrameError) as caught:
        decode_depth(Asset(f"s3://{BUCKET}/nothing.png"))
    assert caught.value.reason is Reason.DEPTH_MISSING


def test_a_scene_without_credentials_is_an_error_in_words(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DatasetError, match="cannot be listed"):
        open_dataset(f"s3://{BUCKET}/dataset", ReaderConfig(name="scannet"))


@pytest.mark.parametrize(("layout", "reads"), [("write_scannet", 0), ("write_sens", 6), ("write_transforms", 0)])
def test_contents_on_s3_have_the_digests_that_they_have_on_disk(make, tmp_path, s3, monkeypatch, layout, reads):
    """Whole objects are not even read for them, and ranges of a large one are read once."""
    monkeypatch.setattr(digests, "RACY_NS", 0)
    getattr(make, layout)(tmp_path / "scene0", make.make_views(3))
    s3.put(f"{tmp_path}/scene0/", f"{BUCKET}/dataset/scene0/", recursive=True)
    read = []
    original = digests.read_bytes
    monkeypatch.setattr(digests, "read_bytes", lambda asset: (read.append(asset), original(asset))[1])

    def told(source, known):
        (ref,) = open_dataset(source, ReaderConfig())
        scene, table = digests.with_digests(load_scene(ref, ReaderConfig()), LiftConfig(), "bytes", known)
        return [(f.image.digest, f.depth and f.depth.digest) for f in scene.frames], table

    local, _ = told(str(tmp_path), {})
    read.clear()
    remote, table = told(f"s3://{BUCKET}/dataset", {})
    assert remote == local
    assert None not in {image for image, _ in local}
    assert len(read) == reads
    assert told(f"s3://{BUCKET}/dataset", table)[0] == local
    assert len(read) == reads
