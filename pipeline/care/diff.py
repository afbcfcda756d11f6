"""`lift3d diff`: what is otherwise in one set of labels than in another: two stores, tags of a store, or operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.care.access import open_store
from pipeline.store.codec import decode_label_map
from pipeline.store.files import Files
from pipeline.store.parquet import read_label_file
from pipeline.store.paths import parse
from pipeline.store.query import label_paths, slugs_of
from pipeline.store.tags import tagged_paths
from schemas.errors import StoreError
from schemas.label_sets import LabelSet

NOTHING = "(no label)"
"""The ignore id in transitions."""
_SHOWN = 30

Key = tuple[str, str]
"""Operator (or pair of operators) and scene."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two sets of labels.

    Attributes:
        uri: the store.
        tag: the labels that were visible when this tag was made; those of now where absent.
        operator: only those of this operator (slug or SPEC).
    """

    uri: str
    tag: str | None = None
    operator: str | None = None

    def __str__(self) -> str:
        tag, operator = self.tag and f"at tag {self.tag}", self.operator and f"by {self.operator}"
        return " ".join(filter(None, (self.uri, tag, operator)))


@dataclass(frozen=True, slots=True, order=True)
class FrameKey:
    """A frame by operator, scene and id."""

    operator: str
    scene: str
    frame: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A frame whose prediction differs: how many of its pixels do (None for kinds that are no class maps)."""

    where: FrameKey
    pixels: int | None
    of: int


@dataclass
class Diff:
    """What differs between the labels of A and of B.

    Attributes:
        a, b: what was compared.
        only_a, only_b: frames that are only in one.
        same: frames with the same fingerprint: the same label by contract, looked at only with `every`.
        other: frames with another fingerprint; `changed` are those of the compared whose prediction differs.
        unlike: frames of other kinds or sizes, which cannot be compared.
        pixels, pixels_changed: of the class maps that were compared.
        transitions: (class in A, class in B) -> pixels, where they differ.
    """

    a: str
    b: str
    only_a: list[FrameKey] = field(default_factory=list)
    only_b: list[FrameKey] = field(default_factory=list)
    same: int = 0
    other: int = 0
    changed: list[Changed] = field(default_factory=list)
    unlike: list[FrameKey] = field(default_factory=list)
    pixels: int = 0
    pixels_changed: int = 0
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """As JSON types: transitions with most pixels first, frames with most changed pixels first."""
        moves = [{"from": a, "to": b, "pixels": pixels} for (a, b), pixels in _largest(self.transitions)]
        changed = [{**asdict(c.where), "pixels": c.pixels, "of": c.of} for c in self._most_changed()]
        lists = {name: [asdict(key) for key in getattr(self, name)] for name in ("only_a", "only_b", "unlike")}
        counts = {name: getattr(self, name) for name in ("a", "b", "same", "other", "pixels", "pixels_changed")}
        return {**counts, **lists, "changed": changed, "transitions": moves}

    def table(self) -> str:
        """As text: counts, transitions, and the frames that changed most."""
        share = f" ({self.pixels_changed / self.pixels:.2%})" if self.pixels else ""
        lines = [
            f"A  {self.a}",
            f"B  {self.b}",
            f"{self.same:>9} frames with the same fingerprint",
            f"{self.other:>9} frames with another fingerprint",
            f"{len(self.changed):>9} frames whose prediction differs",
            f"{len(self.only_a):>9} frames only in A",
            f"{len(self.only_b):>9} frames only in B",
            f"{len(self.unlike):>9} frames of another kind or size",
            f"{self.pixels_changed:>9} pixels changed of {self.pixels}{share}",
        ]
        moves = _largest(self.transitions)
        lines += [f"{pixels:>9} px  {a} -> {b}" for (a, b), pixels in moves[:_SHOWN]]
        lines += [f"      ... and {len(moves) - _SHOWN} more (--json has all)"] if len(moves) > _SHOWN else []
        lines += [_line(change) for change in self._most_changed()[:10]]
        return "\n".join(lines)

    def _most_changed(self) -> list[Changed]:
        return sorted(self.changed, key=lambda change: (-(change.pixels or 0), change.where))


