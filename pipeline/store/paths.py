"""Names and places in a label store. Pure string functions: nothing is opened here.

    labels/operator=<slug>/scene=<scene>/<chunk>-<fingerprint12>.parquet    one row a frame
    quarantine/operator=<slug>/scene=<scene>/<run_id>-<hash12>.parquet      frames that were not labelled
    runs/<run_id>.json                                                      one document a run
    _lift3d.json                                                            format and version
    _commits/operator=.../scene=.../<stem>.json                             what each label file holds
    _staging/...                                                            files that wait for `publish`
    _publish/operator=.../scene=.../switch.json                             a switch that is under way
    _history/...                                                            what was replaced
    _attempts/operator=.../scene=.../<chunk>-<hash12>.json                  what is being tried, and what ended workers
    _leases/operator=<slug>.json                                            the run that is labelling now
    _tags/<name>.json                                                       which files made the labels once
    _digests/scene=<scene>.json                                             what the dataset's files held when last read
    geometry/v<contract>/<made by>/<key[:2]>/<key>.zst                      depths swept from RGB, for later runs

Readers of Parquet folders skip names that start with `_` or `.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote, unquote

from schemas.errors import StoreError
from schemas.text import masked

LABELS, COMMITS, STAGING, HISTORY = "labels", "_commits", "_staging", "_history"
INTENTS, QUARANTINE, RUNS, IDENTITY = "_publish", "quarantine", "runs", "_lift3d.json"
ATTEMPTS, LEASES, DIGESTS, TAGS = "_attempts", "_leases", "_digests", "_tags"
GEOMETRY = "geometry"

_PLAIN = re.compile(r"[a-z][a-z0-9_.-]{0,39}")
_HASHED = re.compile(r".*-[0-9a-f]{8}")
_FOLDER = re.compile(r"(?P<area>[^/]+)/operator=(?P<slug>[^/]+)/scene=(?P<scene>[^/]+)/(?P<file>[^/]+)")
_NAME_LIMIT = 200
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_OPERATOR = re.compile(r"(?:^|/)operator=(?P<slug>[^/]+?)(?:\.json)?(?:/|$)")

_SHELVES = r"operator=[^/]+/scene=[^/]+"
_FILE = r"[^/._][^/]*"
_LAYOUT = re.compile(
    "|".join(
        (
            re.escape(IDENTITY),
            rf"(?:{LABELS}|{QUARANTINE})/{_SHELVES}/{_FILE}\.parquet",
            rf"(?:{COMMITS}|{ATTEMPTS})/{_SHELVES}/[^/]+\.json",
            rf"{STAGING}/{_SHELVES}/{_FILE}\.(?:json|parquet)",
            rf"{INTENTS}/{_SHELVES}/switch\.json",
            rf"{HISTORY}/(?:{QUARANTINE}/)?{_SHELVES}/(?:damaged/)?[^/]+\.parquet",
            rf"{LEASES}/operator=[^/]+\.json",
            rf"{TAGS}/{_FILE}\.json",
            rf"{DIGESTS}/scene=[^/]+\.json",
            rf"{RUNS}/{_FILE}\.jsonl?",
            rf"{GEOMETRY}/v\d+/{_FILE}/[0-9a-f]{{2}}/[0-9a-f]{{64}}\.zst",
        )
    )
)


@dataclass(frozen=True, slots=True, order=True)
class Shelf:
    """The labels of one operator for one scene: what is committed, staged and switched together."""

    slug: str
    scene: str

    def folder(self, area: str) -> str:
        """Path of this shelf's folder in an area. Raises `StoreError` for a scene id that no folder can carry."""
        return f"{area}/operator={self.slug}/scene={encode_scene(self.scene)}"

    def label(self, area: str, stem: str) -> str:
        """Path of a label file."""
        return f"{self.folder(area)}/{stem}.parquet"

    def marker(self, area: str, stem: str) -> str:
        """Path of the commit marker of a label file: `area` is COMMITS, or STAGING for a staged file."""
        return f"{self.folder(area)}/{stem}.json"

    def intent(self) -> str:
        """Path of the intent file of a switch."""
        return f"{self.folder(INTENTS)}/switch.json"


def digest_table(scene: str) -> str:
    """Path of what is remembered of a scene's files."""
    return f"{DIGESTS}/scene={encode_scene(scene)}.json"


def operator_slug(spec: str) -> str:
    """Path-safe name of an operator SPEC: `indoor` stays, `precomputed:data/noisy` -> `precomputed-noisy-<hash8>`.

    Wherever anything is changed, a hash of the SPEC is appended, so different SPECs have different slugs, on file
    systems that ignore case too. Credentials in a SPEC are no part of it. Raises `StoreError` for an empty SPEC.
    """
    spec = masked(spec)
    if not spec:
        raise StoreError("the operator has no name", remedy="give `name`, `name:argument` or `package.module:Class`")
    if _PLAIN.fullmatch(spec) and not _HASHED.fullmatch(spec):
        return spec
    name, _, argument = spec.partition(":")
    readable = "-".join(filter(None, (_words(name), _words(argument.rstrip("/").rpartition("/")[2]))))
    digest = sha256(spec.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable or 'operator'}-{digest}"


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-._")[-40:].strip("-._")


def encode_scene(scene: str) -> str:
    """A scene id as one path segment: percent-encoded, as hive readers (pandas, DuckDB, polars) decode it.

    Raises `StoreError` for the ids that no folder can stand for: empty, not Unicode, longer than a file name, or
    Hive's own word for null.
    """
    try:
        encoded = quote(scene, safe="", errors="strict")
    except UnicodeEncodeError:
        raise _bad_scene(scene, "is not valid Unicode") from None
    if not scene or scene == _HIVE_NULL:
        raise _bad_scene(scene, "is empty" if not scene else "is Hive's name for null")
    if len(encoded) > _NAME_LIMIT:
        raise _bad_scene(scene, f"takes {len(encoded)} bytes as a folder name, at most {_NAME_LIMIT} fit")
    return encoded


def _bad_scene(scene: str, problem: str) -> StoreError:
    return StoreError(f"the scene id {scene!a} {problem}", remedy="rename the scene's folder")


def decode_scene(segment: str) -> str:
    """Inverse of `encode_scene`."""
    return unquote(segment)


def parse(path: str) -> tuple[str, Shelf, str] | None:
    """(area, shelf, file name) of a path relative to the store; None for anything that is not laid out like ours."""
    match = _FOLDER.fullmatch(path)
    if match is None:
        return None
    shelf = Shelf(match["slug"], decode_scene(match["scene"]))
    return match["area"], shelf, match["file"]


def is_ours(path: str) -> bool:
    """Whether a path is one that the store's own files can have."""
    return _LAYOUT.fullmatch(path) is not None


def slug_in(path: str) -> str | None:
    """The operator that a path belongs to, in any area; None where it belongs to none."""
    match = _OPERATOR.search(path)
    return match and match["slug"]


def label_stem(chunk: str, frames: Iterable[tuple[str, str]]) -> str:
    """`<chunk>-<fingerprint12>`: equal work has an equal name. `frames` are (frame id, fingerprint) in order."""
    digest = sha256()
    for frame, fingerprint in frames:
        digest.update(f"{len(frame)} {frame} {fingerprint}\n".encode("utf-8", "surrogatepass"))
    return f"{quote(chunk, safe='')}-{digest.hexdigest()[:12]}"


def chunk_of(stem: str) -> str:
    """The chunk's name in a label file's stem."""
    return unquote(stem.rpartition("-")[0])
