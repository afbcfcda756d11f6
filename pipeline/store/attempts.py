"""What is being tried: a note before every risky step, removed after it, so that a sudden death says what it was at.

A process that is killed, crashes in native code or runs out of memory raises nothing. Its notes stay behind, open, and
whoever does the work next counts them. `frame by frame` work writes a note a step, so the frame that ends its worker
is found; it is set aside once `allowed` tries ended that way, and its note stays to say so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.store.files import Files
from pipeline.store.paths import ATTEMPTS, Shelf, parse
from schemas.errors import Reason, StoreError
from schemas.scene import Chunk

CHUNK = "chunk"
"""Stage of the one note of a chunk that is worked on as a whole."""
HOPELESS = 4
"""So many views that end their worker, with none that does not: the operator is broken, not the views."""

OVERDUE_S = 0.2
"""After its limit, a step is written down as overdue."""


class Note(BaseModel):
    """A step that was begun."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    stage: str
    """`chunk`, or of frame by frame work `decode`, `encode`, `geometry` or `lift`."""
    frames: tuple[str, ...]
    """Whose step it is."""
    ended: int = 0
    """Tries in which the worker came to its end."""
    open: bool = False
    """A try is under way, or its worker is gone and nobody has counted it yet."""
    reason: Reason = Reason.WORKER_DIED
    """How the last try ended: `timeout` is written before the worker is ended for it."""
    since: float = 0.0
    """When the last try began (seconds since 1970)."""
    limit_s: float | None = None
    """How long it might take."""
    sound: bool = False
    """Of a chunk: some view of it came through."""
    mark: str = ""
    """Digest of what the outcome depends on: a frame that changed deserves new tries."""
    engine: str = "ray"
    """A local engine's driver dies with the work; a Ray worker dies alone, and its driver has it done again."""

    def counted(self) -> Note:
        """The note once somebody saw that the worker is gone."""
        return self.model_copy(update={"open": False, "ended": self.ended + 1})


@dataclass(frozen=True)
class Attempts:
    """The notes of one operator. Every method raises `StoreError`.

    Attributes:
        files, slug: where.
        allowed: tries of a step before its frame is set aside.
        engine: of this run.
    """

    files: Files
    slug: str
    allowed: int
    engine: str = "ray"

    def settle(self) -> int:
        """Before a run: count what earlier runs left open; the number of notes. Nobody else may be at work.

        What was open when a Ray run's driver went away is not held against a frame: its workers went with it.
        """
        notes = self._read(f"{ATTEMPTS}/operator={self.slug}")
        left = {path: note for path, note in notes.items() if note.open}
        for path, note in left.items():
            settled = note.counted() if note.engine == "local" else note.model_copy(update={"open": False})
            self._keep(path, settled) if settled.ended else self.files.delete(path)
        return len(left)

    def hopeless(self) -> dict[str, dict[str, Note]]:
        """By scene and frame: the notes of frames that ended their worker too often."""
        found: dict[str, dict[str, Note]] = {}
        for path, note in self._read(f"{ATTEMPTS}/operator={self.slug}").items():
            if self._is_hopeless(note) and (place := parse(path)):
                found.setdefault(place[1].scene, {})[note.frames[0]] = note
        return found

    def forgive(self, frames: Mapping[str, set[str]]) -> None:
        """Forget all about these frames (by scene), so that they are tried again."""
        for path, note in self._read(f"{ATTEMPTS}/operator={self.slug}").items():
            place = parse(path)
            if place and frames.get(place[1].scene, set()) & set(note.frames):
                self.files.delete(path)

    def clear(self, scene: str) -> None:
        """A scene is finished: only what says of a frame that it is hopeless stays."""
        for path, note in self._read(Shelf(self.slug, scene).folder(ATTEMPTS)).items():
            if not self._is_hopeless(note):
                self.files.delete(path)

    def begin(self, chunk: Chunk, marks: Mapping[str, str]) -> ChunkTries:
        """Note that a chunk is worked on.

        Args:
            chunk: which one.
            marks: frame id -> digest of what a try of that view depends on.
        """
        notes = self._read(Shelf(self.slug, chunk.scene).folder(ATTEMPTS))
        tries = ChunkTries(self, chunk, marks)
        own = {path: note.counted() for path, note in notes.items() if note.open and path.startswith(tries.prefix)}
        for path, note in own.items():
            self._keep(path, note)
        tries.begin({**notes, **own})
        return tries

    def _is_hopeless(self, note: Note) -> bool:
        return note.ended >= self.allowed and note.stage != CHUNK and len(note.frames) == 1 and not note.open

    def _read(self, folder: str) -> dict[str, Note]:
        """Notes by path; what cannot be understood counts as none."""
        notes = {}
        paths = [path for path in self.files.list(folder) if path.endswith(".json")]
        for path, data in self.files.get_many(paths).items():
            with suppress(ValidationError):
                notes[path] = Note.model_validate_json(data)
        return notes

    def _keep(self, path: str, note: Note) -> None:
        self.files.put(path, note.model_dump_json(indent=1).encode())


