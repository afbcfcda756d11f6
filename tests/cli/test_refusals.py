"""What a run cannot do without, missing one by one: an error in one line, its exit code, and no wait of ten seconds."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LIMIT_S = 10.0


@dataclass(frozen=True)
class Refusal:
    """A command line that is refused: what is wrong with it, and what is said.

    Attributes:
        says: pattern of the error.
        code: exit code.
        source, store: {tmp}, {room}, {refused} and {silent} are filled in.
        options: more options.
        environment: variables.
    """

    says: str
    code: int = 1
    source: str = "{room}"
    store: str = "{tmp}/store"
    options: tuple[str, ...] = ("--engine", "local")
    environment: dict[str, str] = field(default_factory=dict)


KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
NO_KEYS = {
    "AWS_SHARED_CREDENTIALS_FILE": "{tmp}/none",
    "AWS_CONFIG_FILE": "{tmp}/none",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "{moto}",
}
BUCKET = "s3://bucket/deep"

CASES = {
    "unknown operator": Refusal("'indor' is not known. did you mean 'indoor'", 2, options=("--operator", "indor")),
    "unknown class": Refusal("no_such_package", options=("--operator", "no_such_package.models:Model")),
    "unknown reader": Refusal("reader 'scanet'.*scannet", 2, options=("--reader", "scanet")),
    "no predictions": Refusal("folder is missing", options=("--operator", "precomputed:{tmp}/none")),
    "no weights": Refusal("none.safetensors", 2, options=("--set", "lift.weights={tmp}/none.safetensors")),
    "empty input": Refusal("holds no scene.*it is empty", source="{tmp}/empty"),
    "no input": Refusal("none' cannot be listed", source="{tmp}/none"),
    "file in the way of the store": Refusal("would be below .*file, which is no folder", store="{tmp}/file/store"),
    "store that cannot be created": Refusal("cannot write /proc/none", store="/proc/none"),
    "too many workers": Refusal("engine.workers to at most", options=("--set", "engine.workers=5000")),
    "workers that leave no CPU for reading": Refusal(
        "beside the 0.25 CPU", options=("--set", "engine.cpus_per_worker={cpus}", "--set", "engine.workers=1")
    ),
    "no GPU": Refusal("there is no GPU here", options=("--set", "engine.device=cuda")),
    "events into nowhere": Refusal("events cannot be written", 2, options=("--events", "{tmp}/none/events")),
    "store without credentials": Refusal("store s3://.*locate credentials", store=BUCKET, environment=NO_KEYS),
    "dataset without credentials": Refusal("dataset s3://.*locate credentials", source=BUCKET, environment=NO_KEYS),
    "store with wrong credentials": Refusal(
        "store s3://bucket/deep cannot be reached.*credentials",
        store=BUCKET,
        environment={**KEYS, "AWS_ENDPOINT_URL": "{strict}"},
    ),
    "dataset with wrong credentials": Refusal(
        "dataset s3://bucket/deep cannot be reached.*credentials",
        source=BUCKET,
        environment={**KEYS, "AWS_ENDPOINT_URL": "{strict}"},
    ),
    "no such bucket": Refusal(
        "bucket", store="s3://nobodys-bucket/x", environment={**KEYS, "AWS_ENDPOINT_URL": "{moto}"}
    ),
    "store whose server is gone": Refusal(
        "store s3://bucket/deep", store=BUCKET, environment={**KEYS, "AWS_ENDPOINT_URL": "{refused}"}
    ),
    "store whose server is silent": Refusal(
        "store s3://bucket/deep does not answer within 5 s",
        store=BUCKET,
        environment={**KEYS, "AWS_ENDPOINT_URL": "{silent}"},
    ),
    "dataset whose server is silent": Refusal(
        "dataset s3://bucket/deep does not answer within 5 s",
        source=BUCKET,
        environment={**KEYS, "AWS_ENDPOINT_URL": "{silent}"},
    ),
}
IN_A_PROCESS = {
    "no Ray cluster": Refusal(
        "Ray cluster at 127.0.0.1:{port} does not answer", options=(), environment={"RAY_ADDRESS": "127.0.0.1:{port}"}
    ),
}


@pytest.fixture(scope="module")
def places(sample_room, tmp_path_factory):
    """What placeholders stand for: folders, and servers that answer, ask for real keys, are gone or say nothing."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    tmp = tmp_path_factory.mktemp("refusals")
    (tmp / "empty").mkdir()
    (tmp / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
        gone.close()
        yield {
            "tmp": str(tmp),
            "room": str(sample_room),
            "cpus": str(len(os.sched_getaffinity(0))),
            "port": str(port),
            "refused": f"http://127.0.0.1:{port}",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "moto": "http://{}:{}".format(*moto.get_host_and_port()),
        }
    moto.stop()


@pytest.fixture
def strict(places):
    """The server that answers, while it knows no keys at all: every key is a wrong one."""

    def count(number):
        address, headers = f"{places['moto']}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        request = urllib.request.Request(address, data=number, headers=headers, method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    count(b"0")
    yield places["moto"]
    count(b"inf")


def arguments(refusal, places):
    defaults = () if "--operator" in refusal.options else ("--operator", "efficientnet")
    line = ("label", refusal.source, "--store", refusal.store, *defaults, *refusal.options)
    return [part.format(**places) for part in line]


SLOW = {"dataset whose server is silent", "store whose server is gone"}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case in SLOW else []) for case in CASES], ids=str
)
def test_it_is_refused_at_once_in_one_line(case, lift3d, places, monkeypatch, request):
    refusal = CASES[case]
    if case == "no GPU" and shutil.which("nvidia-smi"):
        pytest.skip("there is a GPU")
    if "{strict}" in refusal.environment.values():
        places = {**places, "strict": request.getfixturevalue("strict")}
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in refusal.environment.items():
        monkeypatch.setenv(name, value.format(**places))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    started = time.monotonic()
    code, out, err = lift3d(*arguments(refusal, places))
    took = time.monotonic() - started
    check(refusal, places, code, out, err)
    assert took < LIMIT_S
    s3fs.S3FileSystem.clear_instance_cache()


