"""A store's status on a terminal: once, or again and again until no run is alive."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from pipeline.progress import clock
from pipeline.telemetry.status import OperatorStatus, RunStatus, StoreStatus, read_status
from schemas.text import printable

ENDED = 3
"""Runs that ended, of which a line is shown."""
EVERY_S = 5.0
"""Between two looks."""
SHARE = 5.0
"""A look that takes long is followed by so many times as long a pause: large stores are not read all the time."""


def show_status(uri: str, *, as_json: bool, watch: bool, write: Callable[[str], object]) -> None:
    """Write a store's status, as text or JSON lines; with `watch` until no run is alive. Raises `StoreError`."""
    while True:
        began = time.monotonic()
        status = read_status(uri)
        write(json.dumps(status.to_json()) if as_json else status_text(status))
        if not (watch and status.live):
            return
        time.sleep(max(EVERY_S, SHARE * (time.monotonic() - began)))


def status_text(status: StoreStatus) -> str:
    """What a user wants to know first: labels by operator, then what is under way, then the latest runs."""
    ended = [run for run in status.runs if run.state not in ("live", "stale")][:ENDED]
    current = [run for run in status.runs if run.state in ("live", "stale")]
    lines = [status.store]
    lines += [_operator(one) for one in status.operators] or ["no labels yet"]
    for run in [*current, *ended]:
        lines += _run(run)
    return "\n".join(map(printable, lines))


def _operator(one: OperatorStatus) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in one.quarantined.items())
    aside = f", {sum(one.quarantined.values())} quarantined ({reasons})" if reasons else ""
    of_plan = f" of {one.frames_planned} ({one.share:.0%})" if one.share is not None else ""
    return f"{one.operator}: {one.frames_labelled}{of_plan} frames in {one.scenes} scenes labelled{aside}"


def _run(run: RunStatus) -> Iterator[str]:
    name = f"  run {run.run_id} by {run.operator}: {run.state}"
    aside = f", {run.quarantined} quarantined" if run.quarantined else ""
    done = f"{run.labelled + run.quarantined}/{run.total} frames{aside}"
    if run.state not in ("live", "stale"):
        yield f"{name}, {done}" + (f": {run.error}" if run.error else "")
        return
    heard = f"last sign of life {clock(run.silent_s)} ago" if run.silent_s is not None else "no sign of life"
    left = f", {clock(run.left_s)} left" if run.left_s is not None else ""
    going = "planning" if run.phase == "planning" else f"{done}, {run.frames_per_s:.2f}/s{left}"
    yield f"{name}, {going} ({run.host}:{run.pid}, {heard})"
    if run.state == "stale":
        yield "    it died without a word: run the same command again to go on"
    yield from (f"    {one}" for one in run.doing)
