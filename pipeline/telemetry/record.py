"""The driver's account of its run: it is told what happens, and keeps document, sign of life and events up to date."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from pipeline.telemetry.document import plan_rows, plan_totals, ray_job, versions
from pipeline.telemetry.eta import SIMULATED, Eta, load_of
from pipeline.telemetry.events import (
    ChunkFinished,
    ChunkStarted,
    EventLog,
    FrameQuarantined,
    RunFinished,
    RunStarted,
    ScenePlanned,
    ScenePublished,
    State,
)
from pipeline.telemetry.live import Sign, beating, bury, new_sign, worst
from pipeline.telemetry.tally import Tally, rounded
from pipeline.telemetry.trace import Doing, Finished, peak_rss
from schemas.config import LabelingConfig
from schemas.errors import Lift3DError, StoreError
from schemas.record import QuarantineRecord

if TYPE_CHECKING:
    from pipeline.store import RunStamp, Store
    from pipeline.survey import Survey


class Working(Protocol):
    """Of `pipeline.engines.Engine`, what is told of it."""

    device: str
    workers: int

    def doing(self) -> Sequence[Doing]:
        """What is being worked on; asked every few seconds, from another thread."""
        ...


class RunRecord:
    """An account of one run, for the time of a `with` block: however that ends is how the run ended.

    Args:
        config, stamp, slugs: of the run.
        store: where the account is kept.
        events: where events go.
        engine: what does the work.

    Entering writes the run's document. Raises `StoreError` where that fails; later failures to write are passed over,
    since labels matter more than the account of them.
    """

    def __init__(
        self,
        config: LabelingConfig,
        stamp: RunStamp,
        slugs: Sequence[str],
        store: Store,
        events: EventLog,
        engine: Working,
    ) -> None:
        self._config, self._stamp, self._slugs = config, stamp, slugs
        self._store, self._events = store, events
        self._working = engine
        self._tally = Tally()
        self._plans: Sequence[Survey] = ()
        self._eta: Eta | None = None
        self._left: tuple[float, float] | None = None
        self._scenes: dict[tuple[str, str], list[int]] = {}
        self._begun: set[tuple[str, str, str]] = set()
        self._started = monotonic()
        self._labelling: float | None = None
        self._summary: dict[str, Any] | None = None
        self._lock = threading.RLock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        from pipeline.store.files import open_files

        files = open_files(self._store.uri)
        bury(files, self._store.write_run, self._slugs)
        with ExitStack() as opening:
            self._soon = opening.enter_context(beating(files, self._sign))
            self._store.write_run(self._stamp.run_id, self._document("running"))
            self._open = opening.pop_all()
        self._events(
            RunStarted(
                operator=", ".join(self._slugs),
                source=self._config.source,
                store=self._config.store,
                engine=self._engine["kind"],
                workers=self._engine["workers"],
                device=self._engine["device"],
                host=socket.gethostname(),
                pid=os.getpid(),
            )
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        state, reason = _outcome(error)
        with suppress(StoreError):
            self._store.write_run(self._stamp.run_id, self._document(state, reason))
        self._open.close()
        self._events(
            RunFinished(
                state=state,
                error=reason,
                frames_labelled=self._tally.labelled,
                frames_quarantined=self._quarantined(),
                wall_s=round(monotonic() - self._started, 3),
            )
        )

    def planned(self, plans: Sequence[Survey]) -> None:
        """It is known what there is to do, operator by operator, and the work begins."""
        with self._lock:
            self._plans, self._labelling = plans, monotonic()
            self._scenes = {(one.slug, p.scene): [len(p.chunks), 0, 0] for one in plans for p in one.plans}
            loads = {(one.slug, c.scene, c.name): load_of(c) for one in plans for c in one.chunks}
            self._eta = Eta(loads, self._working.workers)
        with suppress(StoreError):
            self._store.write_run(self._stamp.run_id, self._document("running"))
        self._soon()
        for plan in plans:
            self._tell_plan(plan)

    def _tell_plan(self, plan: Survey) -> None:
        for row in plan.plans:
            aside = plan.set_aside(row)
            self._events(
                ScenePlanned(
                    operator=plan.slug,
                    scene=row.scene,
                    frames=row.frames,
                    to_do=row.targets,
                    resumed=len(row.resumed),
                    set_aside=len(aside),
                    chunks=len(row.chunks),
                )
            )
            self._tell(aside)
        self._tell(plan.unreadable)

    def finished(self, status: Finished) -> None:
        """A chunk came in, and is dealt with: where it was its scene's last one, the scene is published."""
        trace, now = status.trace, monotonic()
        with self._lock:
            self._tally.add(status)
            if self._eta is not None:
                self._eta.finished((status.operator, status.scene, status.chunk), trace.worker, trace.wall_s, now)
        self._began((status.operator, status.scene, status.chunk), trace.worker, trace.started)
        self._events(
            ChunkFinished(
                operator=status.operator,
                scene=status.scene,
                chunk=status.chunk,
                frames=status.labelled,
                quarantined=len(status.quarantined),
                views=trace.views,
                seconds=rounded(status.seconds),
                wall_s=round(trace.wall_s, 3),
                worker=trace.worker,
                tries=trace.tries,
            )
        )
        self._tell(status.quarantined)
        scene = self._scenes[status.operator, status.scene]
        scene[:] = scene[0] - 1, scene[1] + status.labelled, scene[2] + len(status.quarantined)
        if scene[0] == 0:
            told = {"operator": status.operator, "scene": status.scene, "frames": scene[1], "quarantined": scene[2]}
            self._events(ScenePublished(**told))

    def summarize(self, summary: Mapping[str, Any]) -> None:
        """What the run came to, for the document that is written when it ends."""
        self._summary = dict(summary)

    @property
    def _engine(self) -> dict[str, Any]:
        working = self._working
        return {"kind": self._config.engine.kind, "workers": working.workers, "device": working.device}

    @property
    def left_s(self) -> float | None:
        """Estimated seconds to go; None before the first chunk came in."""
        with self._lock:
            if self._eta is None:
                return None
            now = monotonic()
            few = sum(len(plan.chunks) for plan in self._plans) <= SIMULATED
            if self._left is None or few or now - self._left[0] > 1.0:
                left = self._eta.left_s(now)
                if left is None:
                    return None
                self._left = now, left
            return max(0.0, self._left[1] - (now - self._left[0]))

    def _began(self, work: tuple[str, str, str], worker: str, when: float) -> None:
        with self._lock:
            if work in self._begun:
                return
            self._begun.add(work)
        started, (operator, scene, chunk) = datetime.fromtimestamp(when, UTC), work
        self._events(ChunkStarted(ts=started, operator=operator, scene=scene, chunk=chunk, worker=worker))

    def _tell(self, rows: Sequence[QuarantineRecord]) -> None:
        for row in rows:
            details = {name: value for name, value in asdict(row).items() if name in FrameQuarantined.model_fields}
            names = {name: _unicode(details[name]) for name in ("frame", "message")}
            self._events(FrameQuarantined(**{**details, **names, "reason": str(row.reason)}))

    def _sign(self) -> Sign:
        """The present sign of life."""
        doing = self._working.doing()
        for one in doing:
            if one.scene:
                began = datetime.now(UTC).timestamp() - one.seconds
                self._began((one.operator, one.scene, one.chunk), one.worker, began)
        sign = new_sign(self._stamp.run_id, self._slugs)
        with self._lock:
            if self._labelling is None:
                return sign
            seconds = monotonic() - self._labelling
            more = {
                "phase": "labelling",
                "resumed": sum(plan.resumed for plan in self._plans),
                "labelled": self._tally.labelled,
                "quarantined": dict(self._tally.reasons),
                "total": sum(plan.targets for plan in self._plans),
                "seconds": round(seconds, 3),
                "frames_per_s": round(self._tally.labelled / seconds, 3) if seconds else 0.0,
                "left_s": self.left_s,
                "doing": worst(doing),
            }
        return sign.model_copy(update=more)

    def _quarantined(self) -> int:
        return self._tally.quarantined + sum(plan.set_aside_frames for plan in self._plans)

    def _document(self, state: State, error: str | None = None) -> dict[str, Any]:
        config = self._config.model_dump(mode="json")
        document = {
            "run_id": self._stamp.run_id,
            "state": state,
            "error": error,
            "operator": ", ".join(self._slugs),
            "started": self._stamp.created_at.isoformat(),
            "ended": None if state == "running" else datetime.now(UTC).isoformat(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "ray": ray_job(),
            "config": {**config, "engine": {**config["engine"], "device": self._engine["device"]}},
            "engine": self._engine,
            "versions": versions(),
        }
        return {**document, **self._planned_part(), **(self._outcome_part() if state != "running" else {})}

    def _planned_part(self) -> dict[str, Any]:
        if not self._plans:
            return {}
        rows = [row for plan in self._plans for row in plan_rows(plan.slug, plan.plans)]
        counted = {plan.slug: plan_totals(plan) for plan in self._plans}
        names = ("frames", "resumed", "to_do", "set_aside")
        totals = {name: sum(one[name] for one in counted.values()) for name in names}
        weights = {plan.slug: [one.to_json() for one in plan.operator.weights] for plan in self._plans}
        of_each = {slug: {**counts, "weights": weights[slug]} for slug, counts in counted.items()}
        scenes = len({row["scene"] for row in rows})
        return {"plan": rows, "totals": {"scenes": scenes, **totals}, "operators": of_each}

    def _outcome_part(self) -> dict[str, Any]:
        now = monotonic()
        labelling = now - self._labelling if self._labelling is not None else 0.0
        planning = (self._labelling or now) - self._started
        on_gpu = self._working.device == "cuda"
        part = {
            "counts": self._tally.to_json(),
            "seconds": rounded({"plan": planning, **self._tally.seconds}),
            "split": {
                "labelling_s": round(labelling, 3),
                **self._tally.split(self._working.workers, labelling, on_gpu=on_gpu),
            },
            "frames_per_s": round(self._tally.labelled / labelling, 3) if labelling else 0.0,
            "memory": {"driver_peak_bytes": peak_rss(), "worker_peak_bytes": self._tally.worker_rss},
        }
        return {**part, "summary": self._summary} if self._summary else part


def _outcome(error: BaseException | None) -> tuple[State, str | None]:
    """State and error line of a run by what ended it."""
    if error is None:
        return "finished", None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted (Ctrl-C or SIGTERM)"
    if isinstance(error, Lift3DError):
        return "failed", str(error)
    return "failed", f"{type(error).__name__}: {error}"


def _unicode(text: str | None) -> str | None:
    """File names that are not Unicode reach quarantine too: their odd bytes are written as escapes."""
    return text and text.encode("utf-8", "backslashreplace").decode()
