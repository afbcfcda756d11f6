"""Credentials reach the storage that they are for, and nothing that is written, printed or logged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jobs.cli import main
from pipeline.inspect import inspect_dataset
from pipeline.store import operator_slug
from schemas.config import ReaderConfig
from schemas.errors import ConfigError, DatasetError
from schemas.text import LONGEST, masked, masked_document, presentable

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

KEY, SECRET, TOKEN = (
    "AKIDLIFTTEST12345678",
    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "FwoGZXIvYXdzEBYaDExampleToken==",
)
ADDRESSES = {
    "s3://key:hunter22@bucket/x": "s3://***@bucket/x",
    "s3://key:hun/ter22@bucket/x": "s3://***@bucket/x",
    "s3://key:hunt@er22@bucket/x": "s3://***@bucket/x",
    "https://user:hunter22@host:8080/x?y=1": "https://***@host:8080/x?y=1",
    "https://hunter22@host/x": "https://***@host/x",
    "sftp://user:hunter22@host/x": "sftp://***@host/x",
    "zip://a.zip::s3://key:hunter22@b": "zip://a.zip::s3://***@b",
    "https://host/x?sig=hunter22&v=1": "https://host/x?sig=***&v=1",
    "https://host/x?X-Amz-Signature=hunter22": "https://host/x?X-Amz-Signature=***",
    "https://host/x?a=1&access_token=hunter22#z": "https://host/x?a=1&access_token=***#z",
    "cannot read 's3://key:hunter22@b/x', 'http://u:hunter22@h'": "cannot read 's3://***@b/x', 'http://***@h'",
}
HARMLESS = (
    *(
        "s3://bucket/a@v1/x.png",
        "http://host:9000/a@b",
        "abfs://container@account.dfs.core.windows.net/x",
        "me@host.org",
    ),
    *("/data/a=b?c/x", "K = [1, 2]", "https://host/x?page=2&token_count", "file:///data/user@home/x:y"),
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_credentials_in_addresses_are_masked(address) -> None:
    assert masked(address) == ADDRESSES[address]
    assert masked(ADDRESSES[address]) == ADDRESSES[address]
    assert "hunter22" not in str(DatasetError(f"{address} cannot be read", remedy=f"mend {address}"))


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_credential_stays(text) -> None:
    assert masked(text) == text


def test_secrets_of_the_environment_are_masked_and_places_are_not(monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("MY_SERVICE_TOKEN", "abc")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/etc/identity")
    assert masked(f"refused {SECRET}, abc, /etc/identity") == "refused ***, abc, /etc/identity"


def test_documents_lose_values_under_telling_names() -> None:
    document = {
        "kwargs": {"api_key": "hunter22", "n": 3, "tokens": ["hunter22"]},
        "uri": "s3://a:hunter22@b",
        "key": "k",
    }
    assert masked_document(document) == {
        "kwargs": {"api_key": "***", "n": 3, "tokens": ["***"]},
        "uri": "s3://***@b",
        "key": "k",
    }


def test_a_message_is_one_printable_line_of_moderate_length() -> None:
    text = presentable("a\nb\x00\u202e" + "x" * 10_000)
    assert text.isprintable()
    assert text.startswith("a b\\x00\\u202exx")
    assert len(text) < LONGEST + 10


def test_a_new_password_makes_no_new_operator() -> None:
    slugs = {operator_slug(f"precomputed:https://user:{word}@host/labels") for word in ("one", "another")}
    assert len(slugs) == 1


def test_log_lines_and_tracebacks_are_masked(capsys) -> None:
    import sys

    from jobs.output import set_up_output

    root, hook = logging.getLogger(), sys.excepthook
    handlers, root.handlers[:] = root.handlers[:], []
    try:
        set_up_output(debug=False)
        logging.getLogger("other").warning("cannot open %s", "s3://key:hunter22@b")
        try:
            raise OSError("https://user:hunter22@host") from ValueError("s3://key:hunter22@b")
        except OSError as error:
            logging.getLogger("other").exception("it failed")
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        root.handlers[:], sys.excepthook = handlers, hook
    err = capsys.readouterr().err
    assert err.count("Traceback") >= 2
    assert err.count("***") >= 5
    assert "hunter22" not in err


@pytest.fixture
def bucket(monkeypatch, sample_room):
    """An S3 server that really runs, with the sample room in it and long credentials in the environment."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("rooms")
    scene = "scene9002_00"
    for folder, suffix in (("color", "jpg"), ("pose", "txt"), ("intrinsic", "txt")):
        files = sorted((sample_room / scene / folder).glob(f"*.{suffix}"))[:3]
        system.pipe({f"rooms/data/{scene}/{folder}/{file.name}": file.read_bytes() for file in files})
    yield system
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code or 0


def test_a_run_on_s3_writes_no_credential_anywhere(bucket, tmp_path, capfd, caplog) -> None:
    """Labels, failures and refusals, with keys in the environment and in addresses; then everything is searched."""
    store, report = str(tmp_path / "store"), tmp_path / "report.html"
    options = ["--operator", "tests.fuzz.plain:Plain", "--engine", "local", "--lift", "none"]
    bucket.pipe("rooms/data/scene9002_00/color/0.jpg", b"damaged")
    with caplog.at_level(logging.DEBUG, "lift3d"):
        assert _run("label", "s3://rooms/data", "--store", store, *options) in (0, 3)
        assert _run("label", "s3://rooms/data", "--store", "s3://rooms/labels", *options) in (0, 3)
        for address in (f"s3://{KEY}:{SECRET}@rooms/data", f"s3://user:{SECRET}@rooms/data"):
            assert _run("label", address, "--store", store, *options) == 2
            assert _run("label", "s3://rooms/data", "--store", address, *options) == 2
            assert _run("inspect", address) == 2
        assert _run("label", f"http://user:{SECRET}@127.0.0.1:9/x?token={TOKEN}", "--store", store, *options)
    assert _run("report", store, "--out", str(report)) == 0
    told = [*capfd.readouterr(), caplog.text, report.read_text(encoding="utf-8")]
    local = [path.read_bytes() for path in Path(store).rglob("*") if path.is_file()]
    bucket.invalidate_cache()
    remote = [bucket.cat_file(path) for path in bucket.find("rooms/labels")]
    assert len(local) > 4 and len(remote) > 4 and any("***" in text for text in told)
    for secret in (SECRET, KEY, TOKEN):
        assert not [text for text in told if secret in text]
        assert not [data for data in (*local, *remote) if secret.encode() in data]


def test_an_address_with_keys_is_refused_with_the_way_to_give_them() -> None:
    with pytest.raises(ConfigError, match=r"AWS_ACCESS_KEY_ID") as caught:
        inspect_dataset(f"s3://{KEY}:{SECRET}@rooms/data", ReaderConfig())
    assert SECRET not in str(caught.value)
