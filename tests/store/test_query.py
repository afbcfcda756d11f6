"""Reading a store: with ours, and with nothing of ours."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.store import (
    Store,
    decode_confidence,
    decode_features,
    decode_label_map,
    latest_run,
    operator_slug,
    read_labels,
    read_metadata,
    read_run,
)
from schemas.errors import StoreError
from schemas.store import LABEL_SCHEMA

HOSTILE = ["../x", "<script>", "a=b/c", "a b", "%41", "é", "100%", "null"]


@pytest.fixture
def mixed(store, world):
    """One store with labels, features and images of two scenes."""
    for scene in ("room", "attic"):
        chunk = world.chunk(scene, world.frames(3), 0, 3)
        world.write(store, chunk)
        world.write(store, chunk, spec="dino", kind="features")
        world.write(store, chunk, spec="my.package:Painter", kind="image")
        world.write(store, chunk, spec="depth:x", kind="scalar")
    return store


def test_plain_pandas_in_a_fresh_process_reads_everything(mixed, uri):
    script = (
        "import sys, pandas\n"
        "rows = pandas.read_parquet(sys.argv[1])\n"
        "assert 'pipeline' not in sys.modules and 'schemas' not in sys.modules\n"
        "print(len(rows), sorted(rows.scene.unique()), sorted(rows.kind.unique()))\n"
        "print(rows.groupby(['operator', 'scene'], observed=True).frame.nunique().tolist())\n"
        "print(pandas.read_parquet(sys.argv[1], columns=['frame', 'scene'], filters=[('scene', '==', 'room')]).shape)"
    )
    command = [sys.executable, "-c", script, f"{uri}/labels"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "24 ['attic', 'room'] ['classes', 'features', 'image', 'scalar']",
        str([3] * 8),
        "(12, 2)",
    ]


def test_scene_ids_come_back_as_they_were_from_plain_pandas(store, uri, world):
    for scene in HOSTILE:
        world.write(store, world.chunk(scene, world.frames(1), 0, 1))
    assert sorted(pd.read_parquet(f"{uri}/labels")["scene"].unique()) == sorted(HOSTILE)
    assert sorted(read_labels(uri)["scene"]) == sorted(HOSTILE)
    assert all(len(read_labels(uri, scene=scene)) == 1 for scene in HOSTILE)
    outside = {path.name for path in Path(uri).parent.iterdir()}
    assert outside == {"store"}


def test_numeric_scene_ids_stay_strings_with_ours(store, uri, world):
    for scene in ("001", "1"):
        world.write(store, world.chunk(scene, world.frames(1), 0, 1))
    assert sorted(read_labels(uri)["scene"]) == ["001", "1"]


def test_quarantine_reads_with_plain_pandas(mixed, uri, world):
    mixed.quarantine("indoor", [world.failed("room", "x"), world.failed("attic", None)], world.run())
    rows = pd.read_parquet(f"{uri}/quarantine")
    assert len(rows) == 2 and set(rows["scene"]) == {"room", "attic"} and set(rows["operator"]) == {"indoor"}


def test_duckdb_reads_the_labels(mixed, uri):
    duckdb = pytest.importorskip("duckdb")
    query = (
        "select operator, count(*), sum(octet_length(label)) > 0, sum(len(class_ids)) from "
        f"read_parquet('{uri}/labels/**/*.parquet', hive_partitioning = true) group by operator order by operator"
    )
    rows = duckdb.sql(query).fetchall()
    slugs = [operator_slug(spec) for spec in ("depth:x", "dino", "indoor", "my.package:Painter")]
    assert [row[:2] for row in rows] == [(slug, 6) for slug in slugs]
    assert rows[2][2] and rows[2][3] > 0


def test_polars_reads_the_labels(mixed, uri):
    polars = pytest.importorskip("polars")
    rows = polars.read_parquet(f"{uri}/labels/**/*.parquet", hive_partitioning=True)
    assert len(rows) == 24 and set(rows["scene"]) == {"room", "attic"}
    pixels = rows.filter(polars.col("operator") == "indoor").explode("class_ids", "class_px")["class_px"].sum()
    assert pixels == 6 * 13 * 18


def test_labels_come_as_a_frame_with_plain_strings(mixed, uri):
    rows = read_labels(uri)
    assert list(rows.columns) == ["operator", "scene", *LABEL_SCHEMA.names] and len(rows) == 24
    assert all(isinstance(value, str) for value in [*rows["scene"], *rows["operator"]])


def test_columns_scene_and_operator_narrow_what_is_read(mixed, uri):
    rows = read_labels(uri, columns=["frame", "kind"], scene="room", operator="my.package:Painter")
    assert list(rows.columns) == ["operator", "scene", "frame", "kind"]
    assert rows["frame"].tolist() == ["0000", "0001", "0002"] and set(rows["kind"]) == {"image"}
    by_slug = read_labels(uri, columns=["frame", "kind"], scene="room", operator=operator_slug("my.package:Painter"))
    pd.testing.assert_frame_equal(rows, by_slug)
    assert read_labels(uri, columns=["scene"])["scene"].value_counts().to_dict() == {"room": 12, "attic": 12}
    assert read_labels(uri, scene="cellar").empty


def test_rows_of_a_mixed_frame_decode(mixed, uri, world):
    for _, row in read_labels(uri, operator="dino").iterrows():
        assert decode_features(row).shape == (5, 3, 4) and decode_confidence(row).shape == world.size
    for row in read_labels(uri, operator="indoor").to_dict("records"):
        assert set(decode_label_map(row).ravel().tolist()) <= {0, 1, 2, 300}


@pytest.mark.parametrize("read", [read_labels, read_metadata])
def test_what_is_no_store_is_an_error(tmp_path, read):
    with pytest.raises(StoreError, match="no label"):
        read(str(tmp_path / "nothing"))


def test_an_empty_store_has_no_rows_but_all_columns(store, uri):
    rows = read_labels(uri)
    assert rows.empty and "label" in rows and latest_run(uri) is None


def test_an_unknown_column_is_an_error_that_lists_the_columns(mixed, uri):
    with pytest.raises(StoreError, match=r"no column \['labels'\].*mean_confidence"):
        read_labels(uri, columns=["labels"])


def test_metadata_of_a_store_an_operator_and_a_file(mixed, uri, world):
    assert read_metadata(uri, operator="indoor").label_set == world.label_set
    assert read_metadata(uri, "attic", "dino") == world.metadata("attic", "dino", "features")
    (path,) = Path(uri).glob("labels/operator=dino/scene=room/*.parquet")
    assert read_metadata(str(path)).scene == "room"
    with pytest.raises(StoreError, match=r"several operators.*dino, indoor"):
        read_metadata(uri)
    with pytest.raises(StoreError, match=r"operators in it: .*dino"):
        read_metadata(uri, operator="clip")


def test_run_documents(store, uri):
    store.write_run("20260101-a", {"frames": 1})
    store.write_run("20260102-b", {"frames": 2})
    assert latest_run(uri) == {"frames": 2} and read_run(uri, "20260101-a") == {"frames": 1}
    with pytest.raises(StoreError, match="not there"):
        read_run(uri, "x")
    for outside in ("../secret", "/etc/passwd"):
        with pytest.raises(StoreError, match="is no run id"):
            read_run(uri, outside)


def test_a_store_may_be_named_by_a_relative_path(tmp_path, world, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("out/labels")
    store.prepare()
    world.label(store, count=2)
    assert len(read_labels("out/labels")) == 2 and (tmp_path / "out/labels/labels").is_dir()
