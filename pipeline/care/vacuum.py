"""`lift3d vacuum`: what a store holds that nothing needs any more, and its removal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal

from pipeline.care.access import exclusive, open_store, operators_in
from pipeline.store.check import adopt
from pipeline.store.files import Files
from pipeline.store.geometry import CURRENT
from pipeline.store.markers import load_markers
from pipeline.store.paths import COMMITS, GEOMETRY, HISTORY, INTENTS, LABELS, STAGING, is_ours, parse
from pipeline.store.tags import read_tags
from schemas.errors import StoreError

DAY_S = 86400.0
ORPHAN_DAYS = 1.0
"""A run writes a file and its marker right after each other: what is so old belongs to none that is under way."""

Category = Literal["temporary", "orphan", "staging", "history", "geometry"]
CATEGORIES: Mapping[Category, str] = {
    "temporary": "half files of processes that are gone",
    "orphan": "damaged label files without marker, and markers without file",
    "staging": "labels that a killed run left and no run took up",
    "history": "labels and quarantine rows that were replaced",
    "geometry": "kept depths, of other versions or old: they are swept again when needed",
}


@dataclass(frozen=True, slots=True)
class Dispensable:
    """A file that nothing needs.

    Attributes:
        path: relative to the store.
        bytes: its size.
        category: why nothing needs it; see `CATEGORIES`.
        days: since it came to its place.
    """

    path: str
    bytes: int
    category: Category
    days: float


@dataclass(frozen=True, slots=True)
class Vacuum:
    """What was found, and whether it was removed.

    Attributes:
        store: the store's address.
        applied: whether the files are gone.
        files: what can go, or went.
        kept_for_tags: old files that stay because a tag needs them, and their bytes.
    """

    store: str
    applied: bool
    files: tuple[Dispensable, ...]
    kept_for_tags: tuple[int, int]

    @property
    def bytes(self) -> int:
        """Room that it makes."""
        return sum(file.bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        count, size = self.kept_for_tags
        found = {"store": self.store, "applied": self.applied, "bytes": self.bytes}
        kept = {"kept_for_tags": {"files": count, "bytes": size}}
        return {**found, **kept, "files": [asdict(file) for file in self.files]}

    def table(self) -> str:
        """Each file, and sums by category, as text."""
        lines = [f"{f.category:<10} {f.bytes:>13,}  {f.days:>6.1f} d  {f.path}" for f in self.files]
        for category, meaning in CATEGORIES.items():
            chosen = [file.bytes for file in self.files if file.category == category]
            lines.append(f"{category:<10} {sum(chosen):>13,}  bytes in {len(chosen)} files: {meaning}")
        count, size = self.kept_for_tags
        if count:
            lines.append(f"kept for tags: {size:,} bytes in {count} files")
        did = "removed" if self.applied else "would be removed; add --apply to do it"
        return "\n".join([*lines, f"{self.bytes:,} bytes in {len(self.files)} files {did}"])


def vacuum(uri: str, keep_days: float = 30.0, *, apply: bool = False, now: float | None = None) -> Vacuum:
    """Find what nothing needs, and with `apply` remove it. What `labels/` shows or a tag needs always stays.

    Args:
        uri: the store.
        keep_days: replaced labels and staged ones stay for so long.
        apply: remove. Interrupted runs are tidied up first; whole label files without a marker get theirs.
        now: seconds since 1970, for tests.

    Raises `LeaseError` where a run is at work, and `StoreError`, also where a tag is damaged: what it needs is unknown.
    """
    files = open_store(uri)
    if keep_days < 0:
        raise StoreError(f"keep_days is {keep_days}, it cannot be negative", remedy="give 0 to keep no old labels")
    before = _survey(files, uri, keep_days, now)
    if not apply:
        return before.result
    with exclusive(uri, operators_in(files), "vacuum"):
        # Putting the store in order has removed some of it, and set aside what was damaged.
        after = _survey(files, uri, keep_days, now)
        for path in (*(file.path for file in after.result.files), *before.set_aside):
            files.delete(path)
    kept = {*files.list(""), *before.set_aside}
    gone = {file.path: file for file in (*before.result.files, *after.result.files) if file.path not in kept}
    return Vacuum(uri, True, tuple(sorted(gone.values(), key=_order)), after.result.kept_for_tags)


@dataclass(frozen=True, slots=True)
class _Survey:
    """What can go, and where damaged files among it will be once the store is in order."""

    result: Vacuum
    set_aside: tuple[str, ...]


def _survey(files: Files, uri: str, keep_days: float, now: float | None) -> _Survey:
    listed, times = files.list(""), files.times("")
    moment = time.time() if now is None else now
    days = {path: (moment - times.get(path, moment)) / DAY_S for path in listed}
    old = [path for path in listed if days[path] >= keep_days]
    needed = _needed_by_tags(files)
    orphans = {path: place for path, place in _orphans(files, listed).items() if days[path] >= ORPHAN_DAYS}
    found: dict[str, Category] = {path: "history" for path in old if path.startswith(f"{HISTORY}/")}
    kept = [listed[path] for path in needed & found.keys()]
    found = {path: category for path, category in found.items() if path not in needed}
    more: tuple[tuple[Category, Iterable[str]], ...] = (
        ("staging", _abandoned(files, old)),
        ("orphan", orphans),
        ("temporary", files.stale()),
        ("geometry", _kept_geometry(listed, old)),
    )
    for category, paths in more:
        found.update(dict.fromkeys(paths, category))
    dispensable = [Dispensable(p, listed.get(p, 0), c, round(days.get(p, 0.0), 2)) for p, c in found.items()]
    result = Vacuum(uri, False, tuple(sorted(dispensable, key=_order)), (len(kept), sum(kept)))
    return _Survey(result, tuple(place for place in orphans.values() if place))


def _order(file: Dispensable) -> tuple[int, str]:
    return list(CATEGORIES).index(file.category), file.path


def _needed_by_tags(files: Files) -> set[str]:
    shelves = [shelf for tag in read_tags(files) for shelf in tag.shelves]
    return {f"{shelf.shelf.folder(HISTORY)}/{file.retired_name}" for shelf in shelves for file in shelf.files}


def _abandoned(files: Files, old: Iterable[str]) -> list[str]:
    """Staged files that no switch is about to show."""
    switching = {place[1] for path in files.list(INTENTS) if (place := parse(path))}
    staged = [path for path in old if path.startswith(f"{STAGING}/")]
    return [path for path in staged if (place := parse(path)) is None or place[1] not in switching]


def _kept_geometry(listed: Iterable[str], old: Iterable[str]) -> set[str]:
    """Old sweeps, and those that this version has no use for."""
    kept = {path for path in listed if path.startswith(f"{GEOMETRY}/") and is_ours(path)}
    return {path for path in kept if not path.startswith(CURRENT)} | kept.intersection(old)


def _orphans(files: Files, listed: Mapping[str, int]) -> dict[str, str]:
    """Markers without their file (with ""), and label files without marker that cannot be read, with the place that
    they are moved to when the store is put in order. Whole ones get a marker then, and stay."""
    markers, broken = load_markers(files, COMMITS)
    known = {shelf.label(LABELS, m.stem): shelf.marker(COMMITS, m.stem) for shelf, ms in markers.items() for m in ms}
    found = dict.fromkeys([*broken, *(marker for label, marker in known.items() if label not in listed)], "")
    for path in (p for p in listed if p.startswith(f"{LABELS}/") and p not in known and is_ours(p)):
        place, data = parse(path), files.get(path)
        if place is not None and data is not None:
            stem = place[2].removesuffix(".parquet")
            if adopt(data, path, place[1], stem) is None:
                found[path] = f"{place[1].folder(HISTORY)}/damaged/{stem}-{sha256(data).hexdigest()[:12]}.parquet"
    return found
