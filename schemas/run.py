"""Run documents as readers may rely on them: the parts that are used have their types, everything else is free."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Seconds = Annotated[float, Field(ge=0, le=32_503_680_000, allow_inf_nan=False)]
"""A time that somebody else wrote down: since 1970, before the year 3000; or how long something took or takes."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of frames, or a process."""


class _Part(BaseModel):
    """A part of a document: other keys may be there; whole numbers are no texts, and texts no numbers."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Totals(_Part):
    frames: Count | None = None
    to_do: Count = 0
    set_aside: Count = 0


class _Counts(_Part):
    frames_labelled: Count = 0
    quarantined: Count | dict[str, Count] = 0


class _Summary(_Part):
    run_id: str | None = None
    frames_labelled: Count = 0
    frames_quarantined: Count = 0


class _Operator(_Part):
    spec: str | list[str] | None = None


class _Config(_Part):
    source: str | None = None
    store: str | None = None
    operator: _Operator = _Operator()


class _Run(_Part):
    run_id: str | None = None
    state: str | None = None
    error: str | None = None
    operator: str | None = None
    started: str | None = None
    ended: str | None = None
    host: str | None = None
    pid: Count | None = None
    frames_per_s: float = 0.0
    config: _Config | None = None
    engine: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None
    totals: _Totals | None = None
    operators: dict[str, _Totals] | None = None
    counts: _Counts | None = None
    summary: _Summary | None = None


def parse_run(data: bytes) -> dict[str, Any]:
    """A run document. Raises `ValueError`, which says what is wrong, where it is not one that can be understood."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")
    try:
        _Run.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"cannot be understood: {place}: {first['msg']}") from error
    return document
