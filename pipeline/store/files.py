"""The few file operations that a store needs, on a local disk and on object stores, with errors people can act on.

A file appears whole or not at all: locally by a temporary name, fsync and rename, on object stores by one PUT.
Paths are relative to the store's root. Every failure is a `StoreError`.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.assets import filesystem, storage_errors
from schemas.errors import StoreError

_DAY_S = 86400.0
_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)@(?P<host>[^@/]*)\.tmp")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class Files(Protocol):
    """A folder of files on some storage."""

    root: str

    def put(self, path: str, data: bytes, timeout_s: float | None = None) -> None:
        """Create or replace a file, whole, with the folders above it."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Create a file, whole, unless there is one: of several at once, one succeeds. Whether this one did."""
        ...

    def get(self, path: str, timeout_s: float | None = None) -> bytes | None:
        """A file's content, None where there is no such file."""
        ...

    def get_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Content of many files at once; the ones that vanished meanwhile are left out."""
        ...

    def list(self, folder: str) -> dict[str, int]:
        """Every file under a folder with its size in bytes, sorted by path; empty where there is no such folder."""
        ...

    def move(self, source: str, target: str) -> None:
        """Rename a file, replacing `target`; nothing happens where there is no `source`."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""
        ...

    def stale(self) -> Sequence[str]:
        """Temporary files of processes that are gone."""
        ...

    def sweep(self) -> int:
        """Remove `stale` files; the number of files removed."""
        ...

    def times(self, folder: str) -> dict[str, float]:
        """When each file under a folder came to its place (seconds since 1970), as far as the storage tells."""
        ...


def open_files(uri: str) -> Files:
    """Files under a local path or an fsspec URI. Opens no connection. Raises `ConfigError` for an unknown protocol."""
    system, path = filesystem(uri)
    return LocalFiles(path) if isinstance(system, LocalFileSystem) else RemoteFiles(system, path)


