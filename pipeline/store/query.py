"""Reading a store: labels as a data frame, metadata, quarantine, run documents. Every function raises `StoreError`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.store.files import Files, RemoteFiles, open_files
from pipeline.store.parquet import check_footer, read_label_file
from pipeline.store.paths import IDENTITY, LABELS, RUNS, Shelf, operator_slug, parse
from pipeline.store.quarantine import read_rows
from pipeline.store.store import Store
from pipeline.store.tags import tagged_paths
from schemas.errors import StoreError
from schemas.run import parse_run
from schemas.store import LABEL_SCHEMA, METADATA_KEY, QUARANTINE_SCHEMA, StoreMetadata

if TYPE_CHECKING:
    import pandas as pd

_PLACE = (pa.field("operator", pa.string()), pa.field("scene", pa.string()))


def read_labels(
    uri: str,
    columns: Sequence[str] | None = None,
    scene: str | None = None,
    operator: str | None = None,
    *,
    tag: str | None = None,
) -> pd.DataFrame:
    """Label rows as a data frame, `operator` (its slug) and `scene` as strings in front.

    Args:
        uri: the store.
        columns: which columns; all of them by default. Blobs are decoded by `decode_label_map(row)` and its kin.
        scene: only this scene.
        operator: only this operator, by slug or by SPEC.
        tag: the labels that were visible when this tag was made, instead of those that are visible now.
    """
    names = list(dict.fromkeys(["operator", "scene", *(columns or LABEL_SCHEMA.names)]))
    unknown = set(names) - set(LABEL_SCHEMA.names) - {"operator", "scene"}
    if unknown:
        raise StoreError(f"no column {sorted(unknown)}", remedy=f"columns are {', '.join(LABEL_SCHEMA.names)}")
    files = open_files(uri)
    paths = tagged_paths(files, tag, scene, slugs_of(operator)) if tag else label_paths(files, scene, operator)
    if not paths:
        _check_is_store(uri)
    return _scan(files, paths, names).to_pandas()


def label_paths(files: Files, scene: str | None = None, operator: str | None = None) -> list[str]:
    """Label files relative to the store, sorted; of one scene or operator (slug or SPEC) where given."""
    slugs = slugs_of(operator)
    paths = []
    for path in files.list(LABELS):
        place = parse(path)
        if place is None or not path.endswith(".parquet") or place[2].startswith((".", "_")):
            continue
        if scene in (None, place[1].scene) and (slugs is None or place[1].slug in slugs):
            paths.append(path)
    return paths


def slugs_of(operator: str | None) -> set[str] | None:
    """Slugs that a user can mean by a slug or a SPEC; None for any operator."""
    return {operator, operator_slug(operator)} if operator else None


def _scan(files: Files, paths: Sequence[str], names: Sequence[str]) -> pa.Table:
    from pyarrow import dataset

    schema = pa.schema([*_PLACE, *LABEL_SCHEMA])
    if not paths:
        return schema.empty_table().select(names)
    try:
        labels = dataset.dataset(
            [f"{files.root}/{path}" for path in paths],
            schema=schema,
            format="parquet",
            filesystem=files.system if isinstance(files, RemoteFiles) else None,
            partitioning=dataset.partitioning(pa.schema(_PLACE), flavor="hive"),
        )
        for fragment in labels.get_fragments():
            if METADATA_KEY not in (fragment.physical_schema.metadata or {}):
                raise StoreError(f"{fragment.path} is not a label file", remedy="move it out of the store")
            with fragment.open() as file:  # its columns' own sizes are not asked for: a damaged one ends the process
                check_footer(fragment.metadata, file.size(), fragment.path)
        table = labels.to_table(columns=list(names))
        table.validate(full=True)  # texts that are no Unicode, which Parquet readers pass on
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise StoreError(f"a label file cannot be read: {first_line}", remedy="`lift3d validate` names it") from error


def read_metadata(uri: str, scene: str | None = None, operator: str | None = None) -> StoreMetadata:
    """The `lift3d` document of a label file (`uri` ends in .parquet) or of a store's first label file that matches.

    In a store with several operators, `operator` (slug or SPEC) is needed.
    """
    if uri.endswith(".parquet"):
        folder, _, name = uri.rpartition("/")
        return _metadata(open_files(folder or "."), name)
    files = open_files(uri)
    paths = label_paths(files, scene, operator)
    if not paths:
        sought = f"of scene {scene or '*'} by operator {operator or '*'}"
        raise StoreError(f"{uri} holds no labels {sought}", remedy=_list_known(files))
    slugs = {place[1].slug for path in paths if (place := parse(path))}
    if len(slugs) > 1:
        raise StoreError(f"{uri} holds labels of several operators", remedy=f"choose one: {', '.join(sorted(slugs))}")
    return _metadata(files, paths[0])


def _metadata(files: Files, path: str) -> StoreMetadata:
    data = files.get(path)
    if data is None:
        raise StoreError(f"there is no file {files.root}/{path}")
    return read_label_file(data, path)[1]


def _list_known(files: Files) -> str:
    places = [place for path in files.list(LABELS) if (place := parse(path))]
    slugs = sorted({place[1].slug for place in places})
    return f"operators in it: {', '.join(slugs) or 'none'}"


def read_quarantine(uri: str, scene: str | None = None, operator: str | None = None) -> pd.DataFrame:
    """Frames that were not labelled, one row each; `operator` (its slug) and `scene` as strings in front."""
    files = open_files(uri)
    slugs = slugs_of(operator)
    schema = pa.schema([*_PLACE, *QUARANTINE_SCHEMA])
    tables = [
        pa.Table.from_arrays([*_place_columns(shelf, len(rows)), *rows.columns], schema=schema)
        for shelf, rows in read_rows(files, scene=scene)
        if slugs is None or shelf.slug in slugs
    ]
    return (pa.concat_tables(tables) if tables else schema.empty_table()).to_pandas()


def _place_columns(shelf: Shelf, rows: int) -> list[pa.Array]:
    return [pa.array([value] * rows, pa.string()) for value in (shelf.slug, shelf.scene)]


def read_run(uri: str, run_id: str) -> dict[str, Any]:
    """The document of a run."""
    if "/" in run_id:
        raise StoreError(f"{run_id!r} is no run id", remedy=f"run documents are in {RUNS}/")
    return _read_run(open_files(uri), f"{RUNS}/{run_id}.json")


def latest_run(uri: str) -> dict[str, Any] | None:
    """The document of the latest run (run ids sort by time), None where there was none."""
    files = open_files(uri)
    runs = [path for path in files.list(RUNS) if path.endswith(".json") and not path.startswith(f"{RUNS}/.")]
    return _read_run(files, runs[-1]) if runs else None


def _read_run(files: Files, path: str) -> dict[str, Any]:
    data = files.get(path)
    if data is None:
        message = f"the run document {files.root}/{path} is not there"
        raise StoreError(message, remedy=f"run documents are in {RUNS}/")
    try:
        return parse_run(data)
    except ValueError as error:
        raise StoreError(f"the run document {files.root}/{path} {error}", remedy="delete it") from error


def _check_is_store(uri: str) -> None:
    if open_files(uri).get(IDENTITY) is None:
        raise StoreError(f"there is no label store at {uri}", remedy="write one with `lift3d label SOURCE --store URI`")
    Store(uri).check_version()
