"""`lift3d explain`: where a label comes from: operator, views, checkpoint, run, versions, and what went wrong."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.care.access import open_store
from pipeline.care.rows import find_row
from pipeline.store.files import Files
from pipeline.store.parquet import read_table
from pipeline.store.paths import HISTORY, QUARANTINE, RUNS, Shelf, parse
from pipeline.store.query import label_paths, read_run
from pipeline.store.tags import read_tags
from schemas.config import LabelingConfig
from schemas.errors import StoreError
from schemas.store import StoreMetadata
from schemas.text import printable


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a label comes from.

    Attributes:
        operator, scene, frame: which label; `operator` is the slug.
        path: its file, relative to the store.
        row: its row, without pictures and tensors; empty where the frame has no label.
        metadata: the `lift3d` document of its file.
        command: the command line that would give the run its config; None where the run left no document.
        run: of the run's document: state, started, engine, versions, host.
        earlier: replaced versions of the label that are still there, oldest first: fingerprint, run, time, path.
        tags: names of the tags that hold this version.
        quarantine: what went wrong with this frame, oldest first, with `current` for what still counts.
    """

    operator: str
    scene: str
    frame: str
    path: str
    row: dict[str, Any]
    metadata: dict[str, Any]
    command: str | None
    run: dict[str, Any]
    earlier: tuple[dict[str, Any], ...]
    tags: tuple[str, ...]
    quarantine: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}

    def text(self) -> str:
        """As lines of text."""
        return "\n".join(map(printable, _lines(self)))


def explain(uri: str, scene: str, frame: str, operator: str | None = None) -> list[Explanation]:
    """Everything the store knows about a frame's labels, one explanation an operator. Raises `StoreError`.

    A frame without label is explained too, if it is or was in quarantine.
    """
    files = open_store(uri)
    found = []
    paths = label_paths(files, scene, operator)
    quarantine = _quarantine(files, scene, frame)
    slugs = {place[1].slug: place[1] for path in paths if (place := parse(path))}
    for slug, shelf in sorted((slugs | {s.slug: s for s in quarantine if operator in (None, s.slug)}).items()):
        label = find_row(files, [path for path in paths if f"/operator={slug}/" in path], frame)
        rows = quarantine.get(shelf, [])
        if label or rows:
            found.append(_explanation(files, uri, shelf, frame, label, rows))
    if not found:
        raise StoreError(
            f"the store holds nothing about it in {len(paths)} label files and quarantine",
            scene=scene,
            frame=frame,
            remedy="`lift3d inspect SOURCE --json` tells how the dataset names scenes and frames",
        )
    return found


def command_of(config: Mapping[str, Any]) -> str | None:
    """The command line that gives a run this config, defaults left out; None where the config names too little."""
    plain = LabelingConfig(source="-", store="-").model_dump(mode="json")
    source, store, spec = config.get("source"), config.get("store"), config.get("operator", {}).get("spec")
    if not (source and store and spec):
        return None
    words = ["lift3d", "label", source, "--store", store]
    words += [word for one in ([spec] if isinstance(spec, str) else spec) for word in ("--operator", one)]
    for section, values in sorted(config.items()):
        for key, value in sorted(values.items()) if isinstance(values, dict) else ():
            default = plain.get(section, {}).get(key)
            if value != default and (section, key) != ("operator", "spec"):
                words += ["--set", f"{section}.{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _explanation(
    files: Files,
    uri: str,
    shelf: Shelf,
    frame: str,
    label: tuple[str, dict[str, Any], StoreMetadata] | None,
    quarantine: list[dict[str, Any]],
) -> Explanation:
    path, row, metadata = label or ("", {}, None)
    run = _run(uri, str(row["run_id"])) if row else {}
    config = run.pop("config", None)
    return Explanation(
        operator=shelf.slug,
        scene=shelf.scene,
        frame=frame,
        path=path,
        row=row,
        metadata=metadata.model_dump(mode="json") if metadata else {},
        command=command_of(config) if isinstance(config, dict) else None,
        run=run,
        earlier=tuple(_earlier(files, shelf, frame, row)),
        tags=tuple(_tags(files, shelf, path)),
        quarantine=tuple(quarantine),
    )


