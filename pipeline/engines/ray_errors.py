"""What Ray's errors say, in a line: its own texts bury an exception of a worker under three stack traces."""

from __future__ import annotations

import re
from itertools import dropwhile

ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""Colours that Ray writes into its messages."""
CHAINED = "The above exception was the direct cause of the following exception:"
FRAME = '  File "'
"""Start of a line of a stack trace; the exception is the first line behind the last of them that is not indented."""


def gist(error: Exception) -> str:
    """The first and the last line of what Ray says of an actor: what happened, and the exception behind it."""
    lines = _lines(error) or [type(error).__name__]
    return " ... ".join(dict.fromkeys([lines[0].strip(), lines[-1].strip()]))


def gist_of_task(error: Exception) -> str:
    """The exception that a worker raised, without the one that Ray Data wraps it in."""
    parts = "\n".join(_lines(error)).split(CHAINED)
    lines = parts[-2 if len(parts) > 1 else -1].strip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith(FRAME)]
    if not frames:
        return gist(error)
    raised = dropwhile(lambda line: line.startswith(" "), lines[frames[-1] :])
    return " ".join(line.strip() for line in raised)


def _lines(error: Exception) -> list[str]:
    return [line for line in ANSI.sub("", str(error)).splitlines() if line.strip()]
