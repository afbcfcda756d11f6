"""Bundles as they travel to Ray's workers: addresses and cameras, each view written down once a bundle."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace

from pipeline.bundles import Bundle, Unit
from schemas.scene import Frame, chunk_from_json, chunk_to_json, frame_from_json, frame_to_json


def packed(bundles: Sequence[Bundle]) -> list[bytes]:
    """Bundles as payloads of rows. A view is written down once, however many chunks look at it."""
    texts: dict[int, str] = {}
    return [_pack(bundle, texts) for bundle in bundles]


def _pack(bundle: Bundle, texts: dict[int, str]) -> bytes:
    """A line for the units, their views by the numbers of the lines that follow: one a view."""
    frames = {id(frame): frame for unit in bundle for frame in unit.chunk.frames}
    place = {key: line for line, key in enumerate(frames)}
    units = [
        [
            unit.operator,
            [place[id(frame)] for frame in unit.chunk.frames],
            chunk_to_json(replace(unit.chunk, frames=())),
        ]
        for unit in bundle
    ]
    texts.update({key: json.dumps(frame_to_json(frame)) for key, frame in frames.items() if key not in texts})
    return zlib.compress("\n".join([json.dumps(units), *(texts[key] for key in frames)]).encode(), level=1)


class Unpacker:
    """Inverse of `packed`, bundle by bundle. What is left of a view from the bundle before is not read again."""

    def __init__(self) -> None:
        self._frames: dict[str, Frame] = {}

    def __call__(self, payload: bytes) -> Bundle:
        """A row's bundle."""
        head, *lines = zlib.decompress(payload).decode().split("\n")
        self._frames = {line: self._frames.get(line) or frame_from_json(json.loads(line)) for line in lines}
        frames = [self._frames[line] for line in lines]
        return tuple(
            Unit(operator, replace(chunk_from_json(chunk), frames=tuple(frames[line] for line in views)))
            for operator, views, chunk in json.loads(head)
        )