def diff(a: Side, b: Side, *, every: bool = False) -> Diff:
    """Compare two sets of labels, frame by frame. Where each side names its operator, those may be different ones.

    Args:
        a, b: what to compare.
        every: compare predictions of frames with equal fingerprints too.

    Raises `StoreError`.
    """
    shelves = _shelves(a, b), _shelves(b, a)
    found = Diff(str(a), str(b))
    files = open_store(a.uri), open_store(b.uri)
    for key in sorted(shelves[0].keys() | shelves[1].keys()):
        rows = [_rows(where, paths.get(key, ())) for where, paths in zip(files, shelves, strict=True)]
        _compare_shelf(found, key, rows[0], rows[1], every=every)
    return found


@dataclass(frozen=True, slots=True)
class _Row:
    """A row, and the label set that its ids are of."""

    cells: Mapping[str, Any]
    label_set: LabelSet | None


def _shelves(side: Side, other: Side) -> dict[Key, list[str]]:
    """Label files by what they are compared with: the same operator and scene, unless both sides name an operator."""
    files, slugs = open_store(side.uri), slugs_of(side.operator)
    paths = tagged_paths(files, side.tag, slugs=slugs) if side.tag else label_paths(files, operator=side.operator)
    if side.operator and not paths:
        raise StoreError(f"{side} holds no labels", remedy="`lift3d status STORE` and docs/store.md say what is there")
    found: dict[Key, list[str]] = {}
    for path in paths:
        if place := parse(path):
            named = side.operator and other.operator and side.operator != other.operator
            found.setdefault(("both" if named else place[1].slug, place[1].scene), []).append(path)
    return found


def _rows(files: Files, paths: Sequence[str]) -> dict[str, _Row]:
    rows = {}
    for path in paths:
        data = files.get(path)
        if data is None:
            raise StoreError(f"{path} vanished", remedy="run the comparison again when no run is at work")
        table, metadata = read_label_file(data, path)
        cells = table.drop_columns(["created_at", "confidence"]).to_pylist()
        rows.update({str(row["frame"]): _Row(row, metadata.label_set) for row in cells})
    return rows


def _compare_shelf(found: Diff, key: Key, a: Mapping[str, _Row], b: Mapping[str, _Row], *, every: bool) -> None:
    for frame in sorted(a.keys() | b.keys()):
        where = FrameKey(*key, frame)
        if frame not in b:
            found.only_a.append(where)
        elif frame not in a:
            found.only_b.append(where)
        else:
            same = a[frame].cells["fingerprint"] == b[frame].cells["fingerprint"]
            found.same, found.other = found.same + same, found.other + (not same)
            if every or not same:
                _compare(found, where, a[frame], b[frame])


def _compare(found: Diff, where: FrameKey, a: _Row, b: _Row) -> None:
    if any(a.cells[name] != b.cells[name] for name in ("kind", "height", "width")):
        found.unlike.append(where)
        return
    of = int(a.cells["height"]) * int(a.cells["width"])
    if a.cells["kind"] != "classes":
        if any(a.cells[name] != b.cells[name] for name in ("features", "image", "scalar")):
            found.changed.append(Changed(where, None, of))
        return
    moves = Counter(dict(_transitions(a, b)))
    found.pixels += of
    found.pixels_changed += moves.total()
    found.transitions.update(moves)
    if moves:
        found.changed.append(Changed(where, moves.total(), of))


def _transitions(a: _Row, b: _Row) -> Iterator[tuple[tuple[str, str], int]]:
    """Pixels by (class in A, class in B), where the classes' names differ."""
    first, second = decode_label_map(a.cells), decode_label_map(b.cells)
    pairs: NDArray[np.int64] = first.astype(np.int64) << 16 | second
    moves: Counter[tuple[str, str]] = Counter()
    for pair, pixels in zip(*np.unique(pairs, return_counts=True), strict=True):
        names = _name(int(pair) >> 16, a.label_set), _name(int(pair) & 0xFFFF, b.label_set)
        if names[0] != names[1]:
            moves[names] += int(pixels)
    yield from moves.items()


def _name(class_id: int, label_set: LabelSet | None) -> str:
    if label_set is None:
        return str(class_id)
    if class_id == label_set.ignore_id:
        return NOTHING
    return label_set.names[label_set.ids.index(class_id)] if class_id in label_set.ids else f"id {class_id}"


def _largest(moves: Counter[tuple[str, str]]) -> list[tuple[tuple[str, str], int]]:
    return sorted(moves.items(), key=lambda item: (-item[1], item[0]))


def _line(change: Changed) -> str:
    where = f"{change.where.operator} {change.where.scene} {change.where.frame}"
    return f"{'-' if change.pixels is None else change.pixels:>9} px  in frame {where}"
