"""What an operator that is made of others asks of them, and what it tells of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pipeline.protocols import Operator
from schemas.errors import ConfigError


def check_members(name: str, members: Sequence[Any]) -> None:
    """Raise `ConfigError` unless every one of `members` is an operator."""
    for member in members:
        if not isinstance(member, Operator):
            raise ConfigError(
                f"{name}: expected an operator in brackets, found {member!r:.80}",
                remedy=f"for example {name}(indoor); docs/operators.md has the grammar",
            )


def check_seen(name: str, member: Operator, why: str) -> None:
    """Raise `ConfigError` for an operator that does not predict from the pixels that it is shown."""
    if getattr(member, "reads_files", False):
        raise ConfigError(
            f"{name}: {member.name!r} reads its predictions from files, {why}", remedy="name an operator that predicts"
        )


def reads_files(members: Sequence[Operator]) -> bool:
    """Whether any member's predictions come from files, whatever pixels it is shown."""
    return any(getattr(member, "reads_files", False) for member in members)


def fingerprint(name: str, version: int, members: Sequence[Operator], **settings: Any) -> str:
    """Of an operator that is made of others: its own settings and its members' fingerprints, in their order."""
    told = [name, version, [member.fingerprint() for member in members], settings]
    return f"{name}:{hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()}"