@dataclass
class ChunkTries:
    """The notes of a chunk while it is worked on.

    Attributes:
        careful: an earlier try ended its worker, so steps are to be taken one by one, each with a note.
        hopeless: notes of the chunk's views that are not to be touched.
    """

    attempts: Attempts
    chunk: Chunk
    marks: Mapping[str, str]
    careful: bool = False
    hopeless: dict[str, Note] = field(default_factory=dict)
    _own: Note = field(default_factory=lambda: Note(stage=CHUNK, frames=()))
    _ended: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """Start of the paths of this chunk's notes."""
        return f"{Shelf(self.attempts.slug, self.chunk.scene).folder(ATTEMPTS)}/{quote(self.chunk.name, safe='')}-"

    @property
    def broken(self) -> bool:
        """Whether the operator seems to end its worker whatever it is given."""
        return self.careful and not self._own.sound and len(self.hopeless) >= HOPELESS

    def begin(self, notes: Mapping[str, Note]) -> None:
        """Look at what is known of the scene, and write the chunk's note."""
        targets = set(self.chunk.target_ids)
        before = [note for note in notes.values() if note.stage == CHUNK and targets & set(note.frames)]
        self.careful = any(note.ended for note in before)
        for note in notes.values():
            if note.stage != CHUNK and note.mark == self._mark(note.frames):
                key = note.stage, note.frames
                self._ended[key] = max(self._ended.get(key, 0), note.ended)
                if self.attempts._is_hopeless(note) and note.frames[0] in self.marks:
                    self.hopeless[note.frames[0]] = note
        self._own = Note(
            stage=CHUNK,
            frames=self.chunk.target_ids,
            ended=max((note.ended for note in before), default=0),
            open=True,
            since=time.time(),
            sound=any(note.sound for note in before),
            engine=self.attempts.engine,
        )
        self.attempts._keep(self._path(CHUNK, self.chunk.target_ids), self._own)

    def ended(self, stage: str, frames: Sequence[str]) -> int:
        """How many tries of a step ended the worker."""
        return self._ended.get((stage, tuple(frames)), 0)

    @contextmanager
    def step(self, stage: str, *frames: str, limit_s: float | None = None) -> Iterator[None]:
        """A step of frame by frame work. Its note goes away however the block ends, unless the process ends."""
        if not self.careful:
            yield
            return
        path, key = self._path(stage, frames), (stage, frames)
        note = Note(
            stage=stage,
            frames=frames,
            ended=self._ended.get(key, 0),
            open=True,
            since=time.time(),
            limit_s=limit_s,
            mark=self._mark(frames),
            engine=self.attempts.engine,
        )
        self.attempts._keep(path, note)
        try:
            with self._overdue(path, note):
                yield
        finally:
            self.attempts.files.delete(path)
        self._ended.pop(key, None)

    @contextmanager
    def _overdue(self, path: str, note: Note) -> Iterator[None]:
        """Write down that a step takes too long, in time before the worker is ended for it (`pipeline.watchdog`)."""
        ended, lock = threading.Event(), threading.Lock()

        def wait() -> None:
            if not ended.wait(note.limit_s and note.limit_s + OVERDUE_S):
                with lock, suppress(StoreError):
                    if not ended.is_set():
                        self.attempts._keep(path, note.model_copy(update={"reason": Reason.TIMEOUT}))

        threading.Thread(target=wait, name="lift3d-overdue", daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            with lock:  # a note that is being written is written before it is removed
                pass

    def came_through(self) -> None:
        """Some view ended well: the operator as such works."""
        if self.careful and not self._own.sound:
            self._own = self._own.model_copy(update={"sound": True})
            self.attempts._keep(self._path(CHUNK, self.chunk.target_ids), self._own)

    def end(self) -> None:
        """The chunk is done, or the worker ends in good order: nothing is under way."""
        self.attempts.files.delete(self._path(CHUNK, self.chunk.target_ids))

    def _mark(self, frames: Sequence[str]) -> str:
        return self.marks.get(frames[0], "") if len(frames) == 1 else ""

    def _path(self, stage: str, frames: Sequence[str]) -> str:
        digest = sha256("\n".join([stage, *frames]).encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return f"{self.prefix}{digest}.json"
