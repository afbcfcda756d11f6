"""Stores that earlier versions wrote, read for ever: `golden/<version>/store` and what is in it as JSON.

They are never written again. A new schema version adds a folder, made by `describe` from a store of that version.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.care.compact import compact
from pipeline.care.explain import explain
from pipeline.care.tags import rollback
from pipeline.store import Store, decode_confidence, read_labels, read_metadata, read_quarantine, read_run, validate
from pipeline.store.codec import decode_payload
from pipeline.store.recover import Recovered
from schemas.store import LABEL_SCHEMA, SCHEMA_VERSION

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
BLOBS = ("label", "features", "image", "scalar", "confidence")


def plain(value):
    """A cell as JSON types."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    return value.item() if isinstance(value, np.generic) else value


def rows_of(table):
    return [{name: plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def describe(uri):
    """Everything that is in a store, decoded, as JSON types."""
    rows = []
    for row in read_labels(uri).sort_values(["operator", "scene", "frame"]).to_dict("records"):
        told = {name: plain(value) for name, value in row.items() if name not in BLOBS}
        payload = np.asarray(decode_payload(row), np.float64).round(4).tolist()
        trust = np.asarray(decode_confidence(row) * 255, np.float64).round().astype(int).tolist()
        rows.append({**told, "payload": payload, "confidence": trust})
    operators = sorted({row["operator"] for row in rows})
    return {
        "rows": rows,
        "quarantine": rows_of(read_quarantine(uri)),
        "metadata": {slug: read_metadata(uri, operator=slug).model_dump(mode="json") for slug in operators},
        "run": read_run(uri, "run-000"),
        "done": {slug: Store(uri).done_all(slug) for slug in operators},
        "tagged": read_labels(uri, tag="first").sort_values(["operator", "frame"])["fingerprint"].tolist(),
    }


def test_every_version_up_to_now_has_a_golden_store():
    assert [f"v{number}" for number in range(1, SCHEMA_VERSION + 1)] == VERSIONS


@pytest.fixture(params=VERSIONS)
def golden(request):
    return GOLDEN / request.param


def test_a_golden_store_is_in_order_and_holds_what_it_held(golden):
    uri = str(golden / "store")
    assert validate(uri).problems == ()
    expected = json.loads((golden / "content.json").read_text(encoding="utf-8"))
    found = json.loads(json.dumps(describe(uri)))
    assert found.keys() == expected.keys()
    for part in expected:
        assert found[part] == expected[part], part
    assert len(found["rows"]) == 5 and {row["kind"] for row in found["rows"]} == {
        "classes",
        "features",
        "image",
        "scalar",
    }


def test_plain_pandas_reads_a_golden_store(golden):
    rows = pd.read_parquet(golden / "store" / "labels")
    assert len(rows) == 5 and set(LABEL_SCHEMA.names) <= set(rows.columns)


def test_a_golden_store_can_be_worked_on(golden, tmp_path, world):
    uri = str(tmp_path / "store")
    shutil.copytree(golden / "store", uri)
    store = Store(uri)
    store.prepare()
    assert store.recover() == Recovered() and explain(uri, "room", "0000")
    world.write(store, world.pick("room", 2, [0], "new", staged=True), world.run(9))
    store.publish("indoor", "room")
    assert store.done("indoor", "room") == {"0000": "new-0000", "0001": "a-0001"}
    compact(uri)
    assert validate(uri).problems == ()
    rollback(uri, "first")
    assert store.done("indoor", "room") == {"0000": "a-0000", "0001": "a-0001"} and validate(uri).problems == ()