class LocalFiles:
    """Files on a disk of this machine (or one that is mounted here)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._suffix = f"{os.getpid()}@{socket.gethostname()}.tmp"

    def put(self, path: str, data: bytes, timeout_s: float | None = None) -> None:
        """Temporary name in the same folder, fsync, rename."""
        target = self._writable(path)
        temporary = target.with_name(f".{target.name}.{self._suffix}")
        with _explained("write", str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_through(temporary, data)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)

    def create(self, path: str, data: bytes) -> bool:
        """Temporary name, then a hard link, which fails where the name is taken."""
        target = self._at(path)
        temporary = target.with_name(f".{target.name}.{self._suffix}")
        with _explained("write", str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_through(temporary, data)
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def get(self, path: str, timeout_s: float | None = None) -> bytes | None:
        """The whole file."""
        with _explained("read", str(self._at(path))), suppress(FileNotFoundError):
            return self._at(path).read_bytes()
        return None

    def get_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """One after the other."""
        found = {path: self.get(path) for path in paths}
        return {path: data for path, data in found.items() if data is not None}

    def list(self, folder: str) -> dict[str, int]:
        """Links to folders are listed, not followed."""
        with _explained("list", str(self._at(folder))):
            return dict(sorted(self._walk(folder)))

    def _walk(self, folder: str) -> Iterator[tuple[str, int]]:
        for parent, folders, names in os.walk(self._at(folder), onerror=_raise_unless_missing):
            links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
            for name in (*names, *links):
                path = Path(parent, name)
                with suppress(FileNotFoundError):
                    size = path.stat().st_size if path.exists() else 0
                    yield path.relative_to(self.root).as_posix(), size

    def move(self, source: str, target: str) -> None:
        """An atomic rename."""
        start, end = self._writable(source), self._writable(target)
        with _explained("move", f"{start} to {end}"), suppress(FileNotFoundError):
            end.parent.mkdir(parents=True, exist_ok=True)
            os.replace(start, end)

    def delete(self, path: str) -> None:
        """Unlink."""
        place = self._writable(path)
        with _explained("delete", str(place)):
            place.unlink(missing_ok=True)

    def stale(self) -> Sequence[str]:
        """Of processes of this machine that ended, or a day old where another machine shares the folder."""
        return [path for path in self.list("") if self._is_stale(path)]

    def sweep(self) -> int:
        """One after the other."""
        stale = self.stale()
        for path in stale:
            self.delete(path)
        return len(stale)

    def times(self, folder: str) -> dict[str, float]:
        """Written or renamed, whatever came later."""
        found = {}
        for path in self.list(folder):
            with _explained("read", str(self._at(path))), suppress(FileNotFoundError):
                status = self._at(path).lstat()
                found[path] = max(status.st_mtime, status.st_ctime)
        return found

    def _is_stale(self, path: str) -> bool:
        match = _TEMPORARY.fullmatch(path.rpartition("/")[2])
        if match is None:
            return False
        if match["host"] == socket.gethostname():
            return not is_running(int(match["pid"]))
        with suppress(FileNotFoundError):
            return time.time() - self._at(path).lstat().st_mtime > _DAY_S
        return False

    def _at(self, path: str) -> Path:
        return Path(self.root, _checked(path))

    def _writable(self, path: str) -> Path:
        """Where a file is that may be changed. Raises `StoreError` where links lead out of the store."""
        place = self._at(path)
        folder, root = os.path.realpath(place.parent), os.path.realpath(self.root)
        if not Path(folder).is_relative_to(root):
            raise StoreError(
                f"{place} leads out of the store {self.root}, to {folder}",
                remedy="replace the link by a folder, or make the whole store a link",
            )
        return place


class RemoteFiles:
    """Files on an object store (or any other fsspec file system whose `pipe_file` is atomic)."""

    def __init__(self, system: AbstractFileSystem, root: str) -> None:
        self.root = root.rstrip("/")
        self.system = system

    def put(self, path: str, data: bytes, timeout_s: float | None = None) -> None:
        """One PUT."""
        with _explained("write", self._at(path)):
            self.system.pipe_file(self._at(path), data, **self._limit(timeout_s))

    def create(self, path: str, data: bytes) -> bool:
        """One conditional PUT, and a GET before and after it for servers that do not heed conditions."""
        if self.get(path) is not None:
            return False
        with _explained("write", self._at(path)):
            try:
                self.system.pipe_file(self._at(path), data, mode="create")
            except FileExistsError:
                return False
            except storage_errors():
                if self.get(path) is None:
                    self.system.pipe_file(self._at(path), data)
        return self.get(path) == data

    def get(self, path: str, timeout_s: float | None = None) -> bytes | None:
        """One GET."""
        with _explained("read", self._at(path)), suppress(FileNotFoundError):
            return self.system.cat_file(self._at(path), **self._limit(timeout_s))
        return None

    def get_many(self, paths: Sequence[str]) -> dict[str, bytes]:
        """All at once, where the client can."""
        if not paths:
            return {}
        places = {self._at(path): path for path in paths}
        with _explained("read", self.root):
            found: dict[str, Any] = self.system.cat(list(places), on_error="return")
        vanished = {place for place, data in found.items() if isinstance(data, FileNotFoundError)}
        for place, data in found.items():
            if isinstance(data, Exception) and place not in vanished:
                with _explained("read", place):
                    raise data
        return {places[place]: data for place, data in found.items() if place not in vanished}

    def list(self, folder: str) -> dict[str, int]:
        """Without the client's cache, which other machines do not update."""
        with _explained("list", self._at(folder)), suppress(FileNotFoundError):
            self.system.invalidate_cache()
            found = self.system.find(self._at(folder), detail=True)
            start = len(self._at(""))
            return {place[start:]: int(info["size"] or 0) for place, info in sorted(found.items())}
        return {}

    def move(self, source: str, target: str) -> None:
        """A copy, then a delete: for a moment both exist."""
        with _explained("move", f"{self._at(source)} to {self._at(target)}"), suppress(FileNotFoundError):
            self.system.cp_file(self._at(source), self._at(target))
            self.system.rm_file(self._at(source))

    def delete(self, path: str) -> None:
        """One DELETE."""
        with _explained("delete", self._at(path)), suppress(FileNotFoundError):
            self.system.rm_file(self._at(path))

    def stale(self) -> Sequence[str]:
        """None: an object store has no half files."""
        return []

    def sweep(self) -> int:
        """Nothing to do."""
        return 0

    def times(self, folder: str) -> dict[str, float]:
        """From the listing; now, where it has no times."""
        with _explained("list", self._at(folder)), suppress(FileNotFoundError):
            self.system.invalidate_cache()
            found = self.system.find(self._at(folder), detail=True)
            start = len(self._at(""))
            return {place[start:]: _modified(info) for place, info in sorted(found.items())}
        return {}

    def _limit(self, timeout_s: float | None) -> dict[str, float]:
        """fsspec's asynchronous file systems (S3, GCS, Azure, HTTP) take a time limit with every call."""
        return {"timeout": timeout_s} if timeout_s and self.system.async_impl else {}

    def _at(self, path: str) -> str:
        return f"{self.root}/{_checked(path)}"


def _checked(path: str) -> str:
    """The path, which stays below the root. Raises `StoreError`."""
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise StoreError(f"{path!r} is no path inside a store", remedy="name a scene, an operator or a run")
    return path


def _modified(info: Mapping[str, Any]) -> float:
    """The time in an fsspec listing's entry, under the name that its client gives it."""
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def is_running(pid: int) -> bool:
    """Whether this machine has such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextmanager
def _explained(action: str, place: str) -> Iterator[None]:
    """Turn a storage error into a `StoreError` that says what failed, where, and what to do."""
    try:
        yield
    except storage_errors() as error:
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            detail = "no answer in time"
        raise StoreError(f"cannot {action} {place}: {detail}", remedy=_remedy(error)) from error


def _remedy(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code in _FULL:
        return "free some space (or raise the quota) and run again; what is committed is kept"
    if code in _FORBIDDEN or isinstance(error, PermissionError):
        return "choose a --store that you may write to, or ask for access"
    if "redentials" in type(error).__name__:
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    return "check the address and the connection, then run again; what is committed is kept"
