"""The label store: Parquet files that appear whole, and everything to write, resume, query and validate them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.store.codec import decode_confidence as decode_confidence
    from pipeline.store.codec import decode_features as decode_features
    from pipeline.store.codec import decode_image as decode_image
    from pipeline.store.codec import decode_label_map as decode_label_map
    from pipeline.store.codec import decode_scalar as decode_scalar
    from pipeline.store.paths import operator_slug as operator_slug
    from pipeline.store.query import latest_run as latest_run
    from pipeline.store.query import read_labels as read_labels
    from pipeline.store.query import read_metadata as read_metadata
    from pipeline.store.query import read_quarantine as read_quarantine
    from pipeline.store.query import read_run as read_run
    from pipeline.store.store import Commit as Commit
    from pipeline.store.store import RunStamp as RunStamp
    from pipeline.store.store import Store as Store
    from pipeline.store.validation import ValidationReport as ValidationReport
    from pipeline.store.validation import validate as validate

_HOME = {
    "codec": ("decode_confidence", "decode_features", "decode_image", "decode_label_map", "decode_scalar"),
    "paths": ("operator_slug",),
    "query": ("latest_run", "read_labels", "read_metadata", "read_quarantine", "read_run"),
    "store": ("Commit", "RunStamp", "Store"),
    "validation": ("ValidationReport", "validate"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: pyarrow takes longer than a command's --help may."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"pipeline.store.{module}"), name)
    raise AttributeError(f"module 'pipeline.store' has no attribute {name!r}")
