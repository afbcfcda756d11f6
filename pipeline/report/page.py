"""The page as data, and its rendering. Nothing here reads a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TEMPLATE = "report.html"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a frame; `image` is a data URI, or empty with `note` saying why there is none."""

    title: str
    image: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One frame: its pictures and its scores (None where there is none)."""

    scene: str
    frame: str
    panels: tuple[Panel, ...]
    miou: float | None
    consistency: float | None
    confidence: float | None
    changed: float | None


@dataclass(frozen=True, slots=True)
class SceneLine:
    """A scene in numbers: labelled frames and means over them."""

    scene: str
    frames: int
    miou: float | None
    consistency: float | None
    confidence: float | None
    changed: float | None


@dataclass(frozen=True, slots=True)
class ClassLine:
    """A class in numbers: share of all pixels, frames it occurs in, and with ground truth IoU lifted and raw."""

    id: int
    name: str
    color: str
    share: float
    frames: int
    iou: float | None
    raw_iou: float | None


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """Scores against ground truth of one set of labels (lifted or raw)."""

    name: str
    miou: float
    accuracy: float
    mean_accuracy: float
    boundary_f1: float | None


@dataclass(frozen=True, slots=True)
class Section:
    """Everything about one operator's labels; `total_frames` also counts the frames that are not shown."""

    operator: str
    spec: str
    kind: str
    lift_modes: tuple[str, ...]
    total_frames: int
    order: str
    confidence: float | None
    consistency: float | None
    changed: float | None
    scores: tuple[ScoreLine, ...]
    scenes: tuple[SceneLine, ...]
    classes: tuple[ClassLine, ...]
    rows: tuple[FrameRow, ...]
    provenance: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuarantineLine:
    """A frame (or a whole scene) that was not labelled."""

    scene: str
    frame: str
    reason: str
    stage: str
    message: str


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    store: str
    ground_truth: str | None
    sections: tuple[Section, ...]
    quarantine: tuple[QuarantineLine, ...]


def render(page: Page) -> str:
    """The page as one HTML document without scripts or external resources; every text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": _percent, "score": _score}
    return environment.get_template(TEMPLATE).render(page=page)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
