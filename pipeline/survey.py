"""What a run would do: every scene read and planned against what the store holds already. Labels nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.digests import with_digests
from pipeline.fingerprint import model_fingerprint, trial_mark
from pipeline.lift_weights import weights_sha256
from pipeline.lifting import corrects_sources
from pipeline.plan import ScenePlan, plan_scene
from pipeline.tries import hopeless_rows
from schemas.config import LabelingConfig, OperatorConfig
from schemas.errors import DatasetError, FrameError, Reason
from schemas.label_sets import LabelSet
from schemas.record import QuarantineRecord
from schemas.scene import Chunk, Frame, Scene, SceneRef
from schemas.store import Kind

if TYPE_CHECKING:
    from pipeline.operators.licences import Weights
    from pipeline.store import Store
    from pipeline.store.attempts import Note

THREADS = 8
"""Scenes that are read at once: waiting for storage, mostly."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a driver knows of an operator: it is built for that on the CPU and let go, since networks take gigabytes.

    Attributes:
        kind, label_set, fingerprint: the operator's.
        weights: what it loads, with licences.
    """

    kind: Kind
    label_set: LabelSet | None
    fingerprint: str
    weights: tuple[Weights, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """A run before it starts.

    Attributes:
        operator: which predicts.
        slug: its name in the store.
        weights_sha256: of the lift's checkpoint, None for the analytic lift.
        plans: one a readable scene, most work first.
        unreadable: a row for each scene that could not be read at all.
    """

    operator: Described
    slug: str
    weights_sha256: str | None
    plans: tuple[ScenePlan, ...]
    unreadable: tuple[QuarantineRecord, ...]

    @property
    def chunks(self) -> list[Chunk]:
        """All work, in the order in which it is handed out."""
        return [chunk for plan in self.plans for chunk in plan.chunks]

    @property
    def targets(self) -> int:
        """Frames to label."""
        return sum(plan.targets for plan in self.plans)

    @property
    def set_aside_frames(self) -> int:
        """Frames and scenes that are known not to be labelled before anything is: one quarantine row each."""
        return len(self.unreadable) + sum(len(plan.issues) + len(plan.held) for plan in self.plans)

    @property
    def resumed(self) -> int:
        """Frames whose label is in the store already."""
        return sum(len(plan.resumed) for plan in self.plans)

    def set_aside(self, plan: ScenePlan) -> list[QuarantineRecord]:
        """Rows for the frames of a scene that its reader set aside, and for those that are not tried again."""
        read = (
            QuarantineRecord(plan.scene, issue.frame, self.slug, "read", issue.reason, issue.message)
            for issue in plan.issues
        )
        return [*read, *plan.held]


def survey(config: LabelingConfig, store: Store, *, remember: bool = False, only_quarantined: bool = False) -> Survey:
    """`surveys`, of a config of one operator."""
    (found,) = surveys(config, store, remember=remember, only_quarantined=only_quarantined)
    return found


def surveys(
    config: LabelingConfig, store: Store, *, remember: bool = False, only_quarantined: bool = False
) -> list[Survey]:
    """Read every scene that the config selects, once, and plan it for each operator; see `Survey`.

    With `only_quarantined`, frames that are in quarantine are planned and no others. With `remember`, digests of what
    was read go into the store, so that they are not made again; else nothing is written.

    Raises `DatasetError` where there is no scene, none can be read or none has a usable frame, and whatever building
    the operators raises.
    """
    from pipeline.readers import open_dataset

    refs = open_dataset(config.source, config.reader)
    passes = [_pass(own, store, only_quarantined=only_quarantined) for own in config.each()]

    def look_at(ref: SceneRef) -> list[ScenePlan | QuarantineRecord | None]:
        """A scene that cannot be read costs a quarantine row an operator, not the run."""
        wanted = [one if one.wants(ref) else None for one in passes]
        if not any(wanted):
            return [None for _ in wanted]
        try:
            scene = _read(ref, config, store, remember=remember)
            return [_plan(scene, one.config, one.slug, one.known) if one else None for one in wanted]
        except DatasetError as error:
            return [_unreadable(ref, one.slug, error) if one else None for one in wanted]

    with ThreadPoolExecutor(THREADS) as threads:
        looks = list(threads.map(look_at, refs))
    found = [one.survey(looks[k] for looks in looks) for k, one in enumerate(passes)]
    if not only_quarantined:
        for one in found:
            _check_frames(config.source, one.plans, one.unreadable)
    return found


def _read(ref: SceneRef, config: LabelingConfig, store: Store, *, remember: bool) -> Scene:
    """A scene with the digests of what is in it."""
    from pipeline.readers import load_scene

    scene = load_scene(ref, config.reader)
    table = store.digests(ref.id) if config.plan.content == "bytes" else {}
    scene, digests = with_digests(scene, config.lift, config.plan.content, table)
    if remember and digests != table and config.plan.content == "bytes":
        store.keep_digests(ref.id, digests)
    return scene


def _unreadable(ref: SceneRef, slug: str, error: DatasetError) -> QuarantineRecord:
    reason = error.reason if isinstance(error, FrameError) else Reason.SCENE_UNREADABLE
    return QuarantineRecord(ref.id, None, slug, "read", reason, str(error))


@dataclass(frozen=True, slots=True)
class _Pass:
    """One operator's part in a survey: its config, what it is, and what the store knows of it."""

    config: LabelingConfig
    operator: Described
    slug: str
    weights_sha256: str | None
    known: _Known

    def wants(self, ref: SceneRef) -> bool:
        """Whether a scene is to be planned at all."""
        return self.known.quarantined is None or ref.id in self.known.quarantined

    def survey(self, looks: Iterable[ScenePlan | QuarantineRecord | None]) -> Survey:
        """What came of all scenes."""
        found = list(looks)
        plans = sorted((p for p in found if isinstance(p, ScenePlan)), key=lambda plan: (-plan.targets, plan.scene))
        unreadable = tuple(row for row in found if isinstance(row, QuarantineRecord))
        return Survey(self.operator, self.slug, self.weights_sha256, tuple(plans), unreadable)


