"""What the operators of one pass have in common: decoded views, their geometry, and who speaks for which pixel.

None of it depends on an operator. Operators label a chunk one after the other, each with a commit of its own; what the
first one worked out of a view is there for the others until the worker turns to other views.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

from pipeline.loading import LoadedView, load_view
from schemas.config import LiftConfig
from schemas.scene import Frame

if TYPE_CHECKING:
    from lift3d_model.density import Sweep

LIMITS = {"confirmed": 2**27, "gathered": 7 * 2**27, "compared": 2**28}
"""Bytes of depths, of evidence and of pixels' likeness that are held at most.

What comes first stays: views are gone over in the same order each time.
"""
MOST_BYTES = sum(LIMITS.values())

T = TypeVar("T")


class SharedViews:
    """What was worked out of one scene's views, whoever asked first. Views may be read from several threads.

    Args:
        limits: bytes that are held at most of what `once` makes, by what it is.

    Attributes:
        sweeps: by digest of all that they depend on, views that were swept.
    """

    def __init__(self, limits: Mapping[str, int] = LIMITS) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._held = False
        self._clear()

    @contextmanager
    def held(self, *, held: bool = True) -> Iterator[None]:
        """Hold what is worked out in a `with` block until it ends. Outside of one, nothing is held."""
        self._held = held
        try:
            yield
        finally:
            self._held = False
            self._clear()

    def _clear(self) -> None:
        self._left = dict(self._limits)
        self._views: dict[str, LoadedView] = {}
        self._made: dict[Hashable, object] = {}
        self.sweeps: dict[str, Sweep] = {}

    def load(self, frame: Frame, lift: LiftConfig) -> LoadedView:
        """`load_view`, done once. Raises `FrameError`, every time."""
        found = self._views.get(frame.id)
        if found is None:
            found = load_view(frame, lift)
            self.count("decoded")
            if self._held:
                self._views[frame.id] = found
        return found

    def keep_sweep(self, key: str, sweep: Sweep) -> None:
        """Hold a view's sweep."""
        if self._held:
            self.sweeps[key] = sweep

    def once(self, what: str, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What `make` makes, made once for a key while there is room.

        Args:
            what: one of the limits; it is counted when it is made.
            key: everything that it depends on, of one scene and run.
            size: bytes that it takes.
        """
        if (what, key) in self._made:
            return cast(T, self._made[what, key])
        made = make()
        self.count(what)
        if self._held and (bytes_ := size(made)) <= self._left[what]:
            self._left[what] -= bytes_
            self._made[what, key] = made
        return made

    def count(self, what: str, number: int = 1) -> None:
        """Count views that something was worked out of."""
        with self._lock:
            self._counts[what] += number

    def counts(self) -> dict[str, int]:
        """What was worked out since this was last asked."""
        with self._lock:
            counted, self._counts = self._counts, Counter()
        return {what: number for what, number in sorted(counted.items()) if number}
