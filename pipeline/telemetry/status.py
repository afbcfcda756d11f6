"""`lift3d status`: which runs of a store are alive, and how far its labels are. Reads the store and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from schemas.errors import StoreError

if TYPE_CHECKING:
    from pipeline.store.files import Files
    from pipeline.telemetry.live import Sign

RunState = Literal["live", "stale", "finished", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run.

    Attributes:
        run_id, operator: which one; the operator by its name in the store.
        state: live; stale, which is a run that died without a word; finished, failed, interrupted.
        started: when, ISO 8601.
        host, pid: the driver.
        silent_s: since its last sign of life, of a live or stale run.
        phase: planning or labelling, of a live or stale run.
        labelled, quarantined: frames of this run.
        total: frames that it set out to label; of one that finished, with those that could not be used from the start.
        frames_per_s: since it began to label.
        left_s: estimated seconds to go, of a live run.
        doing: what is being worked on, in words.
        error: why it failed.
    """

    run_id: str
    operator: str
    state: RunState
    started: str = ""
    host: str = ""
    pid: int = 0
    silent_s: float | None = None
    phase: str | None = None
    labelled: int = 0
    quarantined: int = 0
    total: int = 0
    frames_per_s: float = 0.0
    left_s: float | None = None
    doing: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorStatus:
    """The labels of one operator.

    Attributes:
        operator: its name in the store.
        scenes, frames_labelled: what is committed.
        quarantined: frames (and scenes) that are not labelled, by reason.
        frames_planned: usable frames that the latest run found; None where no run has said.
        share: of them, how many are labelled, 0..1.
    """

    operator: str
    scenes: int
    frames_labelled: int
    quarantined: dict[str, int]
    frames_planned: int | None
    share: float | None


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store: its operators, and its runs, latest first."""

    store: str
    operators: tuple[OperatorStatus, ...]
    runs: tuple[RunStatus, ...]

    @property
    def live(self) -> bool:
        """Whether a run is under way."""
        return any(run.state == "live" for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "live": self.live}


def read_status(uri: str) -> StoreStatus:
    """Look at a store. Raises `StoreError` where there is none, or it cannot be read."""
    from pipeline.store.files import open_files
    from pipeline.store.paths import IDENTITY
    from pipeline.telemetry.document import read_documents
    from pipeline.telemetry.live import read_signs

    files = open_files(uri)
    if files.get(IDENTITY, timeout_s=8.0) is None:
        raise StoreError(f"there is no label store at {uri}", remedy="write one with `lift3d label SOURCE --store URI`")
    signs = read_signs(files)
    documents = read_documents(files, signs)
    runs = [_run(run_id, documents.get(run_id, {}), signs.get(run_id)) for run_id in documents.keys() | signs.keys()]
    runs.sort(key=lambda run: run.run_id, reverse=True)
    return StoreStatus(uri, tuple(_operators(uri, files, documents)), tuple(runs))


def _run(run_id: str, document: Mapping[str, Any], sign: Sign | None) -> RunStatus:
    """What its document says of a run that ended, and its sign of life of one that did not say so."""
    state = document.get("state", "finished" if document else "running")
    if state != "running":
        return _ended(run_id, document, state)
    if sign is None:
        return RunStatus(run_id, _operator(document), "stale", **_driver(document))
    return RunStatus(
        run_id,
        sign.operator,
        "live" if sign.is_fresh() else "stale",
        started=str(document.get("started", "")),
        host=sign.host,
        pid=sign.pid,
        silent_s=round(sign.silent_s, 1),
        phase=sign.phase,
        labelled=sign.labelled,
        quarantined=sum(sign.quarantined.values()),
        total=sign.total,
        frames_per_s=sign.frames_per_s,
        left_s=_left(sign),
        doing=sign.doing,
    )


def _left(sign: Sign) -> float | None:
    """Seconds to go from now on, of a run that is alive."""
    return max(0.0, round(sign.left_s - sign.silent_s, 1)) if sign.left_s is not None and sign.is_fresh() else None


def _ended(run_id: str, document: Mapping[str, Any], state: str) -> RunStatus:
    summary = document.get("summary") or {}
    counts = document.get("counts") or {}
    reasons = counts.get("quarantined") or 0
    in_chunks = reasons if isinstance(reasons, int) else sum(reasons.values())
    totals = document.get("totals") or {}
    return RunStatus(
        run_id,
        _operator(document),
        "failed" if state == "failed" else "interrupted" if state == "interrupted" else "finished",
        labelled=summary.get("frames_labelled", counts.get("frames_labelled", 0)),
        quarantined=summary.get("frames_quarantined", in_chunks),
        total=totals.get("to_do", 0) + (totals.get("set_aside", 0) if summary else 0),
        frames_per_s=document.get("frames_per_s", 0.0),
        error=document.get("error"),
        **_driver(document),
    )


def _driver(document: Mapping[str, Any]) -> dict[str, Any]:
    found = {"started": str(document.get("started", "")), "host": str(document.get("host", ""))}
    return {**found, "pid": document.get("pid", 0)}


def _operator(document: Mapping[str, Any]) -> str:
    """The operator's name in the store; documents of early versions hold its SPEC only."""
    from pipeline.store.paths import operator_slug

    spec = ((document.get("config") or {}).get("operator") or {}).get("spec")
    spec = spec[0] if isinstance(spec, list) and spec else spec
    return str(document.get("operator") or (operator_slug(spec) if spec else "unknown"))


def _planned(document: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    """Operators of a run and the usable frames that it found."""
    if isinstance(operators := document.get("operators"), dict):
        yield from ((slug, totals.get("frames")) for slug, totals in operators.items())
    elif totals := document.get("totals"):  # before several operators could work in one pass
        yield _operator(document), totals.get("frames")


def _operators(uri: str, files: Files, documents: Mapping[str, Mapping[str, Any]]) -> Iterator[OperatorStatus]:
    from pipeline.store import read_quarantine
    from pipeline.store.markers import read_markers
    from pipeline.store.paths import COMMITS

    scenes: dict[str, dict[str, int]] = {}
    for shelf, markers in read_markers(files, COMMITS).items():
        scenes.setdefault(shelf.slug, {})[shelf.scene] = sum(len(marker.frames) for marker in markers)
    rows = read_quarantine(uri)
    reasons: dict[str, Counter[str]] = {}
    for slug, reason in zip(rows["operator"], rows["reason"], strict=True):
        reasons.setdefault(slug, Counter())[reason] += 1
    planned = {slug: frames for one in documents.values() for slug, frames in _planned(one)}
    for slug in sorted({*scenes, *reasons, *planned}):
        found = scenes.get(slug, {})
        frames, labelled = planned.get(slug), sum(found.values())
        share = min(1.0, labelled / frames) if frames else None
        yield OperatorStatus(slug, len(found), labelled, dict(sorted(reasons.get(slug, {}).items())), frames, share)
