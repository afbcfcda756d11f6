"""What the commands print: JSON lines, log lines and tracebacks, all without credentials."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from types import TracebackType
from typing import Any


def set_up_output(*, debug: bool) -> None:
    """Log lines (of other packages: warnings only) and what Python prints of exceptions go to stderr, masked."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MaskingFormatter())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.WARNING)
    for ours in ("lift3d", "pipeline"):
        logging.getLogger(ours).setLevel(logging.DEBUG if debug else logging.INFO)
    sys.excepthook = _masked_traceback


def print_json(document: Any) -> None:
    """One line on stdout."""
    from schemas.text import masked_document

    print(json.dumps(masked_document(document)), flush=True)


class _MaskingFormatter(logging.Formatter):
    """Log lines, with their tracebacks, without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        from schemas.text import masked

        return masked(super().format(record))


def _masked_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python prints of an exception that nobody caught."""
    from schemas.text import masked

    print(masked("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")
