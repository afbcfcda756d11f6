"""The published JSON schema is the one that the code follows."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.label_sets import label_set, label_set_names
from schemas.store import BLOB_COLUMNS, LABEL_SCHEMA, QUARANTINE_SCHEMA, StoreMetadata, metadata_json_schema

PUBLISHED = Path(__file__).parents[2] / "schemas" / "data" / "lift3d-metadata.schema.json"


def test_published_schema_is_generated_from_the_model():
    expected = json.dumps(metadata_json_schema(), indent=2, sort_keys=True) + "\n"
    assert PUBLISHED.read_text(encoding="utf-8") == expected


def test_every_metadata_key_is_explained():
    undocumented = [name for name, field in metadata_json_schema()["properties"].items() if "description" not in field]
    assert not undocumented


@pytest.mark.parametrize("name", [None, *label_set_names()])
def test_metadata_survives_arrow(name):
    metadata = StoreMetadata(
        scene="room", operator="indoor", kind="classes", label_set=name and label_set(name), provenance={"a": [1, None]}
    )
    assert StoreMetadata.from_arrow(metadata.to_arrow()) == metadata
    assert metadata.to_arrow() == StoreMetadata.from_arrow(metadata.to_arrow()).to_arrow()


@pytest.mark.parametrize("schema", [LABEL_SCHEMA, QUARANTINE_SCHEMA])
def test_columns_are_plain_parquet_and_do_not_repeat_the_path(schema):
    assert not {"scene", "operator"} & set(schema.names)
    assert not any(isinstance(field.type, pa.ExtensionType) for field in schema)


def test_blob_columns_are_the_binary_ones():
    assert set(BLOB_COLUMNS) == {field.name for field in LABEL_SCHEMA if pa.types.is_binary(field.type)}