def _pass(config: LabelingConfig, store: Store, *, only_quarantined: bool) -> _Pass:
    from pipeline.store import operator_slug

    operator = _described(config.operator)
    slug = operator_slug(config.operator.sole)
    weights = weights_sha256(config.lift)
    known = _Known(
        model=model_fingerprint(config.lift, operator.fingerprint, weights),
        origin={"operator": operator.fingerprint, "checkpoint": weights},
        corrects=corrects_sources(operator.kind, config.lift),
        done=store.done_all(slug),
        hopeless=store.attempts(slug, config.engine.attempts, config.engine.kind).hopeless(),
        quarantined=quarantine_reasons(store.uri, slug) if only_quarantined else None,
    )
    return _Pass(config, operator, slug, weights, known)


def _described(config: OperatorConfig) -> Described:
    """Raises what building it raises, and `ConfigError` where `operator.license` refuses its weights."""
    from pipeline.operators import build_operator
    from pipeline.operators.licences import check_commercial, weights_of

    operator = build_operator(config.sole, config.kwargs, "cpu")
    told = weights_of(operator, config.weights_license)
    if config.license == "commercial":
        check_commercial(config.sole, told)
    return Described(operator.kind, operator.label_set, operator.fingerprint(), told)


@dataclass(frozen=True, slots=True)
class _Known:
    """What decides what is left to do in a scene, besides the scene.

    Attributes:
        model: `model_fingerprint`, of the `operator` and the `checkpoint` in `origin`; corrects: `corrects_sources`.
        done: by scene and frame, the fingerprint of the label that is there.
        hopeless: by scene and frame, what ended workers in earlier runs.
        quarantined: by scene, the frames (None: the scene as such) that a run is restricted to.
    """

    model: str
    origin: Mapping[str, str | None]
    corrects: bool
    done: Mapping[str, Mapping[str, str]]
    hopeless: Mapping[str, Mapping[str, Note]]
    quarantined: Mapping[str, Collection[str | None]] | None


def _plan(scene: Scene, config: LabelingConfig, slug: str, known: _Known) -> ScenePlan:
    held: dict[str, Note] = {}
    if known.quarantined is None:
        notes = known.hopeless.get(scene.id, {})
        held = {f.id: notes[f.id] for f in scene.frames if f.id in notes and _still(notes[f.id], f, config, known)}

    def pick(frame: Frame) -> bool:
        among = None if known.quarantined is None else known.quarantined[scene.id]
        return frame.id not in held and (among is None or None in among or frame.id in among)

    done = known.done.get(scene.id, {})
    plan = plan_scene(scene, config, known.model, done, corrects=known.corrects, pick=pick, origin=known.origin)
    left = {frame: note for frame, note in held.items() if frame not in plan.resumed}
    return replace(plan, held=hopeless_rows(scene.id, slug, left))


def _still(note: Note, frame: Frame, config: LabelingConfig, known: _Known) -> bool:
    """Whether nothing changed since a frame ended its worker."""
    return note.mark == trial_mark(known.model, frame, config.lift)


def quarantine_reasons(uri: str, slug: str) -> dict[str, dict[str | None, str]]:
    """By scene and frame: why frames are in quarantine now; None stands for a scene that could not be read."""
    from pipeline.store import read_quarantine

    rows = read_quarantine(uri, operator=slug)[["scene", "frame", "reason"]]
    found: dict[str, dict[str | None, str]] = {}
    for scene, frame, reason in rows.astype(object).where(rows.notna(), None).itertuples(index=False):
        found.setdefault(scene, {})[frame] = reason
    return found


def _check_frames(source: str, plans: Sequence[ScenePlan], unreadable: tuple[QuarantineRecord, ...]) -> None:
    """Refuse a run that has nothing to label and nothing to resume."""
    if any(plan.frames for plan in plans):
        return
    issues = [issue.message for plan in plans for issue in plan.issues]
    examples = [row.message for row in unreadable] + issues
    raise DatasetError(
        f"{source!r} has no usable frame: {len(unreadable)} of {len(plans) + len(unreadable)} scenes cannot be read, "
        f"{len(issues)} frames were set aside{f' (the first: {examples[0]})' if examples else ''}",
        remedy="`lift3d inspect SOURCE` says why for each frame",
    )
