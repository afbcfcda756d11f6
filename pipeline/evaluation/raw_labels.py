"""Which labels of a store are evaluated, and the raw 2D predictions beside them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from schemas.config import LabelingConfig, LiftConfig, parse_config
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
        runs: ids of the runs that labelled them, oldest first.
        is_raw: nothing was lifted: the labels are the raw predictions.
    """

    operator: str
    spec: str
    label_set: LabelSet
    frames: dict[str, list[str]]
    runs: tuple[str, ...]
    is_raw: bool


def stored_labels(store_uri: str, operator: str | None) -> StoredLabels:
    """Find the labels to evaluate. Raises `ConfigError` where they are ambiguous or no class labels."""
    from pipeline.store import read_labels, read_metadata

    rows = read_labels(store_uri, columns=["frame", "lift_mode", "run_id"], operator=operator)
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
            f"operator {found[0]!r} predicts {metadata.kind} without a label set, only named classes can be evaluated",
            remedy="name the ids of precomputed predictions with --set operator.kwargs.label_set=nyu40",
        )
    return StoredLabels(
        operator=found[0],
        spec=metadata.operator,
        label_set=metadata.label_set,
        frames={str(scene): group["frame"].tolist() for scene, group in rows.groupby("scene", sort=True)},
        runs=tuple(sorted(rows["run_id"].unique())),
        is_raw=bool((rows["lift_mode"] == "none").all()),
    )


def raw_labels(store_uri: str, labels: StoredLabels, raw_store: str | None) -> tuple[str, StoredLabels]:
    """The raw 2D predictions beside some labels, and the store they are in.

    They are the labels themselves where nothing was lifted, else those in `raw_store`, else they are made in
    `<store>/_raw` by the recorded configs (and kept there: the second time there is nothing left to do).

    Raises `StoreError` where no config is recorded, `ConfigError` where `raw_store` has another label set.
    """
    if raw_store is None and labels.is_raw:
        return store_uri, labels
    uri = raw_store or _make_raw(store_uri, labels)
    raw = stored_labels(uri, labels.operator)
    if raw.label_set != labels.label_set:
        raise ConfigError(
            f"the raw labels in {uri} are of label set {raw.label_set.name!r}, those in {store_uri} of "
            f"{labels.label_set.name!r}",
            remedy="give raw labels of the same operator and settings",
        )
    return uri, raw


def _make_raw(store_uri: str, labels: StoredLabels) -> str:
    from pipeline.assets import join
    from pipeline.run import run_labeling

    configs = recorded_configs(store_uri, labels)
    raw_uri = join(store_uri, RAW_FOLDER)
    changes = {
        "store": raw_uri,
        "lift": LiftConfig.model_validate({"method": "none"}),
        "engine": configs[-1].engine.model_copy(update={"kind": "local"}),
    }
    for source, reader in dict.fromkeys((config.source, config.reader) for config in configs):
        run_labeling(configs[-1].model_copy(update=changes | {"source": source, "reader": reader}))
    return raw_uri


def recorded_configs(store_uri: str, labels: StoredLabels) -> list[LabelingConfig]:
    """Configs of the runs that made the labels, oldest first; a run that was killed left none."""
    from pipeline.store import read_run

    configs = []
    for run_id in labels.runs:
        with suppress(StoreError):
            if config := read_run(store_uri, run_id).get("config"):
                configs.append(parse_config(config))
    if not configs:
        raise StoreError(
            f"no finished run of operator {labels.spec!r} is recorded in {store_uri}, so its raw predictions cannot be "
            f"made",
            remedy="give a store labelled with --lift none as the raw store, or evaluate without baselines",
        )
    return configs
