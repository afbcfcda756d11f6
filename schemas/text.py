"""Text that others will see: one printable line of moderate length, without credentials. The one place that masks them.

Errors, log lines, run documents, store rows and printed results all pass through here. What counts as a credential:
a password in an address (`s3://key:secret@bucket`), signatures and tokens in its query, values under telling names in
a config, and whatever the environment holds under such names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MASK = "***"
LONGEST = 1_500
"""Characters of a message; the middle of longer ones is left out."""

_NAMES = (
    r"[\w.-]*(?:secret|token|passw(?:or)?d|passwd|credential|signature|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|authorization|account[_-]?key)[\w.-]*"
)
_USER = re.compile(
    r"(?P<start>[A-Za-z][A-Za-z0-9+.-]*:/{2,})(?!arn:)"
    r"(?:[^\s/?#@:'\"]*:(?!\d+/|:)[^\s@'\"]*(?:@[^\s/?#@'\"]*)*|(?<=http://)[^\s/?#@'\"]+|(?<=https://)[^\s/?#@'\"]+)@"
)
"""user:password, whatever the password holds; a lone user only of HTTP, where it may be a token. No port."""
_QUERY = re.compile(rf"(?P<start>[?&;](?:{_NAMES}|sig|sas|key|auth|code)=)[^\s&;#'\"<>)]+", re.IGNORECASE)
_TELLING = re.compile(_NAMES, re.IGNORECASE)
_PLACE = re.compile(r".*(?:_FILE|_PATH|_DIR|_URI|_URL)", re.IGNORECASE)
"""Names of variables that say where a secret is, not what it is."""
_SHORTEST = 8
"""Values in the environment that are shorter are words rather than secrets."""


def masked(text: str) -> str:
    """The text with credentials replaced by `***`; masking twice changes nothing."""
    if "@" in text:
        text = _USER.sub(rf"\g<start>{MASK}@", text)
    if "=" in text:
        text = _QUERY.sub(rf"\g<start>{MASK}", text)
    for value in _secrets_of_environment():
        if value in text:
            text = text.replace(value, MASK)
    return text


def presentable(text: str) -> str:
    """One printable line, masked, of at most about `LONGEST` characters: what names and values in it cannot break."""
    line = printable(masked(text))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    return line


def printable(text: str) -> str:
    """One line of any length: what is not printable is written as an escape, and is no command to a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)


def masked_document(value: Any, name: str = "") -> Any:
    """JSON data with every text masked, and every value under a telling name (`token`, `secret_key`) replaced."""
    if isinstance(value, Mapping):
        return {masked(str(key)): masked_document(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_document(item, name) for item in value]
    if isinstance(value, str):
        return MASK if value and _TELLING.fullmatch(name) else masked(value)
    return value


def _secrets_of_environment() -> list[str]:
    """Longest first, so that one that holds another is replaced whole."""
    found = {value for name in _telling(tuple(os.environ)) if len(value := os.environ.get(name, "")) >= _SHORTEST}
    return sorted(found, key=len, reverse=True)


@lru_cache(maxsize=4)
def _telling(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if _TELLING.fullmatch(name) and not _PLACE.fullmatch(name))
