"""Readers, operators, planning, engines, store and report. Importing this package imports none of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.labeler import Labeler as Labeler
    from pipeline.operators import build_operator as build_operator
    from pipeline.readers import load_scene as load_scene
    from pipeline.readers import open_dataset as open_dataset
    from pipeline.run import run_labeling as run_labeling
    from pipeline.store import read_labels as read_labels

__version__ = "0.1.0"

_HOME = {
    "Labeler": "pipeline.labeler",
    "build_operator": "pipeline.operators",
    "load_scene": "pipeline.readers",
    "open_dataset": "pipeline.readers",
    "read_labels": "pipeline.store",
    "run_labeling": "pipeline.run",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: torch, Ray and pandas cost seconds."""
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
