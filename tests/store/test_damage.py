"""A hundred damaged stores: every one gives a `StoreError` or a problem with a remedy, never anything else."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.store import Store, read_labels, read_metadata, read_quarantine, validate
from pipeline.store.parquet import to_bytes
from pipeline.store.switch import parse_switch
from schemas.errors import StoreError
from schemas.store import LABEL_SCHEMA


def _flip(path, chance):
    data = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _truncate(path, chance):
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def _extend(path, chance):
    path.write_bytes(path.read_bytes() + chance.randbytes(30))


def _text(path, chance):
    path.write_text(chance.choice(["", "[]", "null", "{}", '{"stem": 1}', "\ufeff{", "PAR1PAR1", '"' * 9]))


def _foreign_parquet(path, chance):
    path = path.with_name("000000-0123456789ab.parquet")
    path.write_bytes(to_bytes(pa.table({"x": [chance.random()]})))


def _other_place(path, chance):
    target = path.parent.with_name(f"scene=other{chance.randrange(9)}")
    target.mkdir(exist_ok=True)
    shutil.copy(path, target)


def _link(path, chance):
    path.unlink()
    path.symlink_to(chance.choice(["/nowhere", "/etc/hostname", path.parent, path.name]))


def _folder(path, chance):
    path.unlink()
    path.mkdir()
    (path / "inner.parquet").write_bytes(chance.randbytes(9))


def _odd_names(path, chance):
    path.rename(
        path.with_name(chance.choice(["x.parquet", "-.parquet", "é%zz-1.parquet", "a b-c.parquet", "%00-1.parquet"]))
    )


def _rewritten(column, value):
    def damage(path, chance):
        if path.suffix != ".parquet" or "labels" not in path.parts:
            return _flip(path, chance)
        table = pq.ParquetFile(path).read()
        index = LABEL_SCHEMA.get_field_index(column)
        field = pa.field(column, LABEL_SCHEMA.field(index).type)
        table = table.set_column(index, field, pa.array([value] * len(table), field.type))
        path.write_bytes(to_bytes(table))
        return None

    damage.__name__ = f"_{column}_{value!r:.12}"
    return damage


def _metadata(document):
    def damage(path, chance):
        if path.suffix != ".parquet" or "labels" not in path.parts:
            return _flip(path, chance)
        table = pq.ParquetFile(path).read()
        path.write_bytes(to_bytes(table.replace_schema_metadata({b"lift3d": document})))
        return None

    damage.__name__ = f"_metadata_{document[:12]!r}"
    return damage


DAMAGES = [
    *(_flip, _truncate, _extend, _text, _foreign_parquet, _other_place, _link, _folder, _odd_names),
    *(_rewritten("label", b"\x89PNG"), _rewritten("height", 2**31 - 1), _rewritten("height", -1)),
    *(_rewritten("frame", None), _rewritten("frame", "same"), _rewritten("kind", "classes?"), _rewritten("K", [1.0])),
    *(_rewritten("class_px", [1]), _rewritten("fingerprint", ""), _rewritten("created_at", 2**62)),
    *(_rewritten("schema_version", 9), _rewritten("mean_confidence", float("nan")), _rewritten("confidence", None)),
    *(_metadata(b"{"), _metadata(b"{}"), _metadata(b"\xff"), _metadata(json.dumps({"version": 99}).encode())),
]


def calm(action):
    """The action's result, or the text of its StoreError; any other exception fails the test."""
    try:
        return action()
    except StoreError as error:
        assert error.message and "\n" not in str(error)
        return None


@pytest.fixture(scope="module")
def template(tmp_path_factory, world):
    store = Store(str(tmp_path_factory.mktemp("damage") / "store"))
    store.prepare()
    for scene in ("room", "attic"):
        world.label(store, scene, 5, 3)
    world.write(store, world.chunk("room", world.frames(5), 0, 2, "b", staged=True), world.run(1))
    store.quarantine("indoor", [world.failed("room", "x")], world.run(1))
    store.write_run("run-001", {"frames": 5})
    return store.uri


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_damage_is_found_and_mended_or_explained(tmp_path, template, world, damage, seed):
    uri = str(tmp_path / "store")
    shutil.copytree(template, uri)
    chance = random.Random(seed)
    files = sorted(path for path in Path(uri).rglob("*") if path.is_file())
    only_labels = [path for path in files if path.parts[-4] == "labels"]
    victim = chance.choice(only_labels if seed < 2 else files)
    damage(victim, chance)
    report = calm(lambda: validate(uri))
    if report and seed < 2:
        assert not report.ok
        assert all(problem.message and problem.remedy and problem.path for problem in report.problems)
        json.dumps(report.to_json())
    for read in (read_labels, read_metadata, read_quarantine):
        calm(lambda read=read: read(uri))
    store = Store(uri)
    calm(store.prepare)
    if calm(store.recover) and calm(lambda: store.done_all("indoor")) is not None:
        calm(lambda: store.publish("indoor", "room"))
    calm(lambda: validate(uri))
    calm(lambda: read_labels(uri))


def _with_longer_histograms(data):
    """A label file, once for each list of three numbers in its footer that may count levels: with a fourth number."""
    length = int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -8 - length], data[-8 - length : -8]
    for at, byte in enumerate(footer):
        # Thrift's compact protocol: a list of three integers of 64 bits, each of one byte
        if byte == 0x36 and max(footer[at + 1 : at + 4]) < 128:
            longer = footer[:at] + b"\x46\x00" + footer[at + 1 :]
            yield body + longer + len(longer).to_bytes(4, "little") + b"PAR1"


def test_columns_that_describe_themselves_wrongly_end_in_an_error_and_not_the_process(store, world, uri):
    """Arrow ends the process where it is asked for the size of such a column; so it is a process of its own here."""
    world.label(store, "room", 2, 2)
    (path,) = Path(uri, "labels").rglob("*.parquet")
    files = list(_with_longer_histograms(path.read_bytes()))
    for number, data in enumerate(files):
        path.with_name(f"{number}.damaged").write_bytes(data)
    program = (
        "import sys, pathlib; from pipeline.store import read_labels; from schemas.errors import StoreError\n"
        "path, *damaged = map(pathlib.Path, sys.argv[2:])\n"
        "for one in damaged:\n"
        "    path.write_bytes(one.read_bytes())\n"
        "    try:\n"
        "        read_labels(sys.argv[1])\n"
        "    except StoreError as error:\n"
        "        print(error)\n"
    )
    damaged = sorted(path.parent.glob("*.damaged"))
    command = [sys.executable, "-c", program, uri, str(path), *map(str, damaged)]
    done = subprocess.run(command, env=python_path(), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "level histogram size mismatch" in done.stdout


@pytest.mark.parametrize("name", ["\u202e", "x.parquet", "000000-0123456789ab.parquet", "a-0123456789AB.parquet"])
def test_an_intent_that_would_give_a_retired_file_another_name_is_refused(name):
    intent = json.dumps({"retire": {"000000-7d66c31fa526": name}, "enter": [], "drop": []}).encode()
    with pytest.raises(StoreError, match="is damaged"):
        parse_switch(intent, "switch.json")


def python_path():
    """The environment of a process that finds our modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
