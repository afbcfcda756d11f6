"""`runs/<run_id>.json`: what a run is, was asked to do and came to. Written when it starts, again when it ends."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pipeline import __version__

if TYPE_CHECKING:
    from pipeline.plan import ScenePlan
    from pipeline.store.files import Files
    from pipeline.survey import Survey

RECENT = 20
"""Documents of so many latest runs are read: old ones say nothing about now."""
PACKAGES = ("numpy", "pyarrow", "ray", "torch")
_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the entrypoint of a submitted job (that is the variable's whole name)."""


def read_documents(files: Files, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    """Documents of the latest runs and of the wanted ones, oldest first. What cannot be understood is left out."""
    from pipeline.store.paths import RUNS
    from schemas.run import parse_run

    paths = [path for path in files.list(RUNS) if path.endswith(".json") and not path.startswith(f"{RUNS}/.")]
    names = {path.rpartition("/")[2].removesuffix(".json"): path for path in paths}
    chosen = sorted({*sorted(names)[-RECENT:], *(names.keys() & set(wanted))})
    found = files.get_many([names[name] for name in chosen])
    documents = {}
    for name in chosen:
        with suppress(ValueError):
            documents[name] = parse_run(found.get(names[name], b""))
    return documents


def versions() -> dict[str, str]:
    """Of this project, Python and what computes."""
    return {"lift3d": __version__, "python": platform.python_version(), **dict(_packages())}


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def plan_rows(operator: str, plans: Sequence[ScenePlan]) -> list[dict[str, Any]]:
    """What is to be done for an operator, scene by scene."""
    return [
        {
            "operator": operator,
            "scene": p.scene,
            "frames": p.frames,
            "to_do": p.targets,
            "chunks": len(p.chunks),
            "issues": len(p.issues),
        }
        for p in plans
    ]


def plan_totals(plan: Survey) -> dict[str, int]:
    """What is to be done for an operator, in all."""
    frames = sum(p.frames for p in plan.plans)
    return {"frames": frames, "resumed": plan.resumed, "to_do": plan.targets, "set_aside": plan.set_aside_frames}


def is_submitted() -> bool:
    """Whether this process is the entrypoint of a job that was submitted to a Ray cluster."""
    return _RAY_JOB in os.environ


def ray_job() -> dict[str, str] | None:
    """The Ray job that this process drives (`job_id`) or was submitted as (`submission_id`); None without either."""
    found = {}
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        found["job_id"] = str(ray.get_runtime_context().get_job_id())
    try:
        submitted = json.loads(os.environ.get(_RAY_JOB, "{}"))["metadata"]["job_submission_id"]
    except (ValueError, KeyError, TypeError):
        return found or None
    return {**found, "submission_id": str(submitted)}
