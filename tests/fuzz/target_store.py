"""Files of a store: labels, their metadata, and everything that a run reads before it writes."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mutators import damage_bytes, damage_json
from targets import Target, load_helpers

from pipeline.care.explain import explain
from pipeline.store import Store, read_labels, read_metadata, read_quarantine, validate
from pipeline.store.codec import decode_confidence, decode_payload
from pipeline.store.files import open_files
from pipeline.store.markers import read_markers
from pipeline.store.parquet import to_bytes
from pipeline.store.paths import COMMITS, STAGING, Shelf
from pipeline.store.query import latest_run
from pipeline.store.switch import Switch
from pipeline.telemetry.show import status_text
from pipeline.telemetry.status import read_status
from schemas.errors import Lift3DError

world = load_helpers("store").World()
SHELF = Shelf("indoor", "room")
STEM = "labels/operator=indoor/scene=room"


def label_file(folder: Path) -> Target:
    """A label file: bytes, or columns with odd values."""
    store, files = _store(folder)
    path = next(path for path in sorted(folder.rglob("*.parquet")) if f"{STEM}/" in str(path))
    seeds = [path.read_bytes()]
    for kind in ("features", "image", "scalar"):
        other = Store(str(folder / kind))
        other.prepare()
        world.write(other, world.chunk("room", world.frames(2), 0, 2), kind=kind)
        seeds += [file.read_bytes() for file in (folder / kind).rglob("labels/**/*.parquet")]
    return Target("label_file", tuple(seeds), _damage_columns, _reading_labels(store, path))


def metadata(folder: Path) -> Target:
    """The `lift3d` document of a label file."""
    store, _ = _store(folder)
    path = next(path for path in sorted(folder.rglob("*.parquet")) if f"{STEM}/" in str(path))
    table = pq.ParquetFile(path).read()
    read = _reading_labels(store, path)

    def run(document: bytes) -> None:
        read(to_bytes(table.replace_schema_metadata({b"lift3d": document})))

    return Target("metadata", (table.schema.metadata[b"lift3d"],), damage_json, run)


def marker(folder: Path) -> Target:
    """A commit marker."""
    store, files = _store(folder)
    path = next(path for path in sorted(folder.rglob("*.json")) if f"{COMMITS}/operator=indoor/scene=room" in str(path))
    return Target("marker", (path.read_bytes(),), damage_json, _recovering(store, folder, path))


def identity(folder: Path) -> Target:
    """`_lift3d.json`."""
    store, _ = _store(folder)
    path = folder / "store" / "_lift3d.json"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        Store(store).check_version()
        found = json.loads(data)
        assert found["format"] == "lift3d-labels" and found["schema_version"] in (0, 1), found
        assert not isinstance(found["schema_version"], bool), found

    return Target("identity", (path.read_bytes(),), damage_json, run)


def switch(folder: Path) -> Target:
    """The intent of a switch, which moves and deletes files by name."""
    store, files = _store(folder)
    live, staged = (read_markers(files, SHELF.folder(area))[SHELF] for area in (COMMITS, STAGING))
    plans = [
        Switch(retire={live[0].stem: f"{live[0].stem}-{live[0].sha256[:12]}.parquet"}, enter=tuple(staged), drop=())
    ]
    plans += [Switch(retire={}, enter=(), drop=(staged[0].stem,))]
    seeds = tuple(plan.model_dump_json().encode() for plan in plans)
    path = folder / "store" / SHELF.intent()
    path.parent.mkdir(parents=True)
    return Target("switch", seeds, damage_json, _recovering(store, folder, path))


def run(folder: Path) -> Target:
    """The document of a run."""
    store, _ = _store(folder)
    path = folder / "store" / "runs" / "run-000.json"  # of the run that made the labels
    path.with_name("run-001.json").unlink()
    config = {"source": "rooms", "store": store, "operator": {"spec": "indoor"}, "engine": {"workers": 2}}
    done = {"frames": 3, "resumed": 0, "to_do": 3, "set_aside": 1}
    ended = {
        "run_id": "run-000",
        "state": "finished",
        "operator": "indoor",
        "host": "vm",
        "pid": 7,
        "config": config,
        "versions": {"lift3d": "0.1.0"},
        "totals": done,
        "operators": {"indoor": done},
        "counts": {"frames_labelled": 3, "quarantined": {"timeout": 1}},
        "frames_per_s": 1.5,
        "summary": {"run_id": "run-000", "frames_labelled": 3, "frames_quarantined": 2},
    }
    early = {"summary": {"scenes": 2, "wall_s": 1.5}, "plan": [], "seconds": {}}

    def read(data: bytes) -> None:
        path.write_bytes(data)
        told = [problem for problem in validate(store).problems if problem.path.startswith("runs/")]
        text = status_text(read_status(store)) + explain(store, "room", "0000")[0].text()
        assert all(line.isprintable() for line in text.splitlines()), "commands to a terminal"
        document = latest_run(store)
        assert isinstance(document, dict)
        assert told or document.get("run_id") in (None, "run-000")

    return Target("run", tuple(json.dumps(one).encode() for one in (ended, early)), damage_json, read)


def quarantine(folder: Path) -> Target:
    """A file of quarantine rows."""
    store, _ = _store(folder)
    path = next((folder / "store" / "quarantine").rglob("*.parquet"))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        rows = read_quarantine(store)
        assert len(rows) and set(rows["scene"]) == {"room"}
        assert all(isinstance(text, str) and text for text in (*rows["reason"], *rows["message"], *rows["stage"]))
        assert (rows["attempts"] >= 1).all() and (rows["attempts"] < 10_000).all()

    return Target("quarantine", (path.read_bytes(),), _damage_columns, read)


def _store(folder: Path) -> tuple[str, object]:
    """A store with labels, staged ones, quarantine and a run; and a canary beside it."""
    uri = str(folder / "store")
    store = Store(uri)
    store.prepare()
    for scene in ("room", "attic"):
        world.label(store, scene, 3, 2)
    world.write(store, world.chunk("room", world.frames(3), 0, 2, "b", staged=True), world.run(1))
    store.quarantine("indoor", [world.failed("room", "x")], world.run(1))
    store.write_run("run-001", {"frames": 5})
    (folder / "canary").write_text("mine")
    return uri, open_files(uri)


def _reading_labels(store: str, path: Path) -> Callable[[bytes], None]:
    """Write the file, then validate, read and decode: what `validate` finds nothing wrong with must decode."""

    def read(data: bytes) -> None:
        path.write_bytes(data)
        problems = [problem for problem in validate(store).problems if problem.path.startswith(STEM)]
        assert all(problem.message.isprintable() and problem.remedy for problem in problems), "a problem without remedy"
        assert all(len(problem.message) < 2_000 for problem in problems), "a problem that prints its input"
        own = [problem for problem in problems if "since it was committed" not in problem.message]
        rows = read_labels(store, scene="room")
        for row in rows.to_dict("records")[:8]:
            try:
                value, confidence = decode_payload(row), decode_confidence(row)
            except Lift3DError as error:
                assert error.remedy and own, f"{error} although nothing is wrong with the file"
            else:
                assert value.size and confidence.shape == (row["height"], row["width"])
                assert own or np.isfinite(np.array(row["world_from_cam"], float)).all()
        read_metadata(f"{store}/{path.relative_to(store)}")

    return read


def _recovering(store: str, folder: Path, path: Path) -> Callable[[bytes], None]:
    """Write the file, put the store in order and publish; then look whether anything outside or elsewhere changed."""
    template = folder / "template"
    shutil.copytree(folder / "store", template)
    attic = _listing(Path(store), "attic")

    def read(data: bytes) -> None:
        shutil.rmtree(store)
        shutil.copytree(template, store)
        path.write_bytes(data)
        target = Store(store)
        try:
            target.prepare()
            target.recover()
            target.done_all("indoor")
            target.publish("indoor", "room")
        finally:
            _check_untouched(folder, template, store, attic)
        left = [problem.message for problem in validate(store).problems]
        told = all("since it was" in text or "marker" in text for text in left)  # markers that lie are found
        assert told, f"after recovery: {left[:3]}"
        assert len(read_labels(store, scene="attic")) == 3

    return read


def _check_untouched(folder: Path, template: Path, store: str, attic: dict[str, bytes]) -> None:
    assert {entry.name for entry in folder.iterdir()} <= {"store", "canary", "current", "template"} | _findings(
        folder
    ), "an escape"
    assert (folder / "canary").read_text() == "mine", "the canary was overwritten"
    assert _listing(Path(store), "attic") == attic, "another scene's files changed"


def _findings(folder: Path) -> set[str]:
    return {entry.name for entry in folder.glob("finding-*")}


def _listing(store: Path, scene: str) -> dict[str, bytes]:
    found = store.rglob(f"scene={scene}/**/*")
    return {str(path.relative_to(store)): path.read_bytes() for path in found if path.is_file()}


_ODD = (
    None,
    -1,
    0,
    1,
    255,
    2**31 - 1,
    2**62,
    -(2**63),
    float("nan"),
    float("inf"),
    1e300,
    "",
    "same",
    "\0",
    b"",
    b"\x89PNG",
)


def _damage_columns(data: bytes, corpus: list[bytes], random: object) -> bytes:
    """A column with one odd value everywhere or in one row, another type, or bytes damaged."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError):
        return damage_bytes(data, corpus, random)
    if random.random() < 0.35 or not table.num_columns or not len(table):
        return damage_bytes(data, corpus, random)
    at = random.randrange(table.num_columns)
    field = table.schema.field(at)
    try:  # the parent may be damaged: text that is not UTF-8 cannot be read either
        values = table.column(at).to_pylist() if field.name != "created_at" else [0] * len(table)
        values[random.randrange(len(values))] = _odd_cell(values, random)
        column = pa.array(values, field.type)
        return to_bytes(table.set_column(at, field.with_nullable(True) if random.random() < 0.3 else field, column))
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return damage_bytes(data, corpus, random)


def _odd_cell(values: list[object], random: object) -> object:
    found = random.choice(values)
    if isinstance(found, bytes) and random.random() < 0.7:
        return damage_bytes(found, [found], random)
    if isinstance(found, list) and random.random() < 0.7:
        changed = [*found, *([random.choice(_ODD)] if random.random() < 0.5 else [])]
        return changed[random.randint(0, 2) :]
    return random.choice(_ODD)