def check(refusal, places, code, out, err):
    last = err.rstrip().splitlines()[-1]
    assert (code, out) == (refusal.code, ""), err
    assert last.startswith("error: ")
    assert re.search(refusal.says.format(**places), last), last
    assert "Traceback" not in err
    assert not Path(places["tmp"], "store", "labels").exists()


@pytest.mark.parametrize(
    "case",
    [
        *IN_A_PROCESS,
        *(pytest.param(case, marks=pytest.mark.slow) for case in CASES if "credentials" not in case),
    ],
    ids=str,
)
def test_a_process_of_its_own_ends_in_time(case, places):
    """From the shell, start-up and the end of the process included."""
    refusal = {**IN_A_PROCESS, **CASES}[case]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_ADDRESS"))}
    environment |= {name: value.format(**places) for name, value in refusal.environment.items()}
    command = [sys.executable, "-m", "jobs.cli", *arguments(refusal, places)]
    started = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    took = time.monotonic() - started
    check(refusal, places, done.returncode, done.stdout, done.stderr)
    # Importing what computes takes seconds, and longer where others compute too.
    assert took < LIMIT_S * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


@pytest.mark.slow
def test_a_full_disk_is_noticed_before_any_work(places, predictions, tmp_path):
    """A disk of 64 kB, in a mount namespace of the command's own."""
    mount = f"mount -t tmpfs -o size=64k none {tmp_path}"
    allowed = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode == 0
    if not allowed:
        pytest.skip("this system lets nobody mount in a namespace of their own")
    line = [sys.executable, "-m", "jobs.cli", "label", places["room"], "--store", str(tmp_path / "store")]
    line += ["--operator", f"precomputed:{predictions}", "--set", "operator.kwargs.label_set=nyu40"]
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *line, "--engine", "local"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: labels will take about 0.1 MB, and the disk of" in done.stderr
    assert "make room" in done.stderr
