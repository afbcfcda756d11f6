"""What flows through the project: cameras, scenes, config, label sets, store schema, errors. No torch, no Ray."""

from schemas.camera import Camera
from schemas.config import LabelingConfig, parse_config
from schemas.errors import Lift3DError, Reason
from schemas.label_sets import LabelSet, label_set
from schemas.scene import Asset, Chunk, Frame, FrameBatch, FrameIssue, Scene, SceneRef
from schemas.store import LABEL_SCHEMA, SCHEMA_VERSION, StoreMetadata

__all__ = [
    "LABEL_SCHEMA",
    "SCHEMA_VERSION",
    "Asset",
    "Camera",
    "Chunk",
    "Frame",
    "FrameBatch",
    "FrameIssue",
    "LabelSet",
    "LabelingConfig",
    "Lift3DError",
    "Reason",
    "Scene",
    "SceneRef",
    "StoreMetadata",
    "label_set",
    "parse_config",
]
