"""What commands that change a store have in common: all its operators at hand, no run at work, the store in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from pipeline.store.files import Files, open_files
from pipeline.store.paths import IDENTITY, LABELS, slug_in
from pipeline.store.query import slugs_of
from pipeline.store.store import RunStamp, Store
from schemas.errors import StoreError


def open_store(uri: str) -> Files:
    """The files of a store that exists. Raises `StoreError`."""
    files = open_files(uri)
    if files.get(IDENTITY) is None and not files.list(LABELS):
        raise StoreError(f"there is no label store at {uri}", remedy="write one with `lift3d label SOURCE --store URI`")
    Store(uri).check_version()
    return files


def operators_in(files: Files, operator: str | None = None) -> list[str]:
    """Slugs of all operators that have any file in the store, or the one that `operator` (slug or SPEC) names.

    Raises `StoreError` where the store has nothing of that operator.
    """
    slugs = {slug for path in files.list("") if (slug := slug_in(path))}
    wanted = slugs_of(operator)
    chosen = sorted(slugs if wanted is None else slugs & wanted)
    if operator and not chosen:
        known = ", ".join(sorted(slugs)) or "none"
        raise StoreError(f"{files.root} holds nothing of operator {operator!r}", remedy=f"operators in it: {known}")
    return chosen


@contextmanager
def exclusive(uri: str, slugs: Collection[str], what: str) -> Iterator[None]:
    """Hold the leases of these operators for the time of a `with` block, and put their labels in order first.

    Raises `LeaseError`, which names the run that is at work, and `StoreError`.
    """
    store, name = Store(uri), f"{what}-{RunStamp.now().run_id}"
    with ExitStack() as leases:
        for slug in sorted(slugs):
            leases.enter_context(store.lease(slug, name))
        for slug in slugs:
            store.recover(slug)
        yield
