"""A labelling run from config to summary: check, plan, label, publish, and write down what happened."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline import __version__
from pipeline.engines import Engine, open_engine
from pipeline.finishing import Scenes, settle_attempts
from pipeline.preflight import check_room, worker_memory
from pipeline.progress import OnProgress, Progress, console_progress
from pipeline.reach import check_reachable
from pipeline.survey import Survey, survey
from pipeline.telemetry.events import open_events
from pipeline.telemetry.record import RunRecord
from pipeline.telemetry.tally import Tally
from schemas.config import LabelingConfig
from schemas.store import StoreMetadata
from schemas.text import masked

if TYPE_CHECKING:
    from pipeline.engines.worker import Job

log = logging.getLogger("lift3d")

BYTES_A_PIXEL = {"classes": 0.08, "image": 1.5, "scalar": 1.5}
"""Rough size of a stored frame with its confidence, by kind. Feature maps depend on the operator's channels."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The last line of `lift3d label`.

    Attributes:
        run_id: unique; ids sort by time.
        scenes: scenes that the run covered, readable or not.
        frames_labelled, frames_resumed: labelled now, and labelled before.
        frames_quarantined: frames without a label, and one for each scene that could not be read at all.
        wall_s, frames_per_s: of the whole run.
        store: where the labels are.
    """

    run_id: str
    scenes: int
    frames_labelled: int
    frames_resumed: int
    frames_quarantined: int
    wall_s: float
    frames_per_s: float
    store: str

    @property
    def exit_code(self) -> int:
        """0 where everything is labelled, 3 where something was quarantined."""
        return 3 if self.frames_quarantined else 0


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What `--dry-run` prints.

    Attributes:
        scenes, frames: readable scenes and their usable frames.
        frames_resumed, frames_to_do: labelled before, and left to label, in `chunks` units of work.
        frames_set_aside, scenes_unreadable: what will be quarantined.
        estimated_bytes: rough size of what will be stored; None where the kind does not tell.
        store: where it will be.
    """

    scenes: int
    frames: int
    frames_resumed: int
    frames_to_do: int
    frames_set_aside: int
    scenes_unreadable: int
    chunks: int
    estimated_bytes: int | None
    store: str


def run_labeling(
    config: LabelingConfig, *, on_progress: OnProgress | None = None, only_quarantined: bool = False
) -> RunSummary:
    """Label everything that the config selects and that the store does not hold yet.

    Args:
        config: with `source` and `store` as every process can reach them.
        on_progress: called with every finished chunk; by default progress is shown on stderr.
        only_quarantined: label the frames that are in quarantine, with new tries, and no others.

    Whatever is committed stays, however the run ends. SIGTERM ends it like Ctrl-C, by KeyboardInterrupt.

    Raises `LeaseError` where another run labels with this operator into this store, and
    `ConfigError`, `DatasetError`, `OperatorError`, `StoreError` or `EngineError` where the run cannot start or
    go on. Frames that cannot be labelled are no error: they are counted and quarantined.
    """
    from pipeline.store import RunStamp, Store, operator_slug

    started, stamp = monotonic(), RunStamp.now()
    check_reachable(config)
    slug = operator_slug(config.operator.spec)
    store = Store(config.store)
    with (
        _terminated_like_interrupted(),
        open_events(config.engine.events, stamp.run_id) as events,
        open_engine(config.engine) as engine,
        store.lease(slug, stamp.run_id) as lease,
        RunRecord(config, stamp, slug, store, events, engine) as record,
    ):
        store.recover(slug)
        settle_attempts(config, store, slug, forgive_quarantined=only_quarantined)
        plan = survey(config, store, remember=True, only_quarantined=only_quarantined)
        check_room(config.store, _estimated_bytes(plan))
        engine.fit(worker_memory(plan.chunks, lifts=config.lift.method != "none"))
        job = _job(config, engine, plan, stamp)
        log.info(
            "%d frames to label in %d scenes on %d worker(s), %s; %d are labelled already",
            plan.targets,
            len(plan.plans),
            engine.workers,
            engine.device,
            plan.resumed,
        )
        record.planned(plan)
        with nullcontext(on_progress) if on_progress else console_progress() as show:
            tally = _label(engine, job, plan, Scenes(store, job, plan, lease), record, show)
        summary = _summary(config, plan, tally, stamp.run_id, monotonic() - started)
        record.summarize(asdict(summary))
    return summary


def _summary(config: LabelingConfig, plan: Survey, tally: Tally, run_id: str, wall_s: float) -> RunSummary:
    return RunSummary(
        run_id=run_id,
        scenes=len(plan.plans) + len(plan.unreadable),
        frames_labelled=tally.labelled,
        frames_resumed=plan.resumed,
        frames_quarantined=tally.quarantined + plan.set_aside_frames,
        wall_s=round(wall_s, 3),
        frames_per_s=round(tally.labelled / wall_s, 3),
        store=config.store,
    )


def plan_labeling(config: LabelingConfig, *, only_quarantined: bool = False) -> RunPlan:
    """What `run_labeling` would do. Reads the dataset and the store, writes nothing, starts no engine."""
    from pipeline.store import Store

    check_reachable(config)
    store = Store(config.store)
    store.check_version()
    plan = survey(config, store, only_quarantined=only_quarantined)
    return RunPlan(
        scenes=len(plan.plans),
        frames=sum(p.frames for p in plan.plans),
        frames_resumed=plan.resumed,
        frames_to_do=plan.targets,
        frames_set_aside=sum(len(p.issues) for p in plan.plans),
        scenes_unreadable=len(plan.unreadable),
        chunks=len(plan.chunks),
        estimated_bytes=_estimated_bytes(plan),
        store=config.store,
    )


def _label(engine: Engine, job: Job, plan: Survey, scenes: Scenes, record: RunRecord, show: OnProgress) -> Tally:
    """Work on all chunks; finish each scene as soon as its last chunk is in."""
    scenes.finish_idle()
    tally = Tally()
    started = monotonic()
    for status in engine.run(job, plan.chunks):
        tally.add(status)
        scenes.add(status)
        record.finished(status)
        show(Progress(tally.labelled, tally.quarantined, plan.targets, monotonic() - started, record.left_s))
    return tally


def _job(config: LabelingConfig, engine: Engine, plan: Survey, stamp: Any) -> Job:
    from pipeline.engines.worker import Job

    operator = plan.operator
    metadata = StoreMetadata(
        scene="",
        operator=masked(config.operator.spec),
        kind=operator.kind,
        label_set=operator.label_set,
        provenance={
            "version": __version__,
            "lift": config.lift.model_dump(mode="json", exclude={"weights"}),
            "model_sha256": plan.weights_sha256,
            "operator_fingerprint": operator.fingerprint(),
        },
    )
    resolved = config.engine.model_copy(update={"device": engine.device})
    return Job(config.model_copy(update={"engine": resolved}), stamp, plan.slug, metadata)


def _estimated_bytes(plan: Survey) -> int | None:
    a_pixel = BYTES_A_PIXEL.get(plan.operator.kind)
    if a_pixel is None:
        return None
    cameras = (chunk.frames[target].camera for chunk in plan.chunks for target in chunk.targets)
    return round(a_pixel * sum(camera.height * camera.width for camera in cameras))


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the block, so that a job that is stopped ends in order."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