def _run(uri: str, run_id: str) -> dict[str, Any]:
    """What a run's document says that concerns any of its labels; empty where there is none."""
    try:
        document = read_run(uri, run_id)
    except StoreError:
        return {}
    names = ("run_id", "state", "started", "ended", "host", "engine", "versions", "config")
    return {"run_id": run_id, **{name: document[name] for name in names if name in document}}


def _earlier(files: Files, shelf: Shelf, frame: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Versions other than the row's own; each once, though compactions and rollbacks leave copies."""
    names = ("fingerprint", "operator_fingerprint", "model_sha256", "lift_mode", "run_id", "created_at")
    versions: dict[tuple[str, str], dict[str, Any]] = {}
    for path in files.list(shelf.folder(HISTORY)):
        if "/damaged/" not in path and (label := find_row(files, [path], frame)):
            old = label[1]
            key = old["fingerprint"], old["run_id"]
            if not row or key != (row["fingerprint"], row["run_id"]):
                versions.setdefault(key, {**{name: old[name] for name in names}, "path": path})
    return sorted(versions.values(), key=lambda version: (version["created_at"], version["path"]))


def _tags(files: Files, shelf: Shelf, path: str) -> list[str]:
    stem = path.rpartition("/")[2].removesuffix(".parquet")
    shelves = ((tag.name, s) for tag in read_tags(files) for s in tag.shelves if s.shelf == shelf)
    return [name for name, tagged in shelves if any(file.stem == stem for file in tagged.files)]


def _quarantine(files: Files, scene: str, frame: str) -> dict[Shelf, list[dict[str, Any]]]:
    """Rows of a frame, and of its scene as such, by operator, oldest first; each once, though files are rewritten."""
    found: dict[Shelf, dict[tuple[str, str, bool], dict[str, Any]]] = {}
    for area in (f"{HISTORY}/{QUARANTINE}", QUARANTINE):
        for path in files.list(area):
            place = parse(path.removeprefix(f"{HISTORY}/"))
            if place is None or place[1].scene != scene:
                continue
            for row in read_table(files.get(path) or b"", path).to_pylist():
                if row["frame"] in (frame, None):
                    told = {**row, "created_at": row["created_at"].isoformat(), "current": area == QUARANTINE}
                    key = row["run_id"], row["reason"], row["frame"] is None
                    found.setdefault(place[1], {})[key] = told
    return {
        shelf: sorted(rows.values(), key=lambda row: (row["created_at"], row["current"]))
        for shelf, rows in found.items()
    }


def _lines(told: Explanation) -> list[str]:
    lines = [f"{told.operator}  {told.scene}  {told.frame}"]
    row = told.row
    if row:
        spec = told.metadata["operator"]
        lines += [f"  operator        {spec}, fingerprint {row['operator_fingerprint']}"]
        lines += [f"  label           {row['kind']} {row['width']}x{row['height']}, fingerprint {row['fingerprint']}"]
        lines += [f"  lift            {row['lift_mode']}, checkpoint {row['model_sha256'] or 'none (analytic)'}"]
        lines += [f"  image           {row['image_uri']}"]
        lines += [f"  source views    {len(row['sources'])}: {' '.join(row['sources'])}"]
        lines += [f"  scores          {_scores(row)}"]
        lines += [f"  file            {told.path}"]
        lines += [f"  tags            {', '.join(told.tags) or 'none'}"]
        lines += [f"  run             {row['run_id']} of {row['created_at']}"]
        lines += [f"  command         {told.command or f'not known: {RUNS}/ has no document of this run that says'}"]
        lines += [
            f"  versions        {_pairs(told.run.get('versions'))}",
            f"  engine          {_pairs(told.run.get('engine'))}",
        ]
    else:
        lines += ["  no label"]
    for version in told.earlier:
        lines += [f"  earlier         {version['created_at']} run {version['run_id']}: {version['fingerprint'][:12]}"]
    for bad in told.quarantine:
        state = "in quarantine  " if bad["current"] else "was quarantined"
        lines += [f"  {state} {bad['created_at']} {bad['stage']}, {bad['reason']}: {bad['message']}"]
    return lines


def _scores(row: Mapping[str, Any]) -> str:
    names = ("mean_confidence", "consistency", "changed")
    return ", ".join(f"{name} {row[name]:.3f}" for name in names if row[name] is not None)


def _pairs(values: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items()) if isinstance(values, dict) else "not known"
