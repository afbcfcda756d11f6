"""Bringing a store back to order after a run was killed: what is whole is kept, what is not is set aside."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from pipeline.store.check import adopt
from pipeline.store.files import Files
from pipeline.store.markers import Marker, format_marker, load_markers
from pipeline.store.paths import COMMITS, HISTORY, INTENTS, LABELS, STAGING, Shelf, parse
from pipeline.store.switch import finish, parse_switch, switch_scene


@dataclass(frozen=True, slots=True)
class Recovered:
    """What `recover` found to do; all zero after a run that ended well.

    Attributes:
        switches: interrupted switches that were finished.
        adopted: whole label files that got the marker they lacked.
        damaged: label files that were moved to `_history/.../damaged/`.
        markers: markers removed because they were damaged or their file is gone.
        doubled: scenes where two files held the same frame.
        temporaries: temporary files removed.
    """

    switches: int = 0
    adopted: int = 0
    damaged: int = 0
    markers: int = 0
    doubled: int = 0
    temporaries: int = 0


def recover(files: Files, slug: str | None) -> Recovered:
    """Repair what a killed run left, of one operator or of all. Repeating it changes nothing. Raises `StoreError`."""
    part = f"/operator={slug}" if slug else ""
    temporaries = files.sweep()
    switches = _finish_switches(files, part)
    live, visible = _mend(files, LABELS, COMMITS, part)
    _, staged = _mend(files, STAGING, STAGING, part)
    doubled = [shelf for shelf, markers in live.items() if _has_doubles(markers)]
    for shelf in doubled:
        switch_scene(files, shelf, live[shelf], staged=())
    adopted, damaged, markers = (a + b for a, b in zip(visible, staged, strict=True))
    return Recovered(switches, adopted, damaged, markers, len(doubled), temporaries)


def _finish_switches(files: Files, part: str) -> int:
    intents = [path for path in files.list(f"{INTENTS}{part}") if path.endswith("/switch.json")]
    for path, data in files.get_many(intents).items():
        if place := parse(path):
            finish(files, place[1], parse_switch(data, path))
    return len(intents)


def _mend(
    files: Files, area: str, marker_area: str, part: str
) -> tuple[dict[Shelf, list[Marker]], tuple[int, int, int]]:
    """Give every whole file of an area its marker; the markers, and counts (adopted, damaged, markers removed)."""
    sizes = _label_files(files, f"{area}{part}")
    markers, broken = load_markers(files, f"{marker_area}{part}")
    known = {(shelf, marker.stem): marker for shelf, found in markers.items() for marker in found}
    gone = [key for key in known if key not in sizes]
    for path in (*broken, *(shelf.marker(marker_area, stem) for shelf, stem in gone)):
        files.delete(path)
    valid = {key: marker for key, marker in known.items() if sizes.get(key) == marker.bytes}
    unknown = sorted(sizes.keys() - valid.keys())
    adopted = {key: marker for key in unknown if (marker := _adopt(files, area, marker_area, *key))}
    mended: dict[Shelf, list[Marker]] = {}
    for (shelf, _), marker in sorted((valid | adopted).items(), key=lambda item: item[1].age):
        mended.setdefault(shelf, []).append(marker)
    return mended, (len(adopted), len(unknown) - len(adopted), len(broken) + len(gone))


def _label_files(files: Files, folder: str) -> dict[tuple[Shelf, str], int]:
    places = ((parse(path), size) for path, size in files.list(folder).items())
    return {
        (place[1], place[2].removesuffix(".parquet")): size
        for place, size in places
        if place and place[2].endswith(".parquet") and not place[2].startswith((".", "_"))
    }


def _adopt(files: Files, area: str, marker_area: str, shelf: Shelf, stem: str) -> Marker | None:
    path = shelf.label(area, stem)
    data = files.get(path) or b""
    marker = adopt(data, path, shelf, stem)
    if marker is None:
        files.move(path, f"{shelf.folder(HISTORY)}/damaged/{stem}-{sha256(data).hexdigest()[:12]}.parquet")
        files.delete(shelf.marker(marker_area, stem))
    else:
        files.put(shelf.marker(marker_area, stem), format_marker(marker))
    return marker


def _has_doubles(markers: list[Marker]) -> bool:
    frames = [frame for marker in markers for frame in marker.frames]
    return len(frames) != len(set(frames))
