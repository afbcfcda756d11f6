"""Write the page: which operators, which rows, raw predictions and quarantine, then one file."""

from __future__ import annotations

from pathlib import Path

from pipeline.evaluation.raw_labels import RAW_FOLDER
from pipeline.report.page import Page, QuarantineLine, render
from pipeline.report.scoring import Dataset, open_ground_truth
from pipeline.report.sections import LIGHT_COLUMNS, Source, build_section, records
from schemas.config import ReaderConfig
from schemas.errors import ConfigError, StoreError
from schemas.text import masked

MOST_FRAMES = 40
"""Frames shown by default, over all operators."""


def write_report(
    store_uri: str,
    out: Path | None = None,
    gt: str | None = None,
    raw_store: str | None = None,
    *,
    reader: ReaderConfig | None = None,
    most_frames: int = MOST_FRAMES,
) -> Path:
    """Write one self-contained HTML page about a label store; the same store gives the same bytes.

    Args:
        store_uri: label store.
        out: file to write, `report.html` in the working directory where absent.
        gt: dataset with ground truth (NYU40 ids); frames are then ordered by mIoU.
        raw_store: store with the raw predictions; `<store>/_raw` where that is there.
        reader: how `gt` is read.
        most_frames: frames shown at most, the worst ones of each operator.

    Returns:
        The file's path.

    Raises:
        StoreError: a store with neither labels nor quarantine, or a damaged one.
        ConfigError: `out` cannot be written.
        DatasetError: `gt` has none of the store's scenes.
    """
    page = build_page(store_uri, gt, raw_store, reader or ReaderConfig(), most_frames)
    out = out or Path("report.html")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(render(page), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(
            f"cannot write the report to {out}: {error.strerror}", remedy="choose another --out"
        ) from error
    return out


def build_page(store_uri: str, gt: str | None, raw_store: str | None, reader: ReaderConfig, most_frames: int) -> Page:
    """The page of a store as data; see `write_report`."""
    from pipeline.store import read_labels, read_metadata

    labels = read_labels(store_uri, columns=LIGHT_COLUMNS)
    quarantine = _quarantine(store_uri)
    if labels.empty and not quarantine:
        raise StoreError(f"{store_uri} holds no labels", remedy="label something first")
    groups = {str(operator): records(group) for operator, group in labels.groupby("operator", sort=True)}
    dataset: Dataset | None = open_ground_truth(gt, set(labels["scene"]), reader) if gt and groups else None
    sections = [
        build_section(
            Source(
                store=store_uri,
                raw_store=_raw_store(store_uri, raw_store),
                operator=operator,
                rows=rows,
                metadata=read_metadata(store_uri, operator=operator),
                dataset=dataset,
                most=max(1, most_frames // len(groups)),
            )
        )
        for operator, rows in groups.items()
    ]
    return Page(masked(store_uri), masked(gt) if gt else None, tuple(sections), quarantine)


def _raw_store(store_uri: str, raw_store: str | None) -> str | None:
    """The store with the raw predictions, None where there is none."""
    from pipeline.assets import join
    from pipeline.store import read_labels

    if raw_store is not None:
        return raw_store
    beside = join(store_uri, RAW_FOLDER)
    try:
        read_labels(beside, columns=["frame"])
    except StoreError:
        return None
    return beside


def _quarantine(store_uri: str) -> tuple[QuarantineLine, ...]:
    from pipeline.store import read_quarantine

    rows = read_quarantine(store_uri).to_dict("records")
    lines = {
        QuarantineLine(row["scene"], row["frame"] or "whole scene", row["reason"], row["stage"], row["message"])
        for row in rows
    }
    return tuple(sorted(lines, key=lambda line: (line.scene, line.frame, line.reason, line.message)))
