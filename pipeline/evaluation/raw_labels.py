"""Which labels of a store are evaluated, and the raw 2D predictions beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from schemas.config import EngineConfig, LabelingConfig, LiftConfig, parse_config
from schemas.errors import ConfigError, StoreError
from schemas.label_sets import LabelSet

RAW_FOLDER = "_raw"
"""Sub-store with the raw predictions: names with an underscore are never read as labels."""


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """One operator's labels in a store.

    Attributes:
        operator: slug, as in the store's paths.
        spec: the operator's SPEC as the user wrote it.
        label_set: what the class ids mean.
        frames: labelled frame ids, by scene.
        is_raw: nothing was lifted: the labels are the raw predictions.
    """

    operator: str
    spec: str
    label_set: LabelSet
    frames: dict[str, list[str]]
    is_raw: bool


def stored_labels(store_uri: str, operator: str | None) -> StoredLabels:
    """Find the labels to evaluate. Raises `ConfigError` where they are ambiguous or no class labels."""
    from pipeline.store import read_labels, read_metadata

    rows = read_labels(store_uri, columns=["frame", "kind", "lift_mode"], operator=operator)
    found = sorted(rows["operator"].unique())
    if len(found) != 1:
        raise ConfigError(
            f"the store {store_uri} holds labels of {len(found)} operators ({', '.join(found) or 'none'}), expected one"
            + (f" named {operator!r}" if operator else ""),
            remedy="choose one with --operator" if found else "label something first",
        )
    metadata = read_metadata(store_uri, operator=found[0])
    if metadata.kind != "classes" or metadata.label_set is None:
        raise ConfigError(
            f"operator {found[0]!r} predicts {metadata.kind}, and only classes with a label set can be evaluated",
            remedy="name the ids of precomputed predictions with --set operator.kwargs.label_set=nyu40",
        )
    frames = {scene: group["frame"].tolist() for scene, group in rows.groupby("scene", sort=True)}
    is_raw = bool((rows["lift_mode"] == "none").all())
    return StoredLabels(found[0], metadata.operator, metadata.label_set, frames, is_raw)


def raw_store_of(store_uri: str, labels: StoredLabels) -> str:
    """The store with the raw predictions of the same frames by the same operator; made where it is not there yet."""
    from pipeline.assets import join
    from pipeline.run import run_labeling

    if labels.is_raw:
        return store_uri
    raw_uri = join(store_uri, RAW_FOLDER)
    config = latest_config(store_uri, labels.spec)
    run_labeling(
        config.model_copy(
            update={"store": raw_uri, "lift": LiftConfig(method="none"), "engine": EngineConfig(kind="local")}
        )
    )
    return raw_uri


def latest_config(store_uri: str, spec: str) -> LabelingConfig:
    """Config of the newest run that labelled with the operator. Raises `StoreError` where none is recorded."""
    from pipeline.assets import filesystem, join

    files, path = filesystem(join(store_uri, "runs"))
    found = sorted(files.glob(f"{path}/*.json"))
    runs = [json.loads(files.cat_file(name)) for name in found]
    configs = [parse_config(run["config"]) for run in runs if run["config"]["operator"]["spec"] == spec]
    if not configs:
        raise StoreError(
            f"no run with operator {spec!r} is recorded under {store_uri}/runs, so its raw predictions cannot be made",
            remedy="give a store labelled with --lift none as raw_store, or evaluate without baselines",
        )
    return configs[-1]
