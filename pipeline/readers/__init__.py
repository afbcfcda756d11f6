"""Readers: one file a dataset layout, each a `SceneReader`; third-party ones by entry point group `lift3d.readers`."""

from pipeline.readers.labels import ground_truth
from pipeline.readers.registry import load_scene, open_dataset, reader_names

__all__ = ["ground_truth", "load_scene", "open_dataset", "reader_names"]
